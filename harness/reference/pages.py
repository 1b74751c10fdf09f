"""The pages of the documentation that are written from the code: the command line, and the schemas.

``python -m lockstep.harness.reference.pages`` writes them; a test compares them with the code. No text of argparse's own goes into them:
its usage lines and their breaks change with Python's version and the terminal's width.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from lockstep.harness.commands.parser import parser
from lockstep.harness.documents.markup import code, plain, table
from lockstep.harness.documents.schema_page import schema_page

FOLDER = Path(__file__).resolve().parents[2] / "docs"

INTRODUCTION = """# The command line

Written by `make reference` from the parsers in `harness/commands/`; `lockstep COMMAND --help` prints the same.
"""

_REPEATED: Mapping[object, str] = {"*": "[{0} ...]", "+": "{0} [{0} ...]", "?": "[{0}]"}
"""How often an argument may occur -> how its usage is written."""


def command_line() -> str:
    """The page of all commands."""
    return INTRODUCTION + "\n" + "\n".join(_commands(parser())) + "\n"


def _commands(whole: argparse.ArgumentParser) -> Iterator[str]:
    (commands,) = (one for one in whole._actions if isinstance(one, argparse._SubParsersAction))
    summaries = {one.dest: one.help or "" for one in commands._choices_actions}
    yield from (plain(text) + "\n" for text in (whole.description, whole.epilog) if text)
    yield from table(
        ("command", "what it does"),
        ((f"[`{whole.prog} {name}`](#{whole.prog}-{name})", plain(summaries[name])) for name in summaries),
    )
    yield from _options(whole)
    for name in summaries:
        yield from _command(commands.choices[name], summaries[name])


def _command(command: argparse.ArgumentParser, summary: str) -> Iterator[str]:
    yield f"## {command.prog}\n"
    yield f"```text\n{usage(command)}\n```\n"
    yield plain(command.description or f"{summary[:1].upper()}{summary[1:]}.") + "\n"
    yield from table(
        ("argument", "what it is"),
        ((code(_positional(one)), plain(_help(one, command))) for one in command._get_positional_actions()),
    )
    yield from _options(command)


def _options(command: argparse.ArgumentParser) -> Iterator[str]:
    options = [one for one in command._get_optional_actions() if not isinstance(one, argparse._HelpAction)]
    yield from table(
        ("option", "what it does"), ((code(_option(one)), plain(_help(one, command))) for one in options)
    )


def usage(command: argparse.ArgumentParser) -> str:
    """The usage line: required arguments, and a mark for the options."""
    options = [one for one in command._get_optional_actions() if not isinstance(one, argparse._HelpAction)]
    required = [_option(one) for one in options if one.required]
    positional = [_positional(one) for one in command._get_positional_actions()]
    left = ["[options]"] if len(required) < len(options) else []
    return " ".join([command.prog, *positional, *required, *left])


def _positional(action: argparse.Action) -> str:
    return _REPEATED.get(action.nargs, "{0}").format(action.metavar or action.dest)


def _option(action: argparse.Action) -> str:
    value = "" if action.nargs == 0 else f" {_value(action)}"
    return ", ".join(f"{name}{value}" for name in action.option_strings)


def _value(action: argparse.Action) -> str:
    if action.metavar is None and action.choices is not None:
        return "|".join(map(str, action.choices))
    return _REPEATED.get(action.nargs, "{0}").format(action.metavar or action.dest.upper())


def _help(action: argparse.Action, command: argparse.ArgumentParser) -> str:
    return (action.help or "") % {**vars(action), "prog": command.prog}


PAGES: Mapping[str, Callable[[], str]] = {"command-line.md": command_line, "schema.md": schema_page}
"""File in docs/ -> the function that writes it."""


if __name__ == "__main__":
    for file, page in PAGES.items():
        (FOLDER / file).write_text(page(), encoding="utf-8")
