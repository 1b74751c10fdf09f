"""What the other side of a pair of adopted trainers does otherwise: read off the stage that parts, confirmed by training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

import numpy as np

from lockstep.backends.problem import Array, Arrays
from lockstep.backends.protocol import Trace
from lockstep.harness.adopt.alteration import Alteration, explains
from lockstep.harness.adopt.lockstep import Seen
from lockstep.harness.adopt.remapping import remappings
from lockstep.harness.adopt.task import Task, rows_of
from lockstep.harness.adopt.training import Side, held
from lockstep.harness.core.tolerance import Judge
from lockstep.harness.diagnose.explain import Confirmed

ALIKE = {"float64": 1e-9, "float32": 1e-4}
"""How near, of the largest magnitude, two arrays are that an explanation makes equal; training confirms it."""

Change = Callable[[Array], Array]


def explain(
    task: Task, left: Side, right: Side, seen: Trace, tolerance: Judge, parted: Seen | None
) -> Confirmed | None:
    """The first explanation that training confirms, or None."""
    if parted is None:
        return None
    with np.errstate(all="ignore"):
        for one in _candidates(task, left, right, parted):
            with suppress(Exception):  # what the user's code raises on altered numbers explains nothing
                if explains(one, task, left, right, seen, tolerance, parted.step):
                    return Confirmed(one.name, one.does)
    return None


def _candidates(task: Task, left: Side, right: Side, parted: Seen) -> Iterator[Alteration]:
    near = ALIKE[task.dtype]
    yield from _loss(task, right, parted, near)
    yield from _gradients(task, right, parted, near)
    yield from _updates(right, parted, near)
    yield from _buffers(parted, near)
    if right.mapping is not None:
        yield from remappings(task, left, right, near)


def _loss(task: Task, right: Side, parted: Seen, near: float) -> Iterator[Alteration]:
    """The loss is a multiple of the reference's: another reduction, half squares."""
    ours, theirs = float(parted.left["loss"]), float(parted.right["loss"])
    if not ours or not np.isfinite(theirs / ours) or abs(theirs / ours - 1) <= near:
        return
    ratio = theirs / ours
    does = f"multiplies the loss by {_count(ratio, task, parted)}"
    yield Alteration("constant ratio", does, turn=_each(lambda name: lambda one: ratio * one), loss=ratio)


def _gradients(task: Task, right: Side, parted: Seen, near: float) -> Iterator[Alteration]:
    left, other = _kind("gradient", parted.left), _kind("gradient", parted.right)
    ratios = _differing(left, other, near)
    if not ratios:
        return
    whole = set(ratios.values())
    first = next(iter(ratios.values()))
    if len(ratios) == len(left) and first is not None and _equal(ratios.values(), near):
        does = f"multiplies its gradients by {_count(first, task, parted)}"
        yield Alteration(
            "sign" if first < 0 else "constant ratio", does, turn=_each(lambda name: _times(first))
        )
    if None not in whole:
        yield _per_parameter("constant ratio", right, "gradient", ratios)
    yield from _rearranged(right, left, other, ratios, near)


def _rearranged(
    right: Side, left: Arrays, other: Arrays, ratios: Mapping[str, float | None], near: float
) -> Iterator[Alteration]:
    """Each gradient that differs is the transposed one, or two are exchanged."""
    odd = [name for name, ratio in ratios.items() if ratio is None]
    turned = [name for name in odd if _square(left[name]) and _alike(left[name].T, other[name], near)]
    if turned and turned == odd:
        does = f"transposes the gradient of {', '.join(turned)}"
        change = dict.fromkeys(turned, np.transpose)
        yield Alteration("transposed gradient", does, turn=lambda grads: _changed(grads, change))
    if len(odd) == 2 and left[odd[0]].shape == left[odd[1]].shape:
        one, two = odd
        if _alike(left[one], other[two], near) and _alike(left[two], other[one], near):
            does = f"exchanges the gradients of {one} and {two}"
            yield Alteration("swapped", does, turn=lambda grads: {**grads, one: grads[two], two: grads[one]})


