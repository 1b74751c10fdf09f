"""``lockstep replay``: retrain on this machine what a bundle recorded, and compare with it."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lockstep.backends.errors import LockstepError
from lockstep.harness.commands import trainers
from lockstep.harness.commands.output import add_outputs, check_outputs, publish

if TYPE_CHECKING:
    from lockstep.harness.bundle.replaying import Replayed


def add(commands: Any) -> None:
    """Adds the command to a parser's."""
    replay = commands.add_parser(
        "replay",
        help="retrain on this machine and compare with the recording",
        description="Retrain what a bundle of `lockstep record` holds, compare every loss, the parameters and the recorded "
        "stages with the recording, and show how the environment differs. A bundle holds no code: if it was recorded with "
        "--trainer, give one here.",
    )
    replay.set_defaults(run=_replay)
    replay.add_argument("bundle", metavar="BUNDLE", help="the file that `lockstep record` wrote")
    replay.add_argument(
        "--backend",
        action="append",
        metavar="NAME",
        help="a backend to train on; repeat it; default: for each run the one that it was recorded on",
    )
    replay.add_argument(
        "--problem",
        action="append",
        default=[],
        metavar="NAME|FILE.toml",
        help="a problem whose data the bundle does not hold; repeat it",
    )
    trainers.add_options(
        replay, mapping=False, steps=False, many="needed if one was recorded, with its batches"
    )
    replay.add_argument(
        "--map",
        metavar="FILE",
        help="pairs of recorded and own parameters, from `lockstep map`; default: those of equal names",
    )
    replay.add_argument(
        "--tolerance",
        choices=("budget", "fixed"),
        default="budget",
        help="budget (the default): the effect of rounding on this problem, measured here; fixed: the same for all "
        "problems of a dtype",
    )
    replay.add_argument(
        "--rtol",
        type=float,
        help="instead of --tolerance: equal means |recorded - here| <= atol + rtol |recorded|",
    )
    replay.add_argument("--atol", type=float, help="see --rtol")
    add_outputs(replay)


def _replay(options: argparse.Namespace) -> int:
    from lockstep.harness.environment.manifest import manifest
    from lockstep.harness.report import changes, document

    check_outputs(options)
    result = _result(options)
    recorded = {
        "bundle": Path(options.bundle).name,
        "environment": dict(result.recorded),
        "changes": [list(row) for row in changes.since(result.recorded, result.here)],
    }
    report = document.to_document(result, manifest(), _command(options), recorded)
    publish(options, report)
    return result.verdict.exit_status


def _result(options: argparse.Namespace) -> Replayed:
    """Replay the named trainer, or the bundle's own problems; the bundle is read before any code is imported."""
    from lockstep.harness import bundle
    from lockstep.harness.bundle.replaying import replay
    from lockstep.harness.commands.progress import Progress

    held = bundle.load(options.bundle)
    if options.trainer:
        if options.backend or options.problem:
            raise LockstepError(
                "a backend or a problem is given with a trainer",
                ", ".join([*(options.backend or ()), *options.problem]),
                "leave them out: a bundle holds problems or a trainer, not both",
            )
        return trainers.replay(options, held)
    with Progress(quiet=options.quiet) as progress:
        return replay(
            held,
            backends=options.backend,
            problems=options.problem,
            tolerance=options.tolerance,
            rtol=options.rtol,
            atol=options.atol,
            progress=progress.finished,
            notify=progress.note,
        )


def _command(options: argparse.Namespace) -> str:
    """The shell command that produces the same result, without the output options."""
    words = ["lockstep", "replay", options.bundle]
    for flag in ("backend", "problem"):
        words += [f"--{flag}={value}" for value in getattr(options, flag) or ()]
    words += trainers.words(options)
    for flag in ("rtol", "atol"):
        value = getattr(options, flag)
        words += [] if value is None else [f"--{flag}={value}"]
    words += ["--tolerance=fixed"] if options.tolerance == "fixed" else []
    return shlex.join(words)
