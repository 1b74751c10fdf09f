"""``lockstep replay``: train here what a bundle recorded, and judge whether the same comes of it."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

from harness.commands.output import add_outputs, check_outputs, publish


def add(commands: Any) -> None:
    """Adds the command to a parser's."""
    replay = commands.add_parser(
        "replay",
        help="train what was recorded, here, and judge whether the same comes of it",
        description="Train what a bundle of `lockstep record` holds, and judge whether every loss, the parameters and the "
        "recorded stages are those that were recorded; and show in what the environment differs.",
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
    replay.add_argument(
        "--tolerance",
        choices=("budget", "fixed"),
        default="budget",
        help="budget (the default): what rounding can do to this problem, measured here; fixed: the same for all "
        "problems of a dtype",
    )
    replay.add_argument(
        "--rtol", type=float, help="equal is |recorded - here| <= atol + rtol |recorded|, instead"
    )
    replay.add_argument("--atol", type=float, help="see --rtol")
    add_outputs(replay)


def _replay(options: argparse.Namespace) -> int:
    from harness.manifest import manifest
    from harness.progress import Progress
    from harness.replaying import replay
    from harness.report import changes, document

    check_outputs(options)
    with Progress(quiet=options.quiet) as progress:
        result = replay(
            options.bundle,
            backends=options.backend,
            problems=options.problem,
            tolerance=options.tolerance,
            rtol=options.rtol,
            atol=options.atol,
            progress=progress.finished,
            say=progress.note,
        )
    recorded = {
        "bundle": Path(options.bundle).name,
        "environment": dict(result.recorded),
        "changes": [list(row) for row in changes.since(result.recorded, result.here)],
    }
    told = document.to_document(result, manifest(), _command(options), recorded)
    publish(options, told)
    return result.verdict.exit_status


def _command(options: argparse.Namespace) -> str:
    """What a shell is told to find the same again; where the report goes is left out."""
    words = ["lockstep", "replay", options.bundle]
    for flag in ("backend", "problem"):
        words += [f"--{flag}={value}" for value in getattr(options, flag) or ()]
    for flag in ("rtol", "atol"):
        value = getattr(options, flag)
        words += [] if value is None else [f"--{flag}={value}"]
    words += ["--tolerance=fixed"] if options.tolerance == "fixed" else []
    return shlex.join(words)
