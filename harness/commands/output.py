"""Where a command's output goes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType


def check_target(target: str | None) -> None:
    """Refuses a file that could not be written, before anything is trained."""
    from harness.files import writable_folder

    if target not in (None, "-"):
        writable_folder(Path(str(target)).absolute().parent)


def write(target: str | None, text: str) -> None:
    """To standard output for ``-``, to a file for anything else, nowhere for None."""
    from harness.files import write_text

    if target == "-":
        sys.stdout.write(text)
    elif target is not None:
        write_text(Path(target), text)


def show(what: RenderableType) -> None:
    """To standard output; wide where it is no terminal, so that nothing is cut in a file or a pipe."""
    from rich.console import Console

    console = Console(
        width=None if sys.stdout.isatty() else 200, highlight=False, soft_wrap=not sys.stdout.isatty()
    )
    with console.capture() as captured:
        console.print(what)
    # Written here, because rich ends a process whose reader went away with 1, which means that something differs.
    sys.stdout.write(captured.get())