def _updates(right: Side, parted: Seen, near: float) -> Iterator[Alteration]:
    left, other = _kind("update", parted.left), _kind("update", parted.right)
    before = held(parted.before)
    ratios = _differing(left, other, 1e3 * near)
    if not ratios:
        return
    moved = [name for name in left if np.any(left[name])]
    first = next(iter(ratios.values()))
    if set(ratios) == set(moved) and first is not None and _equal(ratios.values(), near * 1e3):
        ratio = float(np.median([one for one in ratios.values() if one is not None]))
        does = f"updates {ratio:.6g} times as far: its learning rate is {ratio:.6g} times the reference's"
        yield Alteration("learning rate", does, settle=_scaled(dict.fromkeys(left, ratio)))
    if None not in ratios.values():
        factors = {name: one for name, one in ratios.items() if one is not None}
        told = ", ".join(
            f"never updates {name}" if one == 0 else f"updates {name} {one:.6g} times as far"
            for name, one in factors.items()
        )
        name = "parameter never updated" if not any(factors.values()) else "constant ratio"
        yield Alteration(name, told, settle=_scaled(factors))
    yield from _decay(right, left, other, before, near)


def _decay(right: Side, left: Arrays, other: Arrays, before: Arrays, near: float) -> Iterator[Alteration]:
    """What the updates are apart by is the same multiple of every parameter that they differ in."""
    shares = {}
    for name, value in left.items():
        apart = other[name] - value
        if np.any(before[name]) and np.abs(apart).max() > near * np.abs(value).max(initial=0.0):
            share = _ratio(before[name].astype(np.float64), apart, 1e4 * near)
            if share is None:
                return
            shares[name] = share
    if shares and _equal(shares.values(), 1e4 * near):
        share = float(np.median(list(shares.values())))
        more = "more" if share < 0 else "less"
        where = "" if len(shares) == len(left) else f" of {', '.join(shares)}"
        does = f"decays the weights{where} by {abs(share):.6g} of themselves {more} at each update"
        yield Alteration("weight decay", does, settle=_decaying(dict.fromkeys(shares, share)))


def _buffers(parted: Seen, near: float) -> Iterator[Alteration]:
    """Buffers move another way: the variance of n numbers for that of n − 1, another momentum.

    Both are (1 − m) b + m s u of the buffer b and a statistic u: what they are apart by is α times the one plus β times b.
    """
    left, other = _kind("buffers", parted.left), _kind("buffers", parted.right)
    before = parted.before.buffers
    fits, told = {}, []
    for name, value in left.items():
        if _alike(value, other[name], near):
            continue
        known = np.stack([value.ravel(), before[name].ravel()], axis=1).astype(np.float64)
        apart = (other[name].astype(np.float64) - value).ravel()
        solved, *_ = np.linalg.lstsq(known, apart, rcond=None)
        if len(apart) < 3 or not _alike(known @ solved, apart, 1e6 * near):
            return
        fits[name] = (float(solved[0]), float(solved[1]))
        told.append(f"{name} {_running(*fits[name])}")
    if fits:
        yield Alteration("running average", f"keeps another running average: {', '.join(told)}", drift=fits)


def _running(alpha: float, beta: float) -> str:
    """What the two coefficients mean."""
    if abs(alpha + beta) <= 1e-3 * abs(alpha):
        return f"moves {1 + alpha:.6g} times as far"
    n = 1 / abs(alpha) + (alpha > 0)
    if abs(n - round(n)) < 1e-3 * n:
        return f"divides the squares of {round(n)} numbers by {'n, not by n − 1' if alpha < 0 else 'n − 1, not by n'}"
    return f"is {1 + alpha:.6g} times the reference's, plus {beta:.6g} times what it was"


