"""Two parameters of a user's code that enter it as their sum alone, as one parameter: torch's two biases of an LSTM, where others have one.

Its name is both names with `PLUS` between. The state that a snapshot gives it has the sum in the first and 0 in the second:
nothing depends on how the sum is split, but for rules that use the size of a parameter.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np

from lockstep.backends.adoption import Adopted, AdoptedTrainer, AdoptionError, Draw, Narrow
from lockstep.backends.problem import Array, Arrays, Batch
from lockstep.backends.protocol import NOTHING, Grads, Scalar, Snapshot, State
from lockstep.harness.adopt.side import step_of
from lockstep.harness.mapping.link import FLOOR
from lockstep.harness.mapping.names import PLUS


class Summed(AdoptedTrainer):
    """An adopted trainer with one parameter for each two that are summed.

    Args:
        trainer: the adopted code.
        sums: names of two parameters with `PLUS` between.

    Raises:
        AdoptionError: the trainer has no such two parameters of one shape.
    """

    def __init__(self, trainer: Adopted, sums: Iterable[str]) -> None:
        self._trainer = trainer
        self.pairs = {one: _halves(trainer, one) for one in sums}
        self.capabilities = trainer.capabilities

    @property
    def name(self) -> str:
        return self._trainer.name

    @property
    def dtype(self) -> str:
        return self._trainer.dtype

    @property
    def generator(self) -> str:
        return self._trainer.generator

    def environment(self) -> Mapping[str, str | int | bool]:
        return self._trainer.environment()

    def draws(self, batch: Batch) -> tuple[Draw, ...]:
        return self._trainer.draws(batch)

    def redrawn(self) -> Summed | None:
        other = self._trainer.redrawn()
        return None if other is None else Summed(other, self.pairs)

    def narrowed(self, batch: Batch) -> tuple[Narrow, ...]:
        return self._trainer.narrowed(batch)

    def widened(self) -> Summed:
        return Summed(self._trainer.widened(), self.pairs)

    def init(self) -> State:
        return self._trainer.init()

    def step(self, state: State, batch: Batch) -> tuple[State, Scalar]:
        return self._trainer.step(state, batch)

    def gradients(self, state: State, batch: Batch) -> tuple[State, Scalar, Grads]:
        return self._trainer.gradients(state, batch)

    def apply(self, state: State, grads: Grads) -> State:
        return self._trainer.apply(state, grads)

    def clipped(self, state: State, grads: Grads) -> Arrays:
        clipped = self._trainer.clipped(state, grads)
        return self._joined(clipped) if clipped else clipped

    def observe(
        self, state: State, batch: Batch, wanted: Collection[str], inject: Arrays = NOTHING
    ) -> Arrays:
        prefix = "gradient/"
        observed = self._trainer.observe(state, batch, wanted, inject)
        gradients = {
            name.removeprefix(prefix): value for name, value in observed.items() if name.startswith(prefix)
        }
        others = {name: value for name, value in observed.items() if not name.startswith(prefix)}
        return others | {f"{prefix}{name}": value for name, value in self._joined(gradients).items()}

    def predict(self, state: State, x: Array) -> Array:
        return self._trainer.predict(state, x)

    def read(self, state: State) -> Snapshot:
        own = self._trainer.read(state)
        second = {two for _, two in self.pairs.values()}
        first = {one: (joint, two) for joint, (one, two) in self.pairs.items()}
        parameters: dict[str, Array] = {}
        for name, value in own.parameters.items():
            if name in first:
                joint, two = first[name]
                parameters[joint] = value + own.parameters[two]
            elif name not in second:
                parameters[name] = value
        return dataclasses.replace(own, parameters=parameters)

    def write(self, state: State, snapshot: Snapshot) -> State:
        return self._trainer.write(
            state, dataclasses.replace(snapshot, parameters=self._halved(snapshot.parameters, second=0.0))
        )

    def read_grads(self, grads: Grads) -> Arrays:
        return self._joined(self._trainer.read_grads(grads))

    def write_grads(self, arrays: Arrays) -> Grads:
        return self._trainer.write_grads(self._halved(arrays, second=1.0))

    def _joined(self, gradients: Arrays) -> dict[str, Array]:
        """The gradient of a sum is that of each of the two."""
        joined = dict(gradients)
        for joint, (one, two) in self.pairs.items():
            if one in joined and two in joined:
                first, second = joined.pop(one), joined.pop(two)
                if not same_gradient(first, second, self.dtype):
                    raise AdoptionError(
                        f"{self.name}: {joint} is no sum that its code depends on alone",
                        f"{one} and {two} have other gradients",
                        "link the two one by one",
                    )
                joined[joint] = first
        return joined

    def _halved(self, arrays: Arrays, second: float) -> dict[str, Array]:
        """Arrays of the sums as those of the two; the second has `second` times the first's."""
        halved = {name: value for name, value in arrays.items() if name not in self.pairs}
        for joint, (one, two) in self.pairs.items():
            if joint in arrays:
                halved |= {one: arrays[joint], two: second * arrays[joint]}
        return halved


def same_gradient(one: Array, two: Array, dtype: str) -> bool:
    """Whether two gradients are the same but for rounding."""
    size = max(float(np.abs(one).max(initial=0.0)), float(np.abs(two).max(initial=0.0)))
    return bool(np.abs(one - two).max(initial=0.0) <= FLOOR[dtype] * size)


def with_sums(trainer: Adopted, names: Iterable[str], batch: Batch) -> Adopted:
    """The trainer, with one parameter for every two that these names sum.

    Raises:
        AdoptionError: two have other gradients on this batch, so that more than their sum matters.
    """
    sums = sorted({name for name in names if PLUS in name})
    if not sums:
        return trainer
    summed = Summed(trainer, sums)
    with step_of(trainer):
        _, _, grads = summed.gradients(summed.init(), batch)
        summed.read_grads(grads)
    return summed


def sums_of(trainer: Adopted) -> Sequence[str]:
    """The names of a trainer's parameters that are sums."""
    return [*trainer.pairs] if isinstance(trainer, Summed) else []


def _halves(trainer: Adopted, joint: str) -> tuple[str, str]:
    parameters = trainer.read(trainer.init()).parameters
    halves = joint.split(PLUS)
    shapes = {parameters[one].shape for one in halves if one in parameters}
    if len(halves) != 2 or not all(one in parameters for one in halves) or len(shapes) != 1:
        raise AdoptionError(
            f"{trainer.name}: the mapping names a sum that there is not",
            repr(joint),
            f"give the names of two parameters of one shape with {PLUS!r} between; it has {', '.join(parameters)}",
        )
    return halves[0], halves[1]
