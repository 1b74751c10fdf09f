"""``lockstep diagnose``: where a backend first parts from another."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from harness.commands.output import show


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
        "problem", metavar="NAME|FILE.toml", help="a problem of the catalogue or a problem file"
    )
    diagnose.add_argument("--backend", required=True, metavar="NAME", help="the backend to examine")
    diagnose.add_argument(
        "--reference", default="numpy", metavar="NAME", help="against which; default: numpy"
    )
    diagnose.add_argument("--dtype", metavar="DTYPE", help="float64 or float32; default: the problem's own")
    diagnose.add_argument("--epochs", type=int, metavar="N", help="instead of the problem's own")
    diagnose.add_argument("--json", action="store_true", help="everything that was found, as JSON")


def _run(options: argparse.Namespace) -> int:
    from harness.diagnosis import diagnose
    from harness.report import diagnosis, document

    found = diagnose(
        options.problem,
        options.backend,
        options.reference,
        dtype=options.dtype,
        epochs=options.epochs,
    )
    told = diagnosis.to_document(found)
    if options.json:
        sys.stdout.write(document.dumps(told))
    else:
        show(diagnosis.render(told))
    return found.verdict.exit_status
