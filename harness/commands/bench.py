"""``lockstep bench``: how long backends take, reported only for those that agree."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lockstep.harness.commands.output import check_target, show, write

if TYPE_CHECKING:
    from lockstep.harness.benchmark.result import Benchmark

NOISY = 4
INTERRUPTED = 128 + 2


def add(commands: Any) -> None:
    """Adds the command's parser."""
    bench = commands.add_parser(
        "bench",
        help="time training on all backends that agree, each repetition in a fresh process",
        description="Verify problems, and time them on every backend whose verdict is AGREE: a fresh process a repetition, "
        "backends in turn, threads and processors pinned, import and compilation timed separately, until the interval for the "
        "median is within a width. Any other verdict is shown in place of the time. Exit status: 1 if a "
        "verdict is not AGREE or a time is over the baseline's by more than --fail-over; else 3 if --fail-over could "
        "not be judged; else 4 if the machine was too noisy, or the time too short, for the width; 130 after an "
        "interrupt, which leaves the finished repetitions.",
    )
    bench.set_defaults(run=_run)
    bench.add_argument(
        "problems",
        nargs="*",
        default=["seed"],
        metavar="NAME|FILE.toml",
        help="problems of the catalogue (`lockstep list`) or problem files; default: seed",
    )
    bench.add_argument(
        "--backend", action="append", metavar="NAME", help="a backend or mode; repeat it; default: all"
    )
    bench.add_argument(
        "--dtype",
        action="append",
        metavar="DTYPE",
        help="float64 or float32; repeat it; default: each problem's own",
    )
    bench.add_argument(
        "--sizes",
        nargs="+",
        action="extend",
        default=[],
        metavar="SIZE=N,N",
        help="rows, features, parameters or epochs, as rows=1e4,1e5; several values are a sweep, whose growth is fitted",
    )
    bench.add_argument(
        "--threads", type=int, metavar="N", help="threads of every process; default: all processors"
    )
    bench.add_argument(
        "--width",
        type=float,
        default=0.1,
        metavar="SHARE",
        help="repeat until the 95%% interval is within this share of the median; default: %(default)s",
    )
    bench.add_argument(
        "--time-limit",
        type=float,
        default=300.0,
        metavar="SECONDS",
        help="seconds for all repetitions together; default: %(default)g",
    )
    bench.add_argument("--quick", action="store_true", help="two short repetitions, whatever the width")
    bench.add_argument(
        "--certify",
        action="store_true",
        help="report each backend's error next to its time (needs python-flint)",
    )
    bench.add_argument(
        "--against",
        type=Path,
        metavar="OLD.json",
        help="compare with the times in a file that an earlier --json wrote",
    )
    bench.add_argument(
        "--fail-over",
        type=float,
        metavar="RATIO",
        help="exit 1 if a time is more than so many times the baseline's, and its interval above 1",
    )
    bench.add_argument(
        "--json", metavar="FILE|-", help="write the document as JSON; - is stdout, without the table"
    )
    bench.add_argument(
        "--markdown", metavar="FILE|-", help="write the tables; - is stdout, without the table"
    )
    bench.add_argument(
        "--output", type=Path, metavar="DIR", help="write bench.json, bench.md and bench.html there"
    )


def _run(options: argparse.Namespace) -> int:
    from lockstep.harness.benchmark import (
        against,
        document,
    )
    from lockstep.harness.documents.files import writable_folder
    from lockstep.harness.environment.manifest import manifest
    from lockstep.harness.publish import (
        bench_folder as folder,
    )
    from lockstep.harness.report import (
        bench_markdown as markdown,
    )
    from lockstep.harness.report import (
        bench_terminal as render,
    )

    old = _baseline(options)
    for target in (options.json, options.markdown):
        check_target(target)
    if options.output is not None:
        writable_folder(options.output)
    result = _measured(options)
    benchmark = document.to_document(result, manifest(), _command(options))
    if old is not None:
        benchmark["against"] = against.compare(benchmark, old, options.fail_over)
    if options.output is not None:
        print(folder.sentence(folder.write(options.output, benchmark)), file=sys.stderr)
    write(options.json, document.dumps(benchmark))
    write(options.markdown, markdown.render(benchmark))
    if "-" not in (options.json, options.markdown):
        show(render.terminal(benchmark))
    return status(benchmark)


def _baseline(options: argparse.Namespace) -> dict[str, Any] | None:
    """The older document; options that exclude each other are refused before anything is timed."""
    from lockstep.backends.errors import LockstepError
    from lockstep.harness.benchmark import stored

    if options.json == options.markdown == "-":
        raise LockstepError("two outputs for one stdout", "--json - --markdown -", "write one to a file")
    if options.fail_over is not None and options.against is None:
        raise LockstepError(
            "--fail-over has no baseline", f"--fail-over {options.fail_over:g}", "give --against OLD.json"
        )
    if options.fail_over is not None and not options.fail_over >= 1:
        raise LockstepError(
            "--fail-over is not a ratio", repr(options.fail_over), "give a number from 1 on, as 1.10"
        )
    return None if options.against is None else stored.load(options.against)


def _measured(options: argparse.Namespace) -> Benchmark:
    from lockstep.harness.benchmark.bench import bench
    from lockstep.harness.benchmark.sizes import parse
    from lockstep.harness.commands.progress import Progress
    from lockstep.harness.runs.processes import side_by_side

    with Progress(quiet=False, doing="verifying") as progress:
        return bench(
            options.problems,
            backends=options.backend,
            dtypes=options.dtype,
            sizes=parse(options.sizes),
            threads=options.threads,
            width=options.width,
            time_limit=options.time_limit,
            quick=options.quick,
            certify=options.certify,
            notify=progress.note,
            progress=progress.advance,
            trainers=side_by_side,
        )


def status(benchmark: dict[str, Any]) -> int:
    """The exit status of a document."""
    from lockstep.harness.benchmark import (
        against,
    )
    from lockstep.harness.report import (
        bench_tables as tables,
    )

    if benchmark["interrupted"]:
        return INTERRUPTED
    if not benchmark["agrees"] or against.regressed(benchmark):
        return 1
    if against.unjudged(benchmark):
        return 3
    return NOISY if tables.noisy(benchmark) else 0


def _command(options: argparse.Namespace) -> str:
    """The shell command that measures the same again, without the output options."""
    words = ["lockstep", "bench", *options.problems]
    words += [f"--{flag}={value}" for flag in ("backend", "dtype") for value in getattr(options, flag) or ()]
    words += ["--sizes", *options.sizes] if options.sizes else []
    words += [] if options.threads is None else [f"--threads={options.threads}"]
    words += (
        ["--quick"]
        if options.quick
        else [f"--width={options.width:g}", f"--time-limit={options.time_limit:g}"]
    )
    words += ["--certify"] if options.certify else []
    return shlex.join(words)
