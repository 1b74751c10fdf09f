"""Arrays by name against others: the same to the bit, near within a share of the largest magnitude, in the right form."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lockstep.backends.problem import Array, Arrays
from lockstep.backends.protocol import Snapshot
from lockstep.harness.conformance.check import expect
from lockstep.harness.runs.stages import fields


def same(what: str, found: Arrays, expected: Arrays) -> None:
    """Names in the same order, and each array the same in dtype, shape and every bit."""
    _names(what, found, expected)
    for name, value in expected.items():
        _form(f"{what}: {name}", found[name], value)
        one, other = np.asarray(found[name]), np.asarray(value)
        # Bits, not values: -0.0 is not 0.0, and a NaN is itself.
        expect(one.tobytes() == other.tobytes(), f"{what}: {name} the same to the bit", _apart(one, other))


def near(what: str, found: Arrays, expected: Arrays, room: float) -> None:
    """The same names and forms, and values within `room` times each array's largest magnitude."""
    _names(what, found, expected)
    for name, value in expected.items():
        one, other = np.asarray(found[name]), np.asarray(value)
        _form(f"{what}: {name}", one, other)
        scale = float(np.abs(other).max(initial=0.0))
        close = bool(np.isfinite(one).all() and (np.abs(one - other) <= room * scale).all())
        expect(
            close,
            f"{what}: {name} within {room:.2g} of its largest magnitude {scale:.3g}",
            _apart(one, other),
        )


def same_state(what: str, found: Snapshot, expected: Snapshot) -> None:
    """Two snapshots that are the same to the bit, their counts included."""
    same(what, fields(found), fields(expected))


def near_state(what: str, found: Snapshot, expected: Snapshot, room: float) -> None:
    """Two snapshots that are near, their counts the same."""
    expect(found.step == expected.step, f"{what}: {expected.step} batches seen", found.step)
    near(what, fields(found), fields(expected), room)


def canonical(what: str, found: Arrays, shapes: Mapping[str, tuple[int, ...]], dtype: str) -> None:
    """Names sorted and as expected, each an array of its own in shape, dtype and C order."""
    expect(list(found) == sorted(shapes), f"{what}: the names {sorted(shapes)}, sorted", list(found))
    for name, shape in shapes.items():
        value = found[name]
        expect(isinstance(value, np.ndarray), f"{what}: {name} a NumPy array", type(value).__name__)
        expect(value.dtype == dtype, f"{what}: {name} in {dtype}", value.dtype)
        expect(value.shape == shape, f"{what}: {name} of shape {shape}", value.shape)
        expect(value.flags.c_contiguous, f"{what}: {name} contiguous, in C order", "another memory layout")


def _names(what: str, found: Arrays, expected: Arrays) -> None:
    expect(list(found) == list(expected), f"{what}: the names {list(expected)}", list(found))


def _form(what: str, found: Array, expected: Array) -> None:
    one, other = ((np.asarray(value).dtype, np.asarray(value).shape) for value in (found, expected))
    expect(one == other, f"{what} of dtype {other[0]} and shape {other[1]}", f"{one[0]} and {one[1]}")


def _apart(found: Array, expected: Array) -> str:
    """The element that is furthest off."""
    with np.errstate(all="ignore"):
        off = np.abs(found.astype(np.float64) - expected)
    place = np.unravel_index(int(np.argmax(np.where(np.isnan(off), np.inf, off))), off.shape)
    where = f" at {tuple(map(int, place))}" if place else ""
    return f"{found[place]!r} for {expected[place]!r}{where}"
