"""The command line. Data go to stdout, everything else to stderr.

Exit status: 2 for usage and bad input; else 1 if anything differs; else 3 if anything could not be judged
(inconclusive, an error, a backend skipped, fewer than two backends); else 0.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress

from backends.errors import LockstepError
from harness.commands import (
    bench,
    conform,
    diagnose,
    doctor,
    members,
    record,
    replay,
    report,
    selftest,
    trainers,
    verify,
)
from harness.verdict import Verdict

USAGE_ERROR = 2

COMMANDS = (verify, diagnose, trainers, record, replay, selftest, report, bench, conform, members, doctor)
"""In the order of ``--help``; each has a file of its own."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status."""
    if sys.stdout is None:  # closed by the caller, as `>&-` does
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
    try:
        try:
            options = parser().parse_args(arguments)
            status = _run(options)
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


def _run(options: argparse.Namespace) -> int:
    """The command's status; code of the user's that ends the process does not choose it."""
    try:
        status: int = options.run(options)
    except SystemExit as error:
        print(
            f"error: code that was to be run ended the process\n  got: sys.exit({error.code!r})\n"
            "  fix: name a function that returns, and guard a script's own run by `if __name__ == '__main__'`",
            file=sys.stderr,
        )
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
    for command in COMMANDS:
        command.add(commands)
    return parser


class _Version(argparse.Action):
    """Prints the version; it is looked up only then."""

    def __call__(self, parser: argparse.ArgumentParser, *given: object) -> None:
        from harness.manifest import lockstep_version

        print(f"lockstep {lockstep_version()}")
        parser.exit()
