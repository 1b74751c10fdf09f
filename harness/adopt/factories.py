"""Factories of trainers, named on the command line as ``module:function`` and imported from the user's own code."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lockstep.backends.adoption import Adopted, AdoptionError
from lockstep.backends.errors import LockstepError, did_you_mean

NEEDED = ("name", "dtype", "init", "step", "gradients", "apply", "read", "write", "draws", "redrawn")
"""Attributes that a trainer must have, among others."""


@dataclass(frozen=True)
class FactoryResult:
    """The result of a factory.

    Attributes:
        trainer: the adopted code.
        batches: those that came with it, or None.
    """

    trainer: Adopted
    batches: Iterable[Any] | None


def imported(target: str) -> Callable[[], Any]:
    """The function that ``module:function`` names; modules are also looked for in the current folder.

    Raises:
        AdoptionError: it is not of that form, cannot be imported, or is not callable.
    """
    module, colon, attribute = target.partition(":")
    if not (module and colon and attribute):
        raise AdoptionError(
            "this names no factory", repr(target), "give module:function, as mypackage.training:make"
        )
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        named: Any = importlib.import_module(module)
    except (
        Exception,
        SystemExit,
    ) as error:  # the user's own module may raise anything, and exit where it is a script
        raise AdoptionError(
            f"{target}: the module cannot be imported",
            f"{type(error).__name__}: {error}",
            "run in the folder that holds it, or in an environment in which it is installed; what a script does when it is "
            'run must stand under `if __name__ == "__main__":`',
        ) from error
    for part in attribute.split("."):
        if not hasattr(named, part):
            raise AdoptionError(
                f"{target}: the module has no such function",
                repr(part),
                did_you_mean(part, dir(named)) + "name one that is defined in it",
            )
        named = getattr(named, part)
    if not callable(named):
        raise AdoptionError(
            f"{target}: it is no function", type(named).__name__, "name a function without arguments"
        )
    factory: Callable[[], Any] = named
    return factory


def build(target: str) -> FactoryResult:
    """The trainer that a factory returns, and the batches if it returns (trainer, batches).

    Raises:
        AdoptionError: it cannot be imported or called, or gives something else.
    """
    value = _called(target)
    trainer, batches = value if isinstance(value, tuple) and len(value) == 2 else (value, None)
    check_trainer(target, trainer)
    return FactoryResult(trainer, batches)


def check_trainer(what: str, trainer: object) -> None:
    """Raise an AdoptionError unless it has the attributes of a trainer."""
    missing = [name for name in NEEDED if not hasattr(trainer, name)]
    if missing:
        raise AdoptionError(
            f"{what}: this is no trainer",
            f"{type(trainer).__name__}, without {', '.join(missing)}",
            "give what lockstep.adopt_torch, adopt_jax, adopt_numpy or adopt_step returns; a factory returns that, or that and "
            "the batches",
        )


def build_batches(target: str) -> Iterable[Any]:
    """The batches that a factory of batches returns.

    Raises:
        AdoptionError: it cannot be imported or called.
    """
    batches = _called(target)
    if not isinstance(batches, Iterable):
        raise AdoptionError(
            f"{target}: what it gives are no batches",
            type(batches).__name__,
            "return a list of pairs (x, y), or a generator",
        )
    return batches


def _called(target: str) -> Any:
    """The value that a factory returns."""
    factory = imported(target)
    module, _, function = target.partition(":")
    try:
        return factory()
    except LockstepError:
        raise
    except (Exception, SystemExit) as error:
        raise AdoptionError(
            f"{target}: it failed",
            f"{type(error).__name__}: {str(error)[:500]}",
            f"a factory is called without arguments; to see where: python -c 'import {module}; {module}.{function}()'",
        ) from error
