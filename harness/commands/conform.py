"""``lockstep conform``: whether a backend keeps to the protocol."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from lockstep.backends.errors import LockstepError, UnknownNameError, did_you_mean
from lockstep.harness.commands.output import check_target, show, write

if TYPE_CHECKING:
    from lockstep.backends.protocol import Backend
    from lockstep.harness.conformance import Check

LONGEST = 1_000_000
"""Seconds; a thread cannot wait for ever."""


def add(commands: Any) -> None:
    """Adds the command's parser."""
    conform = commands.add_parser(
        "conform",
        help="check a backend against the protocol, rule by rule",
        description="Check a backend against the protocol: each rule has a name, a reason and a remedy. Exit status: "
        "0 every rule that was checked is kept; 1 some are broken; 3 nothing could be checked.",
    )
    conform.set_defaults(run=_run)
    conform.add_argument(
        "backend",
        nargs="?",
        metavar="NAME|MODULE:ATTRIBUTE",
        help="a registered backend (`lockstep list`), or a class or function that returns one, imported from here",
    )
    conform.add_argument(
        "--check", action="append", metavar="NAME", help="this check only; repeat it; default: all"
    )
    conform.add_argument(
        "--list", action="store_true", help="list the checks with their reasons, and check nothing"
    )
    conform.add_argument(
        "--limit",
        type=float,
        default=300.0,
        metavar="SECONDS",
        help="time limit of one check on one problem; a check that exceeds it is reported as hanging, and the command ends; default: 300",
    )
    conform.add_argument(
        "--json", metavar="FILE|-", help="write the results as JSON; - is stdout, without the table"
    )


def _run(options: argparse.Namespace) -> int:
    from lockstep.harness.conformance import check_backend, document, table
    from lockstep.harness.conformance.watch import Watch

    checks = _checks(options.check)
    if options.list:
        show(table.rules(checks))
        return 0
    check_target(options.json)
    if not 0 < options.limit < LONGEST:
        raise LockstepError(
            "--limit is not a valid time limit", f"{options.limit}", f"give seconds, below {LONGEST}"
        )
    with Watch(options.limit) as watch:
        watch("the backend's own module")
        report = check_backend(_backend(options.backend), checks, watch)
    write(options.json, json.dumps(document.to_document(report), indent=1, ensure_ascii=False) + "\n")
    if options.json != "-":
        show(table.render(report))
    return report.verdict.exit_status


def _checks(names: list[str] | None) -> list[Check]:
    from lockstep.harness.conformance import CHECKS

    known = {one.name: one for one in CHECKS}
    for name in names or ():
        if name not in known:
            raise UnknownNameError(
                "unknown check", repr(name), f"{did_you_mean(name, known)}known checks: {', '.join(known)}"
            )
    return [one for one in CHECKS if names is None or one.name in names]


def _backend(name: str | None) -> Backend:
    """A backend by its registered name or by where its class is."""
    from lockstep import backends

    if name is None:
        raise LockstepError("no backend was named", "nothing", "name one: `lockstep list` lists them")
    if name in backends.known() or not _is_target(name):
        return backends.load(name)
    from lockstep.harness.adopt.factories import imported
    from lockstep.harness.runs.free_run import RAISED

    try:
        backend: Backend = imported(name)()
    except LockstepError:
        raise
    except RAISED as error:  # whatever the user's class raises
        raise LockstepError(
            "the backend cannot be built",
            f"{name}: {type(error).__name__}: {error}",
            "give MODULE:ATTRIBUTE of a class or function that, called without arguments, returns a backend",
        ) from error
    return backend


def _is_target(name: str) -> bool:
    """Whether it is written as MODULE:ATTRIBUTE; a mistyped mode of a registered backend is no module."""
    from lockstep import backends

    module, colon, _ = name.partition(":")
    return bool(colon) and module not in backends.known()
