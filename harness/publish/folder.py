"""The report as files in a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lockstep.harness.documents.files import write_text
from lockstep.harness.report import markdown
from lockstep.harness.report.document import dumps

NEEDED = ("jinja2", "markupsafe", "matplotlib")
"""Modules that only the page needs: the extra ``report``."""

INSTALL = 'pip install "lockstep-parity[report]"'

PAGE = "parity.html"

Document = Mapping[str, Any]


def write_report(folder: Path, report: Document) -> list[Path]:
    """Write the document in every form; the paths, the one to look at first.

    Where what the page needs is not installed no page is written, and one of an earlier report is removed.

    Raises:
        FileError: a file cannot be written.
    """
    paths: list[Path] = []
    for name, render in _forms():
        write_text(folder / name, render(dict(report)))
        paths.insert(0, folder / name)
    if PAGE not in (path.name for path in paths):
        (folder / PAGE).unlink(missing_ok=True)
    return paths


def sentence(written: list[Path]) -> str:
    """A sentence about the files written, the first to read, and the modules missing."""
    first, *others = written
    report = f"report: {first}; the same in {', '.join(path.name for path in others)}"
    absent = missing()
    return f"no {PAGE}: it needs {', '.join(absent)}; {INSTALL}\n{report}" if absent else report


def missing() -> list[str]:
    """Modules that the page needs and that are not installed."""
    return [name for name in NEEDED if find_spec(name) is None]


def _forms() -> Iterator[tuple[str, Callable[[dict[str, Any]], str]]]:
    """File name and what renders it, in the order in which they are written: figures first, the page last."""
    yield "parity.json", dumps
    yield "parity.md", markdown.render
    if not missing():
        from lockstep.harness.report import html

        yield PAGE, html.render
