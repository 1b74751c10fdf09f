"""The states of two adopted runs: what has a counterpart is compared, what has none is listed."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import numpy as np

from lockstep.backends.problem import Array
from lockstep.harness.adopt.renamed import UNLINKED
from lockstep.harness.core.compare import (
    STATE,
    Comparison,
    Run,
    compare_arrays,
    compare_whole,
    without_vacuous,
)
from lockstep.harness.core.distance import is_whole
from lockstep.harness.core.tolerance import AtLeast, Judge
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.explanations.each_step import LEAST_NUMBERS
from lockstep.harness.verification.conventions import Optimizers
from lockstep.harness.verification.result import BUFFER, OPTIMIZER, LeftOut
from lockstep.harness.verification.slots import Pair, Slot, by_name, counts_of, shared, slots_of

LOOKED_AT = 64
"""Numbers of an array that are looked at to see that they are not all the same."""


@dataclasses.dataclass(frozen=True)
class States:
    """What was compared of two states.

    Attributes:
        comparisons: an array each, under the left run's names.
        pairs: the arrays that were compared.
    """

    comparisons: list[Comparison]
    pairs: list[Pair]


def compared_states(
    blank: Comparison,
    left: Run,
    right: Run,
    tolerance: Judge,
    optimizers: Optimizers | None = None,
    by_convention: bool = True,
) -> States:
    """What both optimizers keep, and the buffers that hold whole numbers.

    Arrays that are no parameter's are paired by their names; slots (an array per parameter) by the name of the quantity, and those
    that no name pairs by what they hold: the same numbers, or the same up to one factor, as no other slot does. A pair by name that differs is a
    difference unless both optimizers make the same updates in spite of it (`Optimizers.differ`): then it is compared up
    to one factor, or not at all. The optimizer's arrays of one kind are computed together, so that a number of one of them
    may be off by the rounding of the largest of all.

    Args:
        blank: names the runs.
        left, right: two runs that trained, under the reference's names.
        tolerance: of what is not whole.
        optimizers: of both sides; without them nothing is known of their conventions.
        by_convention: False: a pair by name that differs is a difference in any case, while nobody has measured what rounding does.
    """
    return _Pairing(blank, left, right, tolerance, optimizers, by_convention).compared()


class _Pairing:
    """Two states on the way to being paired."""

    def __init__(
        self,
        blank: Comparison,
        left: Run,
        right: Run,
        tolerance: Judge,
        optimizers: Optimizers | None,
        by_convention: bool,
    ) -> None:
        self._blank, self._tolerance = blank, tolerance
        self._optimizers, self._by_convention = optimizers, by_convention
        self._ours, self._theirs = _states(left), _states(right)
        assert left.trace is not None
        parameters = left.trace.final.parameters
        self._left, self._right = (slots_of(one, parameters) for one in (self._ours, self._theirs))
        self._rows: list[Comparison] = []
        self._pairs: list[Pair] = []
        self._settled: tuple[set[str], set[str]] = set(), set()

    def compared(self) -> States:
        self._slots_by_name()
        self._arrays_by_name()
        for up_to_a_factor in (False, True):
            self._slots_by_value(up_to_a_factor)
        self._counts()
        rows = sorted(self._rows, key=lambda one: one.quantity)
        return States(without_vacuous(rows, self._ours), self._pairs)

    def _slots_by_name(self) -> None:
        for left, right in by_name(self._left, self._right):
            pairs = shared(left, right, self._ours, self._theirs)
            rows = self._compared(pairs)
            if _agree(rows) or not self._by_convention or self._differ(pairs):
                self._keep(rows, pairs)
            elif scaled := self._up_to_a_factor(pairs):
                self._keep(scaled, pairs)
            else:
                self._settle(pairs)

    def _arrays_by_name(self) -> None:
        same = [
            (name, name)
            for name, value in self._ours.items()
            if name in self._theirs and self._theirs[name].shape == value.shape
        ]
        for pair in same:
            if self._is_open(pair):
                self._keep(self._compared([pair]), [pair])

    def _slots_by_value(self, up_to_a_factor: bool) -> None:
        """Slots that hold the same, as no other does."""
        alike = self._up_to_a_factor if up_to_a_factor else self._compared
        found = [
            (left, right, rows, pairs)
            for left, right in itertools.product(self._left, self._right)
            if (pairs := self._telling(left, right)) and _agree(rows := alike(pairs))
        ]
        times = Counter(id(slot) for one in found for slot in one[:2])
        for left, right, rows, pairs in found:
            unique = times[id(left)] == times[id(right)] == 1
            if unique and not (up_to_a_factor and self._differ(pairs)):
                self._keep(rows, pairs)

    def _telling(self, left: Slot, right: Slot) -> list[Pair]:
        """The arrays of two slots; none where some are compared already, or where so few numbers could be the same by chance."""
        pairs = shared(left, right, self._ours, self._theirs)
        if not all(map(self._is_open, pairs)):
            return []
        numbers = {abs(float(one)) for name, _ in pairs for one in self._ours[name].flat[:LOOKED_AT]} - {0.0}
        return pairs if len(numbers) >= LEAST_NUMBERS else []

    def _counts(self) -> None:
        """Numbers of updates: that of one side may stand once for all parameters, or for several transforms."""
        ours, theirs = counts_of(self._ours, self._left), counts_of(self._theirs, self._right)
        for left, right in itertools.product(ours, theirs):
            if self._ours[left[0]] == self._theirs[right[0]]:
                self._keep_count(left, right)
        ours, theirs = (
            [names for names in counts if not settled.intersection(names)]
            for counts, settled in zip((ours, theirs), self._settled, strict=True)
        )
        if len(ours) == len(theirs) == 1 and self._differ([(ours[0][0], theirs[0][0])]):
            self._keep_count(ours[0], theirs[0])

    def _keep_count(self, left: Sequence[str], right: Sequence[str]) -> None:
        rows = [
            compare_whole(self._named(name), self._ours[name], self._theirs[right[0]])
            for name in left
            if name not in self._settled[0]
        ]
        self._keep(rows, [*((name, right[0]) for name in left), *((left[0], name) for name in right)])

    def _keep(self, rows: Iterable[Comparison], pairs: Sequence[Pair]) -> None:
        self._rows += rows
        self._pairs += pairs
        self._settle(pairs)

    def _settle(self, pairs: Iterable[Pair]) -> None:
        """They are compared, or known to be of another convention."""
        for pair in pairs:
            for settled, name in zip(self._settled, pair, strict=True):
                settled.add(name)

    def _is_open(self, pair: Pair) -> bool:
        return pair[0] not in self._settled[0] and pair[1] not in self._settled[1]

    def _differ(self, pairs: Collection[Pair]) -> bool:
        """Whether arrays that are not the same are a difference; see `Optimizers.differ`."""
        if self._optimizers is None:
            return True
        prefix = f"{STATE}/"
        return self._optimizers.differ(
            [(left.removeprefix(prefix), right.removeprefix(prefix)) for left, right in pairs]
        )

    def _up_to_a_factor(self, pairs: Collection[Pair]) -> list[Comparison]:
        """The arrays, the right ones divided by the one factor that fits best; none where that does not make them agree."""
        values = [(self._ours[left], self._theirs[right]) for left, right in pairs]
        if not all(np.isfinite(one).all() for pair in values for one in pair):
            return []
        doubles = [
            (one.astype(np.float64).ravel(), other.astype(np.float64).ravel()) for one, other in values
        ]
        product = sum(float(one @ other) for one, other in doubles)
        square = sum(float(one @ one) for one, _ in doubles)
        factor = product / square if square else 0.0
        rows = self._compared(pairs, factor) if factor else []
        return rows if _agree(rows) else []

    def _compared(self, pairs: Collection[Pair], factor: float = 1.0) -> list[Comparison]:
        """Arrays that are computed together, the right ones divided by a factor."""
        largest = max((_largest(self._ours[left]) for left, _ in pairs), default=0.0)
        rows = []
        for left, right in pairs:
            ours, theirs = self._ours[left], self._theirs[right]
            if is_whole(ours) and is_whole(theirs):
                rows.append(compare_whole(self._named(left), ours, theirs))
                continue
            if factor != 1.0:
                theirs = (theirs.astype(np.float64) / factor).astype(theirs.dtype)
            judge = AtLeast(self._tolerance, largest, right)
            one = dataclasses.replace(self._named(left), tolerance=judge)
            rows.append(compare_arrays(one, ours, theirs, ours.shape, str(ours.dtype)))
        return rows

    def _named(self, name: str) -> Comparison:
        return dataclasses.replace(self._blank, quantity=name)


def _agree(rows: Sequence[Comparison]) -> bool:
    return bool(rows) and all(one.verdict is Verdict.AGREE for one in rows)


def left_out(runs: Sequence[Run], compared: Mapping[str, Collection[str]]) -> tuple[LeftOut, ...]:
    """The buffers and the arrays of optimizers, by run, that are compared with no other run's.

    Args:
        runs: all that trained, the reference first.
        compared: the names of those that are, by run.
    """
    return tuple(one for run in runs for one in _left_out(run, compared.get(run.backend, ())))


def _left_out(run: Run, compared: Collection[str]) -> Iterator[LeftOut]:
    own = [name.removeprefix(f"{STATE}/") for name in _states(run) if name not in compared]
    assert run.trace is not None
    prefix = f"{UNLINKED}/"
    buffers = tuple(
        name.removeprefix(prefix) for name in run.trace.final.optimizer if name.startswith(prefix)
    )
    for kind, names in ((BUFFER, buffers), (OPTIMIZER, tuple(own))):
        if names:
            yield LeftOut(run.backend, kind, tuple(sorted(names)))


def _states(run: Run) -> dict[str, Array]:
    """What its optimizer keeps, and its buffers of whole numbers, by quantity."""
    assert run.trace is not None
    final = run.trace.final
    state = {
        f"{STATE}/{name}": value
        for name, value in final.optimizer.items()
        if not name.startswith(f"{UNLINKED}/") and value.size
    }
    return {**{name: value for name, value in final.buffers.items() if is_whole(value)}, **state}


def _largest(array: Array) -> float:
    """The largest finite magnitude."""
    return float(np.abs(array[np.isfinite(array)].astype(np.float64)).max(initial=0.0))
