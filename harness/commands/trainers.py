"""The command line for adopted trainers: ``--trainer`` of verify and diagnose, and the command ``map``."""

from __future__ import annotations

import argparse
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lockstep.backends.errors import LockstepError
from lockstep.harness.commands.output import show

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import AbstractContextManager

    from rich.console import RenderableType

    from lockstep.harness.adopt.factories import FactoryResult
    from lockstep.harness.bundle import Bundle
    from lockstep.harness.bundle.replaying import Replayed
    from lockstep.harness.diagnose.diagnosis import Diagnosis
    from lockstep.harness.mapping.mapping import Mapping
    from lockstep.harness.verification.result import Result

SEVERAL = "give two or more, the first is the reference"


def add_options(
    command: argparse.ArgumentParser, mapping: bool = True, steps: bool = True, many: str = SEVERAL
) -> None:
    """The options that name adopted trainers and what they are trained on."""
    command.add_argument(
        "--trainer",
        action="append",
        metavar="MODULE:FUNCTION",
        help=f"a function of your own code that returns an adopted trainer (docs/adopt.md); {many}",
    )
    command.add_argument(
        "--batches",
        metavar="MODULE:FUNCTION",
        help="a function that gives the batches (x, y); by default those that a trainer's function returns beside it",
    )
    if mapping:
        command.add_argument(
            "--map",
            action="append",
            metavar="FILE",
            help="which parameter is which, from `lockstep map`; one for each trainer after the first; by default found",
        )
    if steps:
        command.add_argument("--steps", type=int, metavar="N", help="how many steps adopted trainers train")
    command.add_argument(
        "--isolated", action="store_true", help="each adopted trainer in a process of its own"
    )
    command.add_argument(
        "--python",
        action="append",
        metavar="PATH",
        help="the interpreter of each trainer, in order; means --isolated",
    )


def add(commands: Any) -> None:
    """The command ``map``."""
    command = commands.add_parser(
        "map",
        help="find which parameter of one adopted trainer is which of another",
        description="Match the parameters of two adopted trainers by name, by shape, and by function: both sides' "
        "gradients when both hold the same numbers. What is ambiguous is left over, with its candidates. "
        "Exit status 3 if a parameter is left over.",
    )
    command.set_defaults(run=_run_map)
    add_options(command, mapping=False, steps=False)
    command.add_argument("-o", "--output", type=Path, metavar="FILE", help="write the mapping there, as JSON")


def verify(options: argparse.Namespace) -> Result:
    """Verify the trainers that were named."""
    from lockstep.harness.verification import adopted

    _refuse_beside(options, "problems", "backend", "dtype", "epochs", "certify", "core", "all")
    with _own_output():
        trainers, batches = _made(options, 2)
        return adopted.verify(
            trainers,
            batches,
            mapping=_mappings(options.map),
            steps=options.steps,
            tolerance=options.tolerance,
            rtol=options.rtol,
            atol=options.atol,
            diagnose=options.diagnose,
        )


def diagnose(options: argparse.Namespace) -> Diagnosis:
    """Diagnose the two trainers that were named."""
    from lockstep.harness.verification import adopted

    _refuse_beside(options, "problem", "backend", "dtype", "epochs")
    with _own_output():
        trainers, batches = _made(options, 2)
        return adopted.diagnose(trainers, batches, mapping=_mappings(options.map), steps=options.steps)


def refuse_alone(options: argparse.Namespace) -> None:
    """Raise a LockstepError where what only adopted trainers heed was given without any."""
    given = [name for name in ("batches", "map", "steps", "isolated", "python") if getattr(options, name)]
    if given:
        raise LockstepError(
            "options of adopted trainers, but no trainer",
            ", ".join(f"--{name}" for name in given),
            "give --trainer module:function twice, or leave them out",
        )


def _refuse_beside(options: argparse.Namespace, *names: str) -> None:
    """Raise a LockstepError where something was asked for that trainers do not heed."""
    given = [name for name in names if getattr(options, name)]
    if given:
        raise LockstepError(
            "options of problems are given with adopted trainers",
            ", ".join(given),
            "leave it out, or leave out --trainer",
        )


def _own_output() -> AbstractContextManager[object]:
    """What the user's code prints goes to standard error: ours alone is data."""
    return redirect_stdout(sys.stderr)


