"""The command line. Data go to stdout, everything else to stderr.

Exit status: 2 for usage and bad input; else 1 if anything differs; else 3 if anything could not be judged
(inconclusive, an error, a backend skipped, fewer than two backends); else 0.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backends.errors import LockstepError
from harness.commands import bench
from harness.commands.report import add_report
from harness.verdict import Verdict

if TYPE_CHECKING:
    from rich.console import RenderableType

    from harness.parity import Result

USAGE_ERROR = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status."""
    if sys.stdout is None:  # closed by the caller, as `>&-` does
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
    try:
        try:
            options = parser().parse_args(arguments)
            status: int = options.run(options)
        finally:  # --help and --version leave by SystemExit
            print(end="", flush=True)
    except LockstepError as error:
        print(f"error: {error}", file=sys.stderr)
        return USAGE_ERROR
    except BrokenPipeError:  # the reader of our output went away, as `| head` does
        _abandon_output()
        return 128 + 13
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 128 + 2
    except Exception:  # Python's own exit status would be 1, which means that something differs
        traceback.print_exc()
        _abandon_output()
        return Verdict.ERROR.exit_status
    return status


def _abandon_output() -> None:
    """What is still buffered goes nowhere, so that Python's exit does not fail on it again."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def parser() -> argparse.ArgumentParser:
    """What reads the command line: one subparser a command."""
    parser = argparse.ArgumentParser(
        prog="lockstep",
        description="Train one problem in several frameworks and decide whether they agree.",
        epilog="Exit status: 0 all agree; 1 something differs; 3 something could not be judged; 2 usage.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_verify(commands)
    _add_diagnose(commands)
    _add_selftest(commands)
    add_report(commands)
    bench.add(commands)
    _add_list(commands)
    _add_doctor(commands)
    return parser


class _Version(argparse.Action):
    """Prints the version; it is looked up only then."""

    def __call__(self, parser: argparse.ArgumentParser, *given: object) -> None:
        from harness.manifest import lockstep_version

        print(f"lockstep {lockstep_version()}")
        parser.exit()


def _add_verify(commands: Any) -> None:
    verify = commands.add_parser(
        "verify",
        help="train problems on all backends and judge whether they agree",
        description="Train problems on all backends, in float64 and float32, and judge whether every epoch's "
        "loss and every final parameter agree.",
    )
    verify.set_defaults(run=_verify)
    verify.add_argument(
        "problems",
        nargs="*",
        default=[],
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
        help="budget (the default): what rounding can do to this problem, measured by disturbed twins of the "
        "reference; fixed: the same for all problems of a dtype",
    )
    verify.add_argument(
        "--rtol",
        type=float,
        help="equal is |left - right| <= atol + rtol |left|, instead",
    )
    verify.add_argument("--atol", type=float, help="see --rtol")
    verify.add_argument(
        "--certify",
        action="store_true",
        help="tell each backend's own error, in ULPs, against the true trajectory (needs python-flint)",
    )
    verify.add_argument(
        "--diagnose",
        choices=("none", "differing", "all"),
        default="differing",
        help="the cases in which to find the first step and stage that differ; default: those that do not agree",
    )
    verify.add_argument(
        "--json", metavar="FILE|-", help="write the report as JSON; - is stdout, without the table"
    )
    verify.add_argument(
        "--markdown", metavar="FILE|-", help="write a summary for a comment; - is stdout, without the table"
    )
    verify.add_argument("--junit", metavar="FILE", help="write JUnit's XML, one test case a backend")
    verify.add_argument(
        "--output", type=Path, metavar="DIR", help="write parity.json, parity.md and parity.html there"
    )
    verify.add_argument("--quiet", action="store_true", help="print the verdict only")


def _add_diagnose(commands: Any) -> None:
    diagnose = commands.add_parser(
        "diagnose",
        help="find the step, the stage and the parameter where a backend parts from another, and which is wrong",
        description="Train one problem on two backends, compare every stage of chosen steps on equal inputs, and "
        "name the first that differs, the side that is wrong, and what it does, where training confirms that.",
    )
    diagnose.set_defaults(run=_diagnose)
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


def _add_selftest(commands: Any) -> None:
    selftest = commands.add_parser(
        "selftest",
        help="plant known port bugs, which must be found and named, and train clean problems, which must not alarm",
        description="Plant known port bugs in the reference, each of which must be found and named at its stage; train "
        "random clean problems on all backends, none of which may alarm; and show the smallest change that is found. "
        "Exit status 1 if a bug is missed or a clean run alarms.",
    )
    selftest.set_defaults(run=_selftest)
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


def _add_list(commands: Any) -> None:
    listing = commands.add_parser("list", help="list backends, problems, functions, losses, optimizers")
    listing.set_defaults(run=_list)
    listing.add_argument(
        "--conventions", action="store_true", help="where the frameworks' defaults part, and by how much"
    )
    listing.add_argument("--json", action="store_true", help="as JSON")


def _add_doctor(commands: Any) -> None:
    doctor = commands.add_parser(
        "doctor",
        help="show versions, threads, BLAS and devices, which backends can run, and how to install the others",
    )
    doctor.set_defaults(run=_doctor)
    doctor.add_argument("--json", action="store_true", help="as JSON")


def _verify(options: argparse.Namespace) -> int:
    from harness.files import writable_folder
    from harness.manifest import manifest
    from harness.report import document, junit, summary
    from harness.report.folder import write_report

    if options.output is not None:
        writable_folder(options.output)
    if options.json == options.markdown == "-":
        raise LockstepError("two outputs for one stdout", "--json - --markdown -", "write one to a file")
    for target in (options.json, options.markdown, options.junit):
        _check_target(target)
    result = _train(options)
    told = document.to_document(result, manifest(), _command(options))
    written = [] if options.output is None else write_report(options.output, told)
    _write(options.json, document.dumps(told))
    _write(options.markdown, summary.render(told))
    _write(options.junit, junit.render(told))
    summary.append_to_step(told)
    if "-" not in (options.json, options.markdown):
        _print_result(told, options.quiet)
    if written:
        print(f"report: {', '.join(map(str, written))}", file=sys.stderr)
    return result.verdict.exit_status


def _wanted(options: argparse.Namespace) -> Sequence[str]:
    """The problems that are named, or a set of the catalogue's."""
    from backends.errors import ProblemError
    from harness.problems import CORE, catalogue

    if not (options.core or options.all):
        return options.problems or ["seed"]
    if options.problems:
        raise ProblemError(
            "problems are named beside a whole set",
            f"{' '.join(options.problems)} with --{'core' if options.core else 'all'}",
            "leave out one of the two",
        )
    return CORE if options.core else tuple(catalogue())


