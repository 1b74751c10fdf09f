"""The catalogue: problems by name, each with the reason it is there. One file a family."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lockstep.backends.errors import UnknownNameError, did_you_mean

if TYPE_CHECKING:
    from lockstep.backends.problem import Problem

FAMILIES = (
    "seed",
    "regression",
    "optimizers",
    "schedules",
    "clips",
    "penalties",
    "batches",
    "averages",
    "networks",
    "probes",
    "sizes",
    "nist",
    "datasets",
)


CORE = (
    "seed",
    "momentum",
    "adam",
    "adamw",
    "rmsprop",
    "logistic",
    "softmax",
    "schedule-cosine",
    "clip-norm",
    "minibatches",
    "accumulated",
    "batch-norm",
    "residual-mlp",
    "convolution",
    "attention",
    "probe-small",
    "probe-spike",
    "probe-double",
    "nist-norris",
    "diabetes",
)
"""One or two problems of each kind: a check of a whole installation in a minute or two."""


class Entry(NamedTuple):
    """One problem of the catalogue.

    Attributes:
        make: builds it.
        reason: why it is there, in one line.
    """

    make: Callable[[], Problem]
    reason: str


@cache
def catalogue() -> dict[str, Entry]:
    """All problems by name, family by family."""
    catalogued: dict[str, Entry] = {}
    for family in FAMILIES:
        problems: dict[str, Entry] = importlib.import_module(
            f"lockstep.harness.problems.families.{family}"
        ).PROBLEMS
        catalogued.update(problems)
    return catalogued


def find(wanted: str | Path) -> Problem:
    """A problem by its name in the catalogue or by the path of its file.

    Args:
        wanted: a name; a Path, and a string that ends in ``.toml`` or names an existing file, is a path.

    Raises:
        UnknownNameError: it is neither.
        ProblemError: its file is not valid.
    """
    from lockstep.harness.problems.file import read

    path = Path(wanted)
    if isinstance(wanted, Path) or path.suffix == ".toml":
        return read(path)
    if wanted in catalogue():
        return catalogue()[wanted].make()
    if path.is_file():
        return read(path)
    hint = did_you_mean(wanted, catalogue())
    raise UnknownNameError(
        "unknown problem",
        repr(wanted),
        f"{hint}give a name from `lockstep list` or the path of a .toml file",
    )
