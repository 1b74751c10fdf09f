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

from lockstep.backends.errors import LockstepError
from lockstep.harness.commands.parser import parser
from lockstep.harness.core.verdict import Verdict

USAGE_ERROR = 2


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
    """The command's status, even if the user's code ends the process."""
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
    """Discard buffered output, so that Python's exit does not fail on it again."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
