"""``lockstep report``: a report's files again from its JSON, or the changes between two reports, without training."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from lockstep.backends.errors import LockstepError
from lockstep.harness.commands.output import add_bench, read_bench, show, with_bench, write


def add(commands: Any) -> None:
    """Adds the command's parser."""
    report = commands.add_parser(
        "report",
        help="write a report's files again from its JSON, or show the changes between two reports",
        description="Write parity.json, parity.md and parity.html from a report that `lockstep verify --json` or "
        "`--output` wrote; the exit status is that of its verdict. For two reports, print the changes: verdicts, first "
        "divergences, distances, versions; exit status 1 if it got worse: a case's verdict is more severe than it was "
        "(in this order: DIFFER, ERROR, INCONCLUSIVE, SKIPPED, AGREE), or a case is gone. A distance that moved within "
        "its limit is shown and is not worse.",
    )
    report.set_defaults(run=_run)
    report.add_argument("file", type=Path, metavar="FILE.json", help="the report; - is stdin")
    report.add_argument(
        "newer",
        type=Path,
        nargs="?",
        metavar="NEW.json",
        help="a later report: show the changes since FILE.json",
    )
    add_bench(report)
    report.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="where to write; default: the file's folder. For two reports, where to write changes.md; default: nowhere",
    )


def _run(options: argparse.Namespace) -> int:
    return _rendered(options) if options.newer is None else _compared(options)


def _rendered(options: argparse.Namespace) -> int:
    from lockstep.harness.core.verdict import Verdict
    from lockstep.harness.documents.files import writable_folder
    from lockstep.harness.publish.folder import (
        sentence,
        write_report,
    )
    from lockstep.harness.report.stored import load

    report = with_bench(load(options.file), read_bench(options))
    folder = Path() if str(options.file) == "-" else options.file.parent
    written = write_report(writable_folder(options.output or folder), report)
    print(sentence(written), file=sys.stderr)
    return Verdict(report["verdict"]).exit_status


def _compared(options: argparse.Namespace) -> int:
    from lockstep.harness.documents.files import writable_folder
    from lockstep.harness.report import changes, terminal
    from lockstep.harness.report.stored import load

    if options.bench is not None:
        raise LockstepError(
            "a benchmark is given with two reports", f"--bench {options.bench}", "give it with one report"
        )
    if str(options.file) == str(options.newer) == "-":
        raise LockstepError("two reports from one stdin", "- -", "read one of them from a file")
    moved = changes.changes(load(options.file), load(options.newer))
    if options.output is not None:
        target = writable_folder(options.output) / "changes.md"
        write(str(target), changes.render(moved))
        print(f"report: {target}", file=sys.stderr)
    show(terminal.changes(changes.headline(moved), changes.sections(moved)))
    return 1 if changes.got_worse(moved) else 0
