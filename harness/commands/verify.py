"""``lockstep verify``: train problems on backends and judge whether they agree."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lockstep import backends as registry
from lockstep.backends.errors import LockstepError
from lockstep.harness.commands import trainers
from lockstep.harness.commands.output import (
    add_bench,
    add_outputs,
    check_outputs,
    publish,
    read_bench,
    with_bench,
)
from lockstep.harness.runs import processes

if TYPE_CHECKING:
    from lockstep.harness.verification.result import Result


def add(commands: Any) -> None:
    """Adds the command's parser."""
    verify = commands.add_parser(
        "verify",
        help="train problems on all backends and judge whether they agree",
        description="Train problems on all backends, in float64 and float32, and judge whether every epoch's "
        "loss and every final parameter agree.",
    )
    verify.set_defaults(run=_run)
    verify.add_argument(
        "problems",
        nargs="*",
        metavar="NAME|FILE.toml",
        help="problems of the catalogue (`lockstep list`) or problem files; default: seed",
    )
    several = verify.add_mutually_exclusive_group()
    several.add_argument(
        "--core", action="store_true", help="one or two problems of each kind (two minutes, with --certify)"
    )
    several.add_argument("--all", action="store_true", help="the whole catalogue (some minutes)")
    verify.add_argument(
        "--backend", action="append", metavar="NAME", help="a backend to train on; repeat it; default: all"
    )
    verify.add_argument(
        "--dtype", action="append", metavar="DTYPE", help="float64 or float32; repeat it; default: both"
    )
    verify.add_argument("--epochs", type=int, metavar="N", help="instead of each problem's own")
    verify.add_argument(
        "--tolerance",
        choices=("budget", "fixed"),
        default="budget",
        help="budget (the default): the effect of rounding on this problem, measured by disturbed twins of the "
        "reference; fixed: the same for all problems of a dtype",
    )
    verify.add_argument(
        "--rtol",
        type=float,
        help="instead of --tolerance: equal means |left - right| <= atol + rtol |left|",
    )
    verify.add_argument("--atol", type=float, help="see --rtol")
    verify.add_argument(
        "--certify",
        action="store_true",
        help="report each backend's error, in ULPs, against a proven reference trajectory (needs python-flint)",
    )
    verify.add_argument(
        "--diagnose",
        choices=("none", "differing", "all"),
        default="differing",
        help="the cases in which to find the first step and stage that differ; default: those that do not agree",
    )
    trainers.add_options(verify)
    add_outputs(verify)
    add_bench(verify)


def _run(options: argparse.Namespace) -> int:
    problems = _problems(options)
    check_outputs(options)
    bench = read_bench(options)
    result = trainers.verify(options) if options.trainer else _verified(options, problems)
    from lockstep.harness.environment.manifest import (
        manifest,  # not before the backends' processes are started
    )
    from lockstep.harness.report import document

    publish(options, with_bench(document.to_document(result, manifest(), _command(options)), bench))
    return result.verdict.exit_status


def _problems(options: argparse.Namespace) -> Sequence[str]:
    """Those that are named, or a set of the catalogue's; the seed where nothing is named."""
    from lockstep.harness.problems import CORE, catalogue

    if not (options.core or options.all):
        return options.problems or ["seed"]
    if options.problems:
        raise LockstepError(
            "problems are named together with a whole set",
            f"{' '.join(options.problems)} with --{'core' if options.core else 'all'}",
            "leave out one of the two",
        )
    return CORE if options.core else tuple(catalogue())


def _command(options: argparse.Namespace) -> str:
    """The shell command that produces the same result, without the output options."""
    chosen = [f"--{flag}" for flag in ("core", "all") if getattr(options, flag)]
    asked = trainers.words(options) if options.trainer else chosen or options.problems or ["seed"]
    words = ["lockstep", "verify", *asked]
    for flag in ("backend", "dtype"):
        words += [f"--{flag}={value}" for value in getattr(options, flag) or ()]
    for flag in ("epochs", "rtol", "atol"):
        value = getattr(options, flag)
        words += [] if value is None else [f"--{flag}={value}"]
    words += ["--tolerance=fixed"] if options.tolerance == "fixed" else []
    words += ["--certify"] if options.certify else []
    words += [] if options.diagnose == "differing" else [f"--diagnose={options.diagnose}"]
    return shlex.join(words)


def _verified(options: argparse.Namespace, problems: Sequence[str]) -> Result:
    trainers.refuse_alone(options)
    chosen = [registry.entry(name).name for name in dict.fromkeys(options.backend or registry.entries())]
    with processes.ahead(chosen) as waiting:
        from lockstep.backends.problem import DTYPES
        from lockstep.harness.commands.progress import Progress
        from lockstep.harness.verification.parity import verify

        with Progress(quiet=options.quiet) as progress:
            return verify(
                problems,
                backends=chosen,
                dtypes=dict.fromkeys(options.dtype or DTYPES),
                epochs=options.epochs,
                tolerance=options.tolerance,
                rtol=options.rtol,
                atol=options.atol,
                certify=options.certify,
                diagnose=options.diagnose,
                trainers=waiting,
                progress=progress.finished,
                notify=progress.note,
            )
