"""Errors in three parts: what was wrong, what we got, what to do."""

from __future__ import annotations

import difflib
import re
import sysconfig
import traceback
from collections.abc import Iterable
from pathlib import Path

OWN = str(Path(__file__).parent.parent)
"""The folder of Lockstep's own code."""

FRAMEWORKS = re.compile(r"site-packages/(jax|jaxlib|flax|haiku|optax|equinox|torch|numpy|keras)/")
"""Files of code that a user's own code calls, and that calls it back."""


class LockstepError(Exception):
    """Base of every error that Lockstep raises on purpose.

    Args:
        what: what was wrong, naming the field, file or backend.
        got: the value that was given, as text.
        fix: what the reader can do about it.
    """

    def __init__(self, what: str, got: str, fix: str) -> None:
        super().__init__(what, got, fix)
        self.what = what
        self.got = got
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.what}\n  got: {self.got}\n  fix: {self.fix}"


class ProblemError(LockstepError):
    """A problem, or a part of it, is not valid."""


class UnknownNameError(LockstepError):
    """A name is in no registry: a backend, a problem, an op, a loss, an optimizer."""


class BackendUnavailableError(LockstepError):
    """A backend is known but its framework cannot be imported here."""


class DeviceUnavailableError(BackendUnavailableError):
    """Its framework is here, but not the device that it trains on: nothing that an installation could mend alone."""


class DatasetUnavailableError(LockstepError):
    """A problem's data come with a package that is not installed here."""


class UndecidedError(LockstepError):
    """What was asked for is not wrong, but could not be found out."""


class IllPosedError(UndecidedError):
    """There is nothing to find out: what was asked for has no definite value."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``did you mean 'torch'? `` if a known name is close to `name`, else nothing; to begin a fix with."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}? " if close else ""


def line_of(frames: Iterable[tuple[str, int]]) -> str:
    """``train.py:12``: the innermost line of the user's own, else the innermost of any; empty without any.

    Args:
        frames: (file, line), the innermost first.
    """
    listed = list(frames)
    own = [one for one in listed if is_users(one[0])]
    return next((f"{Path(file).name}:{line}" for file, line in own or listed), "")


def raised_in(error: BaseException) -> str:
    """`` (loss, line 12 of train.py)``: the last line of the user's own that was running, else the last one; empty without any."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [one for one in frames if is_users(one.filename)]
    if not frames:
        return ""
    frame = (own or frames)[-1]
    return f" ({frame.name}, line {frame.lineno} of {Path(frame.filename).name})"


def is_users(file: str) -> bool:
    """Whether a file is neither a framework's, nor Python's, nor our own."""
    if FRAMEWORKS.search(Path(file).as_posix()):
        return False
    installed = "-packages" in file  # inside of the standard library's folder, but no part of it
    library = file.startswith(sysconfig.get_path("stdlib")) and not installed
    return not (library or file.startswith((OWN, "<frozen")))