def _differing(left: Arrays, other: Arrays, near: float) -> dict[str, float | None]:
    """Names of what is not alike -> by what the other is a multiple of the reference's, or None."""
    return {
        name: _ratio(value, other[name], near)
        for name, value in left.items()
        if not _alike(value, other[name], near)
    }


def _ratio(left: Array, other: Array, near: float) -> float | None:
    a, b = left.astype(np.float64), other.astype(np.float64)
    square = float(np.sum(a * a))
    if not square:
        return None
    ratio = float(np.sum(a * b)) / square
    if not np.any(b):
        return 0.0
    return ratio if _alike(ratio * a, b, near) else None


def _alike(left: Array, other: Array, near: float) -> bool:
    a, b = left.astype(np.float64), other.astype(np.float64)
    largest = max(np.abs(a).max(initial=0.0), np.abs(b).max(initial=0.0))
    return bool(np.abs(a - b).max(initial=0.0) <= near * largest)


def _equal(ratios: object, near: float) -> bool:
    known = [one for one in ratios if one is not None]  # type: ignore[attr-defined]
    return bool(np.ptp(known) <= near * np.abs(known).max()) and len(known) == len(list(ratios))  # type: ignore[call-overload]


def _per_parameter(name: str, right: Side, what: str, ratios: Mapping[str, float | None]) -> Alteration:
    factors = {key: one for key, one in ratios.items() if one is not None}
    told = ", ".join(
        f"gives {key} no {what}" if one == 0 else f"multiplies the {what} of {key} by {one:.6g}"
        for key, one in factors.items()
    )
    change = {key: _times(one) for key, one in factors.items()}
    return Alteration(
        "no gradient" if not any(factors.values()) else name,
        told,
        turn=lambda grads: _changed(grads, change),
    )


def _count(ratio: float, task: Task, parted: Seen) -> str:
    """A ratio in words, with what the run has as many of."""
    batch = task.data[parted.step]
    rows = rows_of(batch)
    output = parted.left.get("forward/output")
    counts = {2.0: "two", float(rows): "the rows of a batch", -1.0: "the sign"}
    if output is not None:
        counts |= {float(output.size // max(rows, 1)): "the outputs", float(output.size): "all elements"}
    for count, what in counts.items():
        if abs(count) > 1 or count == -1:
            if np.isclose(ratio, count, rtol=1e-4):
                return f"{ratio:.6g}" + (f", as many as {what}" if count > 2 else "")
            if count > 1 and np.isclose(ratio, 1 / count, rtol=1e-4):
                return f"1/{count:g}" + (f", as many as {what}" if count > 2 else "")
    return f"{ratio:.6g}"


def _kind(kind: str, stages: Arrays) -> dict[str, Array]:
    return {name.partition("/")[2]: value for name, value in stages.items() if name.startswith(f"{kind}/")}


def _each(change: Callable[[str], Change]) -> Callable[[Arrays], Arrays]:
    return lambda grads: {name: change(name)(value).astype(value.dtype) for name, value in grads.items()}


def _changed(arrays: Arrays, changes: Mapping[str, Change]) -> dict[str, Array]:
    return {
        name: changes[name](value).astype(value.dtype) if name in changes else value
        for name, value in arrays.items()
    }


def _times(factor: float) -> Change:
    return lambda value: factor * value


def _scaled(factors: Mapping[str, float]) -> Callable[[Arrays, Arrays], Arrays]:
    return lambda before, after: {
        name: (before[name] + factors.get(name, 1.0) * (value.astype(np.float64) - before[name])).astype(
            value.dtype
        )
        for name, value in after.items()
    }


def _decaying(shares: Mapping[str, float]) -> Callable[[Arrays, Arrays], Arrays]:
    return lambda before, after: {
        name: (value + shares.get(name, 0.0) * before[name].astype(np.float64)).astype(value.dtype)
        for name, value in after.items()
    }


def _square(value: Array) -> bool:
    return value.ndim == 2 and value.shape[0] == value.shape[1] > 1
