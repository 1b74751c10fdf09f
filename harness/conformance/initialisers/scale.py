"""The size of what is drawn as the formula that it seems to have: 1/√64, where 64 is the fan in."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

Shape = tuple[int, ...]
Counts = Mapping[float, str]
"""Number -> what it counts: 64 -> `the fan in`."""

OF_BOUNDS = (1, 3, 6)
"""The k of bounds √(k/n) of a uniform distribution: torch's layers, LeCun and, with n the mean fan, Glorot, and He."""

OF_DEVIATIONS = (1, 2)
"""The k of standard deviations √(k/n): LeCun and, with n the mean fan, Glorot; He."""

ROUND = tuple(digit * 10.0**power for power in range(-4, 3) for digit in (1, 2, 3, 4, 5, 6, 8))
"""Sizes that are written as they are."""


@dataclass(frozen=True)
class Scale:
    """A size and how it may have been formed.

    Attributes:
        square: its square in words, `2/64` or `0.02²`.
        text: itself, `√(2/64)` or `0.02`.
        note: what the numbers count; empty where there is none.
        score: how unlikely the formula is, from 0; infinite of a size that is written as it is.
    """

    square: str
    text: str
    note: str = ""
    score: float = math.inf


def scale(value: float, accuracy: float, counts: Counts, factors: Sequence[int]) -> Scale:
    """What a size may be.

    Args:
        value: the size.
        accuracy: how far it may be off, as a share of it.
        counts: numbers on which it may depend.
        factors: the k of the formulas √(k/n) that are known.
    """

    def near(other: float) -> bool:
        return abs(value / other - 1) <= accuracy

    if near(1.0):
        return Scale("1", "1")
    formulas = [one for one in _formulas(counts, factors) if near(one[0])] if accuracy <= 0.1 else []
    if formulas:
        # Of two that are about as near, the likelier, which comes first.
        scores = [
            (4 * math.log(value / size) / accuracy) ** 2 + rank for rank, (size, _) in enumerate(formulas)
        ]
        best = formulas[scores.index(min(scores))][0]
        same = [one for size, one in formulas if math.isclose(size, best)]
        return replace(_either(same), score=min(scores))
    number = next((one for one in ROUND if near(one)), value) if accuracy <= 0.1 else value
    return Scale(f"{number:.3g}²", f"{number:.3g}")


def _either(formulas: Sequence[Scale]) -> Scale:
    """The first of several that are the same number here, with the second as another way to read it."""
    first, *others = formulas
    if not others:
        return first
    return replace(first, note=f"{first.note} (or {others[0].text}, {others[0].note})")


def _formulas(counts: Counts, factors: Sequence[int]) -> Iterator[tuple[float, Scale]]:
    for count, label in counts.items():
        if count > 1:
            note = f"{count:g} {label}"
            for factor in factors:
                root = f"1/√{count:g}" if factor == 1 else f"√({factor}/{count:g})"
                yield math.sqrt(factor / count), Scale(f"{factor}/{count:g}", root, note)
            yield 1 / count, Scale(f"1/{count:g}²", f"1/{count:g}", note)
            yield math.sqrt(count), Scale(f"{count:g}", f"√{count:g}", note)


def counts_of(
    name: str,
    shape: Shape,
    siblings: Mapping[str, Shape],
    fans: Callable[[str, Shape], tuple[int, int] | None],
) -> Counts:
    """The numbers on which the size of a parameter may depend, what comes first is likelier.

    Args:
        name: of the parameter.
        shape: its shape.
        siblings: shapes of the other parameters of its module: that of a bias depends on the weight.
        fans: as the framework counts them.
    """
    counts: dict[float, str] = {}
    for one, its in ((name, shape), *siblings.items()):
        both = fans(one, its) if len(its) > 1 else None
        if both is None:
            continue
        owner = "" if one == name else f" of {one}"
        for number, label in (
            (both[0], f"the fan in{owner}"),
            (both[1], f"the fan out{owner}"),
            (sum(both) / 2, f"the mean of fan in and fan out{owner}"),
        ):
            counts.setdefault(number, label)
    if not counts or len(shape) > 2:
        for one, its in ((name, shape), *siblings.items()):
            owner = "" if one == name else f" of {one}"
            for axis, length in enumerate(its):
                counts.setdefault(length, f"the length of axis {axis}{owner}")
    return counts
