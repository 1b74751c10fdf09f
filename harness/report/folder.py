"""The report as files in a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.files import write_text
from harness.report import html, markdown
from harness.report.document import dumps

RENDERED = {"parity.json": dumps, "parity.md": markdown.render, "parity.html": html.render}
"""File name -> its text, from the document."""


def write_report(folder: Path, told: Mapping[str, Any]) -> list[Path]:
    """Write the document in every form; the paths, in the order in which they were written.

    Raises:
        FileError: a file cannot be written.
    """
    paths = [folder / name for name in RENDERED]
    for path in paths:
        write_text(path, RENDERED[path.name](dict(told)))
    return paths
