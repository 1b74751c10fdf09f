"""Takes the self-test's figures over into the package, whose reports cite them, and into the README.

``python -m lockstep.harness.selftest.figures FILE.json`` takes them over from ``lockstep selftest --json FILE.json``.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from lockstep.harness.selftest.report import Document, digest, rows

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"(<!-- selftest -->\n).*?(<!-- end -->)", re.DOTALL)
"""Where the README has its table."""


def table(score: Document) -> str:
    """The rates as Markdown."""
    lines = ["| measured | hits of trials (rate, its upper 95 % bound) |", "| --- | --- |"]
    return "\n".join([*lines, *(f"| {words} | {figure} |" for words, figure in rows(score))]) + "\n"


def in_text(readme: str, score: Document) -> str:
    """The README with this table in the place of the one it has."""
    return BLOCK.sub(lambda found: found[1] + table(score) + found[2], readme)


def main(source: str) -> None:
    """Take the figures of a self-test over into the package and the README."""
    score = digest(json.loads(Path(source).read_text(encoding="utf-8")))
    text = json.dumps(score, indent=1, ensure_ascii=False) + "\n"
    (Path(__file__).parent / "figures.json").write_text(text, encoding="utf-8")
    readme = ROOT / "README.md"
    readme.write_text(in_text(readme.read_text(encoding="utf-8"), score), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
