"""A benchmark as files in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.benchmark import document, page, render
from harness.files import write_text

RENDERED = {"bench.json": document.dumps, "bench.md": render.markdown, "bench.html": page.render}
"""File name -> its text, from the document."""


def write(folder: Path, told: dict[str, Any]) -> list[Path]:
    """Write the document in every form; the paths, in the order in which they were written.

    Raises:
        FileError: a file cannot be written.
    """
    paths = [folder / name for name in RENDERED]
    for path in paths:
        write_text(path, RENDERED[path.name](told))
    return paths
