"""``lockstep report``: a report's files again from its JSON, without training."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """Adds the command's parser."""
    report = commands.add_parser(
        "report",
        help="write a report's files again from its JSON, without training",
        description="Write parity.json, parity.md and parity.html from a report that `lockstep verify --json` or "
        "`--output` wrote. Exit status: that of the verdict in it.",
    )
    report.set_defaults(run=_run)
    report.add_argument("file", type=Path, metavar="FILE.json", help="the report; - is stdin")
    report.add_argument("--output", type=Path, metavar="DIR", help="where to write; default: beside the file")


def _run(options: argparse.Namespace) -> int:
    from harness.files import writable_folder
    from harness.report.folder import sentence, write_report
    from harness.report.stored import load
    from harness.verdict import Verdict

    told = load(options.file)
    beside = Path() if str(options.file) == "-" else options.file.parent
    written = write_report(writable_folder(options.output or beside), told)
    print(sentence(written), file=sys.stderr)
    return Verdict(told["verdict"]).exit_status
