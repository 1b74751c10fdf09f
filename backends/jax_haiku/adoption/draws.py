"""The masks that JAX code draws, observed and replaced where its program calls `jax.random.bernoulli`: nothing of the code is changed.

Dropout of Haiku, of Flax, of Equinox and of plain JAX all come down to it. The code is traced, as `jax.jit` traces it, and the
program is run with the masks in place of its draws, in the order in which it makes them: a scan draws anew in each
iteration, of branches the one that is taken draws. A draw that is made again for a derivative (`jax.checkpoint`) gives the mask
that it gave before. Which draws are reached, `lockstep.backends.jax_haiku.adoption.programs` says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from lockstep.backends.adoption import Draw, other_draws
from lockstep.backends.jax_haiku.adoption.programs import Place, Replacing, recomputes
from lockstep.backends.problem import Array, Arrays

OTHERS = -1
"""The number of draws of a step, where one of them was of another shape than the mask in its place."""


class Tape(NamedTuple):
    """The draws so far.

    Attributes:
        count: how many.
        marks: (most, 2), of each the digest of key, probability and shape; empty where no draw is made again.
        record: what else is known of them.
    """

    count: Any
    marks: Any
    record: Any


class Draws(NamedTuple):
    """What is observed of draws, in their order: (most,) each."""

    places: Any
    probabilities: Any


def observed(function: Callable[..., Any], *arguments: Any) -> tuple[Draw, ...]:
    """The masks that ``function(*arguments)`` draws."""
    program = jax.make_jaxpr(function)(*arguments)
    places: list[tuple[str, tuple[int, ...]]] = []

    def drawn(equation: Any, values: Sequence[Any], place: Place, tape: Tape) -> tuple[Any, Tape]:
        shape = equation.outvars[0].aval.shape
        places.append((place.path, shape))
        before = tape.count
        at, tape = _counted(equation, values, place, tape)
        seen = Draws(jnp.int32(len(places) - 1), values[-1])

        def first(seen: Any, one: Any) -> Any:
            return seen.at[at].set(jnp.where(at < before, seen[at], one))

        record = jax.tree.map(first, tape.record, seen)
        return jnp.ones(shape, bool), tape._replace(record=record)

    replacing = Replacing(_is_draw, drawn)
    most = replacing.most(program)
    if not most:
        return ()

    @jax.jit
    def run(arguments: Any) -> Tape:
        record = Draws(jnp.zeros(most, jnp.int32), jnp.zeros(most))
        tape: Tape = replacing.run(program, jax.tree.leaves(arguments), _blank(program, most, record))[1]
        return tape

    tape = run(arguments)
    found = zip(*(np.asarray(one)[: int(tape.count)] for one in tape.record), strict=True)
    return tuple(
        Draw(places[at][0] or f"draw {number}", 1 - float(probability), places[at][1])
        for number, (at, probability) in enumerate(found)
    )


def replaced(function: Callable[..., Any], masks: Arrays) -> Callable[..., tuple[Any, Any]]:
    """The function with these masks in place of those that it would draw; it also gives how many it drew, for `check`."""
    if not masks:
        return lambda *arguments: (function(*arguments), jnp.int32(0))

    def masked(*arguments: Any) -> tuple[Any, Any]:
        program, result = jax.make_jaxpr(function, return_shape=True)(*arguments)
        stacks = _Stacks(masks)

        def drawn(equation: Any, values: Sequence[Any], place: Place, tape: Tape) -> tuple[Any, Tape]:
            at, tape = _counted(equation, values, place, tape)
            mask, fits = stacks.mask(at, equation.outvars[0].aval.shape)
            return mask, tape._replace(record=tape.record & fits)

        replacing = Replacing(_is_draw, drawn)
        tape = _blank(program, replacing.most(program), jnp.bool_(True))
        values, tape = replacing.run(program, jax.tree.leaves(arguments), tape)
        number = jnp.where(tape.record, tape.count, OTHERS)
        return jax.tree.unflatten(jax.tree.structure(result), values), number

    return masked


def check(name: str, number: Any, masks: Arrays) -> None:
    """Raise an AdoptionError unless the masks were drawn, each in a draw of its shape.

    Args:
        name: of the trainer.
        number: what `replaced` gave.
        masks: those of the step.
    """
    if masks and int(number) != len(masks):
        got = "one of another shape" if int(number) == OTHERS else f"{int(number)}, where {len(masks)} were"
        raise other_draws(name, got)


class _Stacks:
    """Masks by shape, to be taken by their place among all: which one that is may be known on the way only."""

    def __init__(self, masks: Arrays) -> None:
        ordered = [masks[key] for key in sorted(masks, key=int)]
        self._count = len(ordered)
        shapes = [np.shape(one) for one in ordered]
        self._stacks = {
            shape: jnp.stack([one for one in ordered if np.shape(one) == shape]) for shape in set(shapes)
        }
        self._rows = {shape: _rows([one == shape for one in shapes]) for shape in self._stacks}

    def mask(self, at: Any, shape: tuple[int, ...]) -> tuple[Any, Any]:
        """The mask at a place, and whether it is of this shape; any where there is none left."""
        if shape not in self._stacks:
            return jnp.ones(shape, bool), at >= self._count
        row = jnp.asarray(self._rows[shape])[jnp.clip(at, 0, self._count - 1)]
        mask = lax.dynamic_index_in_dim(self._stacks[shape], jnp.maximum(row, 0), keepdims=False)
        return mask.astype(bool), (row >= 0) | (at >= self._count)


def _rows(mine: Sequence[bool]) -> Array:
    """(masks,) the row of each in the stack of its shape; -1 for those that are of another."""
    return np.where(mine, np.cumsum(mine) - 1, -1).astype(np.int32)


def _blank(program: Any, most: int, record: Any) -> Tape:
    return Tape(jnp.int32(0), jnp.zeros((most if recomputes(program) else 0, 2), jnp.uint32), record)


def _counted(equation: Any, values: Sequence[Any], place: Place, tape: Tape) -> tuple[Any, Tape]:
    """The place of a draw among all, and the tape after it; of one that is made again that of the first time."""
    at, count = tape.count, tape.count + 1
    if not len(tape.marks):
        return at, tape._replace(count=count)
    mark = _mark(values[0], values[-1], equation.outvars[0].aval.shape)
    if place.recomputed:
        same = (tape.marks == mark).all(1) & (np.arange(len(tape.marks)) < tape.count)
        at = jnp.where(same.any(), jnp.argmax(same).astype(at.dtype), at)
        count = jnp.where(same.any(), tape.count, count)
    return at, tape._replace(count=count, marks=tape.marks.at[at].set(mark))


def _mark(key: Any, probability: Any, shape: tuple[int, ...]) -> Any:
    """(2,) a digest of what a mask is a function of."""
    rate = lax.bitcast_convert_type(jnp.float32(lax.stop_gradient(probability)), jnp.uint32)
    words = jnp.concatenate([jax.random.key_data(key).reshape(-1), rate[None], np.array(shape, np.uint32)])
    odd = 2 * np.random.default_rng(0).integers(0, 2**31, (2, len(words)), dtype=np.uint32) + 1
    return (words * odd).sum(1, dtype=jnp.uint32)


def _is_draw(equation: Any) -> bool:
    """Whether it is a call of `jax.random.bernoulli` with one probability for all elements."""
    if equation.params.get("name") != "_bernoulli" or len(equation.outvars) != 1:
        return False
    key, probability, mask = equation.invars[0].aval, equation.invars[-1].aval, equation.outvars[0].aval
    is_key = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    return bool(is_key and not probability.shape and mask.dtype == bool)
