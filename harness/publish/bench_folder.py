"""A benchmark as files in a folder."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lockstep.harness.benchmark import (
    document,
)
from lockstep.harness.documents.files import write_text
from lockstep.harness.publish.folder import (
    INSTALL,
)
from lockstep.harness.report import (
    bench_markdown as markdown,
)

NEEDED = ("jinja2", "markupsafe")
"""Modules that only the page needs; its plots need matplotlib, too."""

PAGE = "bench.html"


def write(folder: Path, benchmark: dict[str, Any]) -> list[Path]:
    """Write the document in every form; the paths, in the order in which they were written.

    Where what the page needs is not installed no page is written, and one of an earlier benchmark is removed.

    Raises:
        FileError: a file cannot be written.
    """
    forms = {"bench.json": document.dumps, "bench.md": markdown.render}
    if missing():
        (folder / PAGE).unlink(missing_ok=True)
    else:
        from lockstep.harness.report.html import bench

        forms[PAGE] = bench.render
    for name, render in forms.items():
        write_text(folder / name, render(benchmark))
    return [folder / name for name in forms]


def sentence(written: list[Path]) -> str:
    """A sentence about the files written and the modules missing."""
    benchmark = f"report: {', '.join(map(str, written))}"
    return f"no {PAGE}: it needs {', '.join(missing())}; {INSTALL}\n{benchmark}" if missing() else benchmark


def missing() -> list[str]:
    """Modules that the page needs and that are not installed."""
    return [name for name in NEEDED if find_spec(name) is None]
