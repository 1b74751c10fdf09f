"""``lockstep record``: train here, and save the results to one file, to compare with elsewhere."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from lockstep.backends.errors import LockstepError
from lockstep.harness.commands import trainers

if TYPE_CHECKING:
    from lockstep.harness.bundle import Bundle
    from lockstep.harness.commands.progress import Progress

OF_PROBLEMS = ("problems", "backend", "dtype", "epochs")
"""Options that do not apply to a trainer."""


def add(commands: Any) -> None:
    """Adds the command to a parser's."""
    record = commands.add_parser(
        "record",
        help="train problems, or your own code, and save the results to one file, for `replay` elsewhere",
        description="Train problems and write a bundle: the problems, every loss, the whole last state, the "
        "parameters and stages that you ask for, and the environment. With --trainer, record your own code: hashes of its "
        "batches, every loss, parameters and buffers before and after. Nothing is written unless everything trained.",
    )
    record.set_defaults(run=_record)
    record.add_argument("out", metavar="OUT", help="the file to write, as NAME.lockstep.npz")
    problems = record.add_argument(
        "problems",
        nargs="+",
        default=[],
        metavar="NAME|FILE.toml",
        help="problems of the catalogue (`lockstep list`) or problem files; none with --trainer",
    )
    problems.required = False  # "*" would be matched, with nothing, before an option that stands behind OUT
    record.add_argument(
        "--backend", action="append", metavar="NAME", help="a backend to train on; repeat it; default: all"
    )
    record.add_argument(
        "--dtype", action="append", metavar="DTYPE", help="float64 or float32; repeat it; default: both"
    )
    record.add_argument("--epochs", type=int, metavar="N", help="instead of each problem's own")
    trainers.add_options(record, mapping=False, many="give one; only its numbers are recorded, not its code")
    record.add_argument(
        "--parameters-at",
        default="",
        metavar="K,...",
        help="record every parameter after these numbers of steps: 0 the initial ones, `last` the end; training then runs "
        "step by step",
    )
    record.add_argument(
        "--stages-at",
        default="",
        metavar="K,...",
        help="record every stage of these steps, counted from 0, with the state before each; `last` is the last step",
    )
    record.add_argument(
        "--without-data",
        action="store_true",
        help="record only hashes of the data and the initial parameters; the data of a trainer are never recorded",
    )
    record.add_argument(
        "--without-machine", action="store_true", help="record versions only, nothing about the machine"
    )
    record.add_argument(
        "--max-size",
        default="64MB",
        metavar="SIZE",
        help="refuse a larger bundle before anything is trained; default: 64MB",
    )
    record.add_argument("--quiet", action="store_true", help="print nothing")


def _record(options: argparse.Namespace) -> int:
    from lockstep.harness.bundle.size import size_of
    from lockstep.harness.commands.progress import Progress

    _check(options)
    contents = {
        "parameters_at": _steps(options.parameters_at),
        "stages_at": _steps(options.stages_at),
        "data": not options.without_data,
        "machine": not options.without_machine,
        "max_size": size_of(options.max_size),
    }
    if options.trainer:
        bundle = trainers.record(options, options.out, **contents)
    else:
        with Progress(quiet=options.quiet, doing="recording") as progress:
            bundle = _record_problems(options, progress, contents)
    if not options.quiet:
        for one in bundle.runs:
            print(f"{one.run.problem} {one.run.dtype} {one.run.backend}: {_recorded(one)}")
    return 0


def _check(options: argparse.Namespace) -> None:
    """Refuse a mix of problems and a trainer, options of the other kind, and nothing at all."""
    if options.trainer:
        if odd := [one for one in OF_PROBLEMS if getattr(options, one)]:
            raise LockstepError(
                "options of problems are given with a trainer", ", ".join(odd), "leave them out"
            )
    elif not options.problems:
        raise LockstepError(
            "there is nothing to record",
            "no problem, no trainer",
            "name a problem, or --trainer MODULE:FUNCTION",
        )
    elif options.steps is not None or options.batches:
        raise LockstepError(
            "problems have their own steps and batches",
            "--steps or --batches",
            "give --epochs, or leave them out",
        )


def _record_problems(options: argparse.Namespace, progress: Progress, contents: dict[str, Any]) -> Bundle:
    from lockstep.backends.problem import DTYPES
    from lockstep.harness.bundle.recording import record

    return record(
        options.out,
        options.problems,
        backends=options.backend,
        dtypes=options.dtype or DTYPES,
        epochs=options.epochs,
        progress=progress.finished,
        **contents,
    )


def _steps(text: str) -> list[int | str]:
    """The words between the commas, whole numbers as such; what is neither is refused where the run's length is known."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    return [int(word) if word.isascii() and word.isdecimal() and len(word) < 19 else word for word in words]


def _recorded(one: Any) -> str:
    """A description of the recording of one run."""
    losses = f"{len(one.run.trace.losses)} losses, the last state"
    parameters = f", parameters after {_listed(one.parameters)} steps" if one.parameters else ""
    stages = f", stages of step {_listed(one.stages)}" if one.stages else ""
    return f"{losses}{parameters}{stages}"


def _listed(steps: Any) -> str:
    return ", ".join(map(str, sorted(steps)))
