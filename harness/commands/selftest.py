"""``lockstep selftest``: whether planted bugs are found and clean problems pass."""

from __future__ import annotations

import argparse
import json
from typing import Any

from lockstep.harness.commands.output import check_target, show, write


def add(commands: Any) -> None:
    """Adds the command's parser."""
    selftest = commands.add_parser(
        "selftest",
        help="plant known port bugs, which must be found and named, and train clean problems, which must not alarm",
        description="Plant known port bugs in the reference, each of which must be found and named at its stage; train "
        "random clean problems on all backends, none of which may alarm; and show the smallest change that is found. "
        "Exit status 1 if a bug is missed or a clean run alarms.",
    )
    selftest.set_defaults(run=_run)
    selftest.add_argument(
        "--mutant",
        action="append",
        metavar="TEXT",
        help="only bugs whose name holds this; repeat it; default: all",
    )
    selftest.add_argument(
        "--sites",
        type=int,
        default=1,
        metavar="N",
        help="random sites and magnitudes of each bug; default: 1",
    )
    selftest.add_argument(
        "--clean", type=int, default=20, metavar="N", help="random clean problems; default: 20, a second each"
    )
    selftest.add_argument(
        "--dtype",
        action="append",
        choices=("float64", "float32"),
        help="of the planted bugs; repeat it; default: float64",
    )
    selftest.add_argument(
        "--json", metavar="FILE|-", help="write the figures as JSON; - is stdout, without the tables"
    )


def _run(options: argparse.Namespace) -> int:
    from lockstep.harness.commands.progress import Progress
    from lockstep.harness.selftest import report, score
    from lockstep.harness.selftest.mutants import named

    check_target(options.json)
    mutants = named(options.mutant)
    findings, runs = [], []
    with Progress(quiet=False, doing="planting") as progress:
        for dtype in dict.fromkeys(options.dtype or ["float64"]):
            for one in score.plant_all(mutants, range(options.sites), dtype):
                findings.append(one)
                progress.advance(f"{one.mutant} in {one.problem} {dtype}")
        for run in score.train_clean_apart(range(options.clean)):
            runs.append(run)
            progress.advance(f"{run.problem} {run.dtype}")
    scores = report.document(findings, runs, score.detection_curve())
    text = json.dumps(scores, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write(options.json, text)
    if options.json != "-":
        show(report.render(scores))
    return 0 if report.passed(scores) else 1
