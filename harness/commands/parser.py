"""The parser of the command line: one subparser a command, each of which has a file of its own."""

from __future__ import annotations

import argparse

from lockstep.harness.commands import (
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

COMMANDS = (verify, diagnose, trainers, record, replay, selftest, report, bench, conform, members, doctor)
"""In the order of ``--help``."""


def parser() -> argparse.ArgumentParser:
    """The parser of the command line: one subparser a command."""
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

    def __call__(self, parser: argparse.ArgumentParser, *arguments: object) -> None:
        from lockstep.harness.environment.manifest import lockstep_version

        print(f"lockstep {lockstep_version()}")
        parser.exit()
