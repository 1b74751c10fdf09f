"""A user's own whole JAX step, and the state that it takes and returns, as a trainer."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lockstep.backends.adoption import AdoptionError, Tree, check_names, common_dtype
from lockstep.backends.jax_haiku.adoption.objects import Carried, carried
from lockstep.backends.jax_haiku.adoption.on_jax import OnJax, needs_x64
from lockstep.backends.jax_haiku.adoption.parts import as_array, named, written
from lockstep.backends.jax_haiku.adoption.places import places_of
from lockstep.backends.problem import Array, Arrays, Batch
from lockstep.backends.protocol import Scalar, Snapshot
from lockstep.backends.steps import Call, Chosen, GivenStep, Step, UndividedTrainer, defined_in, loss_of

DELETED = "make the state anew, or adopt it before you train: a step that donates its state uses it up"


class StepState(NamedTuple):
    """The user's state, and the number of its next step."""

    tree: Tree
    step: int


class JaxStep(OnJax, UndividedTrainer):
    """See `lockstep.adopt_step`.

    Args:
        step: the user's function.
        state: theirs: a copy is taken at once, for a step may use it up.
        chosen: which leaves are parameters; None where they are found.
        name: what reports call it.
    """

    generator = ""

    def __init__(self, step: Step, state: Tree, chosen: Chosen, name: str) -> None:
        self.name, self._step = name, step
        self._carried: Carried | None = carried(state)
        self._call = Call(name, step, state)
        tree = state if self._carried is None else self._carried.tree
        self._parts = len(state) if type(state) is tuple and self._carried is None else 0
        self._places = places_of(name, tree, chosen)
        self._paths = {place: at for at, place in self._places.items()}
        leaves = named(tree)
        kinds = {place.name: leaves[at] for at, place in self._places.items() if place.kind == "parameters"}
        self.dtype = common_dtype(name, {one: str(leaf.dtype) for one, leaf in kinds.items()})
        self._x64 = needs_x64(self.dtype)
        self._known: set[Any] = set()
        self._shapes = _shapes(tree)
        try:
            with self._precision():
                self._start = _copied(tree)
        except RuntimeError as error:
            raise AdoptionError(f"{name}: its state was used up", str(error)[:200], DELETED) from error

    def redrawn(self) -> JaxStep | None:
        return None

    def init(self) -> StepState:
        with self._precision():
            return StepState(_copied(self._start), 0)

    def step(self, state: StepState, batch: Batch) -> tuple[StepState, Scalar]:
        with self._precision():
            x, y = jax.tree.map(jnp.asarray, (batch.x, batch.y))
            if self._carried is None:
                tree, rest = self._parted(self._step(*self._call.arguments(state.tree, x, y)))
            else:
                objects = self._carried.objects(state.tree)
                rest = self._step(*self._call.arguments(objects, x, y))
                tree = self._carried.tree_of(objects)
            loss = loss_of(self.name, self._step, rest, self.dtype)
            self._check(tree)
            return StepState(tree, state.step + 1), loss

    def read(self, state: StepState) -> Snapshot:
        kinds: dict[str, dict[str, Array]] = {
            kind: {} for kind in ("parameters", "optimizer", "buffers", "extra")
        }
        leaves = named(state.tree)
        for (kind, name), at in sorted(self._paths.items()):
            kinds[kind][name] = as_array(leaves[at])
        return Snapshot(step=state.step, **kinds)

    def write(self, state: StepState, snapshot: Snapshot) -> StepState:
        check_names(
            self.name, snapshot.parameters, [one.name for one in self._paths if one.kind == "parameters"]
        )
        arrays: Arrays = {
            at: value
            for kind in ("parameters", "optimizer", "buffers", "extra")
            for name, value in getattr(snapshot, kind).items()
            if (at := self._paths.get((kind, name))) is not None  # type: ignore[call-overload]
        }
        with self._precision():
            return StepState(written(state.tree, arrays), snapshot.step)

    def _parted(self, result: Any) -> tuple[Tree, Any]:
        """The new state among what a step returns, and the rest: the part, or for a tuple's parts the parts, of the state's form."""
        parts = list(result) if type(result) in (tuple, list) else [result]
        width = self._parts if self._parts and len(parts) > self._parts else 0
        for at in range(len(parts) - width + 1 if width else 0):
            taken = tuple(parts[at : at + width])
            if _shapes(taken) == self._shapes:
                return taken, _alone(parts[:at] + parts[at + width :])
        for at, one in enumerate(parts):
            if _shapes(one) == self._shapes:
                return one, _alone(parts[:at] + parts[at + 1 :])
        raise self._other(result)

    def _other(self, result: Any) -> AdoptionError:
        """The error of a result that holds no state of the form that was given."""
        parts = [*result, tuple(result)] if isinstance(result, (tuple, list)) and result else [result]
        nearest = max((_shapes(one) for one in parts), key=lambda one: len(one.keys() & self._shapes.keys()))
        odd = [at for at in {**self._shapes, **nearest} if self._shapes.get(at) != nearest.get(at)]
        got = ", ".join(
            f"{at or 'the state'}: {self._shapes.get(at, 'nothing')} before, {nearest.get(at, 'nothing')} after"
            for at in odd[:4]
        )
        return AdoptionError(
            f"{self.name}: its step returns no state of the form that it was given{defined_in(self._step)}",
            got if len(odd) < len(self._shapes) else type(result).__name__,
            "return the new state, whole and with the same names and shapes, and the loss: state, loss",
        )

    def _check(self, tree: Tree) -> None:
        """Raise an AdoptionError where objects that a step moves in place have another form after it."""
        form = jax.tree.structure(tree)
        if self._carried is not None and form not in self._known:
            if _shapes(tree) != self._shapes:
                raise self._other(tree)
            self._known.add(form)


def adopt_step(given: GivenStep) -> JaxStep | None:
    """The trainer of a step, where its state holds arrays of JAX; else None."""
    own = carried(given.state)
    tree = given.state if own is None else own.tree
    if not any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(tree)):
        return None
    return JaxStep(given.step, given.state, given.parameters, given.name)


def _copied(tree: Tree) -> Tree:
    """A copy that shares no memory with the tree: a step may give the memory of its state to what it returns."""
    leaves = named(tree)
    return written(tree, {at: as_array(leaf) for at, leaf in leaves.items() if isinstance(leaf, jax.Array)})


def _shapes(tree: Tree) -> dict[str, tuple[int, ...]]:
    return {at: np.shape(leaf) for at, leaf in named(tree).items() if not callable(leaf)}


def _alone(parts: list[Any]) -> Any:
    return parts[0] if len(parts) == 1 else tuple(parts)
