"""What an optimizer keeps for each parameter, and which slot of one side's names what the other's names."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from lockstep.backends.problem import Arrays
from lockstep.harness.adopt.state_names import ends

COUNT = "step"
"""How many updates were made."""

SYNONYMS = (
    (COUNT, "count"),
    ("exp_avg", "mu", "m", "grad_avg"),
    ("exp_avg_sq", "nu", "v", "square_avg", "exp_inf", "e_g"),
    ("max_exp_avg_sq", "nu_max"),
    ("momentum_buffer", "trace"),
    ("sum", "sum_of_squares"),
    ("acc_delta", "e_x"),
    ("step_size", "step_sizes"),
)
"""Names of one quantity in torch's and Optax' optimizers: averages of gradients and of their squares, Adadelta's of updates, ..."""


@dataclass(frozen=True)
class Slot:
    """An array per parameter.

    Attributes:
        name: of the quantity; where the side has several of that name, all of the path.
        arrays: parameter -> the array's name in the state.
    """

    name: str
    arrays: Mapping[str, str]


def slots_of(state: Collection[str], parameters: Collection[str]) -> list[Slot]:
    """The slots of a state.

    Arrays of one quantity at several places are one slot where no two are of one parameter: an optimizer per group of parameters.

    Args:
        state: the names of its arrays.
        parameters: the names of all parameters.
    """
    paths: dict[str, dict[str, str]] = {}
    for name in sorted(state):
        parameter = next((end for end in ends(name) if end in parameters), None)
        if parameter is not None:
            path = name.removesuffix(parameter).removesuffix("/")
            paths.setdefault(path, {})[parameter] = name
    quantities: dict[str, list[str]] = {}
    for path in paths:
        quantities.setdefault(quantity(path), []).append(path)
    return [slot for name, places in quantities.items() for slot in _joined(name, places, paths)]


def _joined(name: str, places: Sequence[str], paths: Mapping[str, Mapping[str, str]]) -> Iterator[Slot]:
    arrays = {parameter: array for place in places for parameter, array in paths[place].items()}
    if len(arrays) == sum(len(paths[place]) for place in places):
        yield Slot(name, arrays)
    else:
        yield from (Slot(place, paths[place]) for place in places)


def quantity(path: str) -> str:
    """What a slot is called everywhere: ``exp_avg`` of ``0/mu``; where its last word says nothing, the path."""
    word = re.split(r"[/.]", path)[-1].partition(":")[0].lower()
    if not word or word.isdigit():
        return path
    return next((names[0] for names in SYNONYMS if word in names), word)


Pair = tuple[str, str]
"""The names of two arrays, of the left state and of the right one."""


def shared(left: Slot, right: Slot, ours: Arrays, theirs: Arrays) -> list[Pair]:
    """The arrays of two slots that are of one parameter and in one shape."""
    return [
        (name, right.arrays[parameter])
        for parameter, name in left.arrays.items()
        if parameter in right.arrays and ours[name].shape == theirs[right.arrays[parameter]].shape
    ]


def by_name(left: Iterable[Slot], right: Iterable[Slot]) -> list[tuple[Slot, Slot]]:
    """The slots of one name."""
    named = {one.name: one for one in right}
    return [(one, named[one.name]) for one in left if one.name in named]


def counts_of(state: Arrays, slots: Iterable[Slot]) -> list[tuple[str, ...]]:
    """The counts of updates, each with the names under which it is kept: torch keeps one for each parameter."""
    per_parameter = [tuple(one.arrays.values()) for one in slots if quantity(one.name) == COUNT]
    in_slots = {name for one in slots for name in one.arrays.values()}
    alone = [(name,) for name in state if name not in in_slots and quantity(name) == COUNT]
    return [names for names in (*per_parameter, *alone) if _is_one_count(state, names)]


def _is_one_count(state: Arrays, names: Iterable[str]) -> bool:
    values = [state[name] for name in names]
    return all(one.ndim == 0 and float(one).is_integer() and one == values[0] for one in values)
