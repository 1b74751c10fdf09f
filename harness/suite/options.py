"""The names that a test run requests: checked before anything trains, with the reason where it is not available."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from lockstep import backends
from lockstep.backends.errors import ProblemError
from lockstep.backends.problem import DTYPES
from lockstep.harness.core.tolerance import choose
from lockstep.harness.problems import catalogue, find
from lockstep.harness.verification.result import Result

DEFAULTS: dict[str, Collection[str]] = {"backends": backends.entries(), "dtypes": DTYPES}
"""The defaults of the options."""


def check(key: str, values: Any) -> None:
    """Refuse what `lockstep.verify` would refuse as its argument `key`: ``problems``, ``backends``, ...

    Raises:
        LockstepError: it is no list, an empty one, or names what is not known.
    """
    if key == "tolerance":
        choose(DTYPES[0], kind=values)
    elif isinstance(values, (str, bytes)) or not isinstance(values, Iterable) or not list(values):
        raise ProblemError(f"{key} is not a list of {key}", repr(values), f"write {key}=[...]")
    else:
        for one in values:
            _check_one(key, one)


def _check_one(key: str, one: Any) -> None:
    if key == "dtypes" and one not in DTYPES:
        raise ProblemError("dtype is not offered", repr(one), f"give one of {', '.join(DTYPES)}")
    if key == "backends" and isinstance(one, str):
        backends.entry(one)
    if key == "problems" and isinstance(one, (str, Path)) and one not in catalogue():
        find(one)


def absent(backend: Any) -> str:
    """Why a backend cannot run here, with the command that fixes it; empty where it can."""
    missing = backends.missing_modules(backend) if isinstance(backend, str) else []
    if not missing:
        return ""
    return f"{backend}: no module named {', '.join(missing)}; {backends.entry(backend).install_command}"


def untrained(result: Result) -> str:
    """Each reason why a backend did not train, once, with what to do about it."""
    reasons = (
        f"{run.backend}: {run.reason}; {run.fix}".removesuffix("; ") for run in result.runs if not run.trace
    )
    return " / ".join(dict.fromkeys(reasons))