def _command(options: argparse.Namespace) -> str:
    """What a shell is told to find the same again; where the report goes is left out."""
    chosen = [f"--{flag}" for flag in ("core", "all") if getattr(options, flag)]
    words = ["lockstep", "verify", *(chosen or options.problems or ["seed"])]
    for flag in ("backend", "dtype"):
        words += [f"--{flag}={value}" for value in getattr(options, flag) or ()]
    for flag in ("epochs", "rtol", "atol"):
        value = getattr(options, flag)
        words += [] if value is None else [f"--{flag}={value}"]
    words += ["--tolerance=fixed"] if options.tolerance == "fixed" else []
    words += ["--certify"] if options.certify else []
    words += [] if options.diagnose == "differing" else [f"--diagnose={options.diagnose}"]
    return shlex.join(words)


def _diagnose(options: argparse.Namespace) -> int:
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
        _show(diagnosis.render(told))
    return found.verdict.exit_status


def _check_target(target: str | None) -> None:
    """Refuses a file that could not be written, before anything is trained."""
    from harness.files import writable_folder

    if target not in (None, "-"):
        writable_folder(Path(str(target)).absolute().parent)


def _write(target: str | None, text: str) -> None:
    """To standard output for ``-``, to a file for anything else, nowhere for None."""
    from harness.files import write_text

    if target == "-":
        sys.stdout.write(text)
    elif target is not None:
        write_text(Path(target), text)


def _train(options: argparse.Namespace) -> Result:
    from backends.problem import DTYPES
    from harness.parity import verify
    from harness.progress import Progress
    from harness.workers import side_by_side

    with Progress(quiet=options.quiet) as progress:
        return verify(
            _wanted(options),
            backends=options.backend,
            dtypes=dict.fromkeys(options.dtype or DTYPES),
            epochs=options.epochs,
            tolerance=options.tolerance,
            rtol=options.rtol,
            atol=options.atol,
            certify=options.certify,
            diagnose=options.diagnose,
            trainers=side_by_side,
            progress=progress.finished,
            say=progress.note,
        )


def _print_result(told: dict[str, Any], quiet: bool) -> None:
    from harness.report import terminal

    _show(terminal.verdict_line(told) if quiet else terminal.render(told))


def _show(what: RenderableType) -> None:
    """To standard output; wide where it is no terminal, so that nothing is cut in a file or a pipe."""
    from rich.console import Console

    console = Console(
        width=None if sys.stdout.isatty() else 200, highlight=False, soft_wrap=not sys.stdout.isatty()
    )
    with console.capture() as captured:
        console.print(what)
    # Written here, because rich ends a process whose reader went away with 1, which means that something differs.
    sys.stdout.write(captured.get())


def _selftest(options: argparse.Namespace) -> int:
    from harness.progress import Progress
    from harness.selftest import report, score
    from harness.selftest.mutants import named

    _check_target(options.json)
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
    told = report.document(findings, runs, score.detection_curve())
    text = json.dumps(told, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    _write(options.json, text)
    if options.json != "-":
        _show(report.render(told))
    return 0 if report.passed(told) else 1


def _list(options: argparse.Namespace) -> int:
    from harness import conventions, listing

    told = conventions.conventions() if options.conventions else listing.listing()
    if options.json:
        print(json.dumps(told, indent=1, ensure_ascii=False))
    else:
        _show(conventions.render(told) if options.conventions else listing.render(told))
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from harness.doctor import examine
    from harness.manifest import manifest

    findings = examine()
    environment = manifest()
    if options.json:
        backends = {
            one.backend: dict(one.environment) or {"problem": one.problem, "fix": one.fix} for one in findings
        }
        print(json.dumps({**environment, "backends": backends}, indent=1, ensure_ascii=False))
    else:
        for key, value in environment.items():
            print(f"{key}: {value if isinstance(value, (str, int)) else json.dumps(value)}")
        for one in findings:
            facts = ", ".join(f"{key} {value}" for key, value in one.environment.items())
            print(f"backend {one.backend}: {facts or f'cannot run: {one.problem}'}")
            if one.fix:
                print(f"  fix: {one.fix}")
    return 3 if any(one.problem for one in findings) else 0
