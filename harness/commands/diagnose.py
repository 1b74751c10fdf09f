"""``lockstep diagnose``: where a backend first parts from another."""

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
        help="find the step, the stage and the parameter where a backend parts from another, and which is wrong",
        description="Train one problem on two backends, compare every stage of chosen steps on equal inputs, and "
        "name the first that differs, the side that is wrong, and what it does, where training confirms that.",
    )
    diagnose.set_defaults(run=_run)
    diagnose.add_argument(
        "problem", nargs="?", metavar="NAME|FILE.toml", help="a problem of the catalogue or a problem file"
    )
    diagnose.add_argument("--backend", metavar="NAME", help="the backend to examine")
    diagnose.add_argument(
        "--reference", default="numpy", metavar="NAME", help="against which; default: numpy"
    )
    diagnose.add_argument("--dtype", metavar="DTYPE", help="float64 or float32; default: the problem's own")
    diagnose.add_argument("--epochs", type=int, metavar="N", help="instead of the problem's own")
    diagnose.add_argument("--json", action="store_true", help="everything that was found, as JSON")
    trainers.add_options(diagnose)


def _run(options: argparse.Namespace) -> int:
    from lockstep.harness.report import diagnosis, document

    found = trainers.diagnose(options) if options.trainer else _diagnosed(options)
    told = diagnosis.to_document(found)
    if options.json:
        sys.stdout.write(document.dumps(told))
    else:
        show(diagnosis.render(told))
    return found.verdict.exit_status


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
