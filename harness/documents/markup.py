"""Markdown that GitHub and the documentation's builder read alike."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence


def table(head: Sequence[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """The lines of a table and an empty one after it; nothing where there are no rows."""
    lines = [_line(row) for row in rows]
    if lines:
        yield from (_line(head), _line(["---"] * len(head)), *lines, "")


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def code(text: str) -> str:
    """Text as code; a bar, which would end a cell in one of the two readers, by its number."""
    if "|" not in text:
        return f"`{text}`"
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "&#124;")
    return f"<code>{escaped}</code>"


def plain(text: str) -> str:
    """Text without markup of its own but for `code`, on one line."""
    parts = re.split(r"(`[^`]*`)", " ".join(text.split()))
    return "".join(code(part[1:-1]) if index % 2 else _escaped(part) for index, part in enumerate(parts))


def _escaped(text: str) -> str:
    for special, entity in (("&", "&amp;"), ("<", "&lt;"), ("|", "&#124;"), ("*", "&#42;"), ("[", "&#91;")):
        text = text.replace(special, entity)
    return text
