"""Code blocks of a Markdown page, and what the page says that they print."""

import itertools
import re
import shlex
from typing import NamedTuple

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SAID = re.compile(r"^ *print\(.*\)  # (.+)$", re.MULTILINE)
FIGURE = re.compile(r"-?\d+(?:,\d{3})*(?:\.\d+)?(?:e[+-]?\d+)?%?")


OUTPUT = ("output", "measured")


class Block(NamedTuple):
    """A fenced block.

    Attributes:
        language: what stands behind the fence.
        text: what is between the fences.
        output: the lines that it is said to print: those of a block of OUTPUT right after it, else the comments
            behind its prints; empty where nothing is said.
        measured: whether their figures are the machine's, and other lines may stand between and after them.
    """

    language: str
    text: str
    output: list[str]
    measured: bool


def read(page):
    """The blocks of a page in order, without those of output."""
    blocks = []
    for match, following in itertools.pairwise([*FENCE.finditer(page), None]):
        language, text = match.groups()
        said, measured = SAID.findall(text), False
        if following and following[1] in OUTPUT and not page[match.end() : following.start()].strip():
            said, measured = following[2].splitlines(), following[1] == "measured"
        if language not in OUTPUT:
            blocks.append(Block(language, text, said, measured))
    return blocks


def of(page, language):
    """The blocks of one language."""
    return [block for block in read(page) if block.language == language]


def commands(page):
    """Every command of the console blocks, as its words, with the lines that are shown below it."""
    found = []
    for block in of(page, "console"):
        for shown in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
            command, *lines = shown.splitlines()
            found.append((shlex.split(command), [line for line in lines if line.strip() not in ("", "...")]))
    return found


def missing(shown, printed):
    """The lines shown that are not printed, in that order; figures and spacing may be others."""
    left = iter([unmeasured(line) for line in printed])
    return [line for line in shown if unmeasured(line) not in left]


def unmeasured(line):
    """A line without its figures and its spacing, which are the machine's."""
    return " ".join(FIGURE.sub("#", line).split())