def record(options: argparse.Namespace, out: str, **kept: Any) -> Bundle:
    """Record the trainer that was named."""
    from lockstep.harness.bundle.recording import record_adopted

    (trainer,), batches = _made(options, 1, exactly=True)
    return record_adopted(out, trainer, batches, steps=options.steps, **kept)


def replay(options: argparse.Namespace, source: Bundle) -> Replayed:
    """Replay a bundle on the trainer that was named."""
    from lockstep.harness.bundle.replaying import replay_adopted

    (trainer,), batches = _made(options, 1, exactly=True)
    return replay_adopted(
        source,
        trainer,
        batches,
        mapping=None if options.map is None else _read([options.map])[0],
        tolerance=options.tolerance,
        rtol=options.rtol,
        atol=options.atol,
    )


def words(options: argparse.Namespace) -> list[str]:
    """The options as words of a shell command."""
    given = [
        (flag, getattr(options, flag, None)) for flag in ("trainer", "map", "python", "batches", "steps")
    ]
    found = [
        f"--{flag}={value}"
        for flag, values in given
        for value in (values if isinstance(values, list) else [values])
        if value is not None
    ]
    return found + (["--isolated"] if options.isolated else [])


def _run_map(options: argparse.Namespace) -> int:
    """Find a mapping, show it, and write it where that is wanted."""
    from lockstep.harness.documents.files import writable_folder
    from lockstep.harness.mapping.file import save
    from lockstep.harness.matching.find import find_mapping

    if options.output is not None:
        writable_folder(options.output.absolute().parent)
    with _own_output():
        trainers, batches = _made(options, 2, exactly=True)
        mapping = find_mapping(trainers[0], trainers[1], batches)
    names = [f"{one.name} ({target})" for one, target in zip(trainers, options.trainer, strict=True)]
    show(_table(mapping, names[0], names[1]))
    if options.output is not None:
        save(options.output, mapping, names[0], names[1])
        print(f"mapping: {options.output}", file=sys.stderr)
    return 3 if mapping.open_parameters else 0


def _made(options: argparse.Namespace, fewest: int, exactly: bool = False) -> tuple[list[Any], Iterable[Any]]:
    """The trainers, and the batches that were named or came with the first that has some."""
    from lockstep.harness.adopt.factories import build, build_batches
    from lockstep.harness.adopt.remote import isolated

    targets = options.trainer or []
    if len(targets) < fewest or (exactly and len(targets) != fewest):
        needed, often = ("two trainers are", "twice") if fewest > 1 else ("one trainer is", "once")
        raise LockstepError(f"{needed} needed", f"{len(targets)}", f"give --trainer module:function {often}")
    pythons = options.python or []
    if pythons and len(pythons) != len(targets):
        raise LockstepError(
            "there are not as many interpreters as trainers", f"{len(pythons)}", "give --python once for each"
        )
    separate = options.isolated or bool(pythons)
    built: list[FactoryResult] = [
        isolated(target, pythons[index] if pythons else None) if separate else build(target)
        for index, target in enumerate(targets)
    ]
    sources = [build_batches(options.batches)] if options.batches else [one.batches for one in built]
    batches = next((one for one in sources if one is not None), None)
    if batches is None:
        raise LockstepError(
            "there are no batches",
            "no --batches, and no function returned any",
            "give --batches module:function, or let a trainer's function return (trainer, batches)",
        )
    return [one.trainer for one in built], batches


def _mappings(files: list[str] | None) -> list[Mapping] | None:
    return None if files is None else _read(files)


def _read(files: list[str]) -> list[Mapping]:
    from lockstep.harness.mapping.file import read

    return [read(Path(one)) for one in files]


def _table(mapping: Mapping, left: str, right: str) -> RenderableType:
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in (left, right, "layout", "matched by", "apart"):
        table.add_column(escape(title), overflow="fold")
    for one in mapping.links:
        apart = "" if one.distance is None else f"{one.distance:.1e}"
        table.add_row(escape(one.left), escape(one.right), escape(one.layout), one.by, apart)
    over = [
        Text(f"left over: {name}: {', '.join(mapping.candidates.get(name, candidates))}")
        for name, candidates in mapping.left_over.items()
    ]
    doubt = f", {len(mapping.unconfirmed)} of them unconfirmed" if mapping.unconfirmed else ""
    return Group(
        table,
        *over,
        Text(f"{len(mapping.links)} links{doubt}, {len(mapping.open_parameters)} parameters left over"),
    )
