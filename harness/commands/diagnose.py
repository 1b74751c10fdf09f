"""``lockstep diagnose``: where a backend first diverges from another."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from lockstep.backends.errors import LockstepError
from lockstep.harness.commands import trainers
from lockstep.harness.commands.output import show

if TYPE_CHECKING:
    from lockstep.harness.diagnose.diagnosis import Diagnosis


def add(commands: Any) -> None:
    """Adds the command's parser."""
    diagnose = commands.add_parser(
        "diagnose",
        help="find the step, the stage and the parameter where a backend diverges from another, and which is wrong",
        description="Train one problem on two backends, compare every stage of chosen steps on equal inputs, and "
        "name the first that differs, the backend that is wrong, and its mistake where training confirms it.",
    )
    diagnose.set_defaults(run=_run)
    diagnose.add_argument(
        "problem", nargs="?", metavar="NAME|FILE.toml", help="a problem of the catalogue or a problem file"
    )
    diagnose.add_argument("--backend", metavar="NAME", help="the backend to examine")
    diagnose.add_argument(
        "--reference", default="numpy", metavar="NAME", help="the backend to compare with; default: numpy"
    )
    diagnose.add_argument("--dtype", metavar="DTYPE", help="float64 or float32; default: the problem's own")
    diagnose.add_argument("--epochs", type=int, metavar="N", help="instead of the problem's own")
    diagnose.add_argument("--json", action="store_true", help="print the whole diagnosis as JSON")
    trainers.add_options(diagnose)


def _run(options: argparse.Namespace) -> int:
    from lockstep.harness.report import diagnosis, document

    result = trainers.diagnose(options) if options.trainer else _diagnosed(options)
    report = diagnosis.to_document(result)
    if options.json:
        sys.stdout.write(document.dumps(report))
    else:
        show(diagnosis.render(report))
    return result.verdict.exit_status


def _diagnosed(options: argparse.Namespace) -> Diagnosis:
    from lockstep.harness.diagnose.diagnosis import diagnose

    trainers.refuse_alone(options)
    if options.problem is None or options.backend is None:
        raise LockstepError(
            "there is nothing to diagnose", "no problem, or no --backend", "give both, or --trainer twice"
        )
    return diagnose(
        options.problem, options.backend, options.reference, dtype=options.dtype, epochs=options.epochs
    )
