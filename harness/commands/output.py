"""Where a command's output goes: the terminal, standard output, files."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lockstep.backends.errors import LockstepError

if TYPE_CHECKING:
    from rich.console import RenderableType


def add_outputs(command: argparse.ArgumentParser) -> None:
    """The options for the output of a report."""
    command.add_argument(
        "--json", metavar="FILE|-", help="write the report as JSON; - is stdout, without the table"
    )
    command.add_argument(
        "--markdown", metavar="FILE|-", help="write a summary for a comment; - is stdout, without the table"
    )
    command.add_argument("--junit", metavar="FILE", help="write JUnit's XML, one test case a backend")
    command.add_argument(
        "--output", type=Path, metavar="DIR", help="write parity.json, parity.md and parity.html there"
    )
    command.add_argument("--quiet", action="store_true", help="print the verdict only")


def add_bench(command: argparse.ArgumentParser) -> None:
    """The option that adds a benchmark to a report."""
    command.add_argument(
        "--bench",
        type=Path,
        metavar="BENCH.json",
        help="a file that `lockstep bench --json` or `--output` wrote: it becomes a section of the report, with its own "
        "environment; no time is shown next to a verdict of the report that is not AGREE",
    )


def read_bench(options: argparse.Namespace) -> dict[str, Any] | None:
    """The benchmark that the options name; None where they name none.

    Raises:
        FileError: the file is no benchmark.
    """
    if options.bench is None:
        return None
    from lockstep.harness.benchmark import stored

    return stored.load(options.bench)


def with_bench(report: dict[str, Any], bench: dict[str, Any] | None) -> dict[str, Any]:
    """A report with a benchmark in it, if there is one."""
    if bench is None:
        return report
    from lockstep.harness.report import benchmark

    return benchmark.attached(report, bench)


def check_outputs(options: argparse.Namespace) -> None:
    """Refuses outputs that cannot be written, before anything is trained."""
    from lockstep.harness.documents.files import writable_folder

    if options.output is not None:
        writable_folder(options.output)
    if options.json == options.markdown == "-":
        raise LockstepError("two outputs for one stdout", "--json - --markdown -", "write one to a file")
    for target in (options.json, options.markdown, options.junit):
        check_target(target)


def publish(options: argparse.Namespace, report: dict[str, Any]) -> None:
    """Write a report to the outputs that the options name."""
    from lockstep.harness.publish.folder import (
        sentence,
        write_report,
    )
    from lockstep.harness.report import document, junit, summary, terminal

    written = [] if options.output is None else write_report(options.output, report)
    write(options.json, document.dumps(report))
    write(options.markdown, summary.render(report))
    write(options.junit, junit.render(report))
    summary.append_to_step(report)
    if "-" not in (options.json, options.markdown):
        show(terminal.verdict_line(report) if options.quiet else terminal.render(report))
    if written:
        print(sentence(written), file=sys.stderr)


def check_target(target: str | None) -> None:
    """Refuses a file that could not be written, before anything is trained."""
    from lockstep.harness.documents.files import writable_file

    if target not in (None, "-"):
        writable_file(Path(str(target)))


def write(target: str | None, text: str) -> None:
    """To standard output for ``-``, to a file for anything else, nowhere for None."""
    from lockstep.harness.documents.files import write_text

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
