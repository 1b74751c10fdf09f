"""What a search leaves over: ambiguous parameters with their candidates, and those that the other side does not have, named as what they are."""

from __future__ import annotations

from collections.abc import Sequence

from lockstep.harness.mapping.link import Link
from lockstep.harness.mapping.mapping import FREE, OPTIONAL
from lockstep.harness.matching.search import Search
from lockstep.harness.matching.slices import ParameterSlice, pair_of

SIDES = "left", "right"

UNUSED = f"no loss depends on it, {FREE}"

LACKING = f"the {{}} side has no parameter like it, {FREE}"

TIED = f"the {{}} side has one parameter, {{}}, for this and {{}}, {FREE}"


Listed = dict[str, tuple[str, ...]]


def left_over(search: Search, links: Sequence[Link]) -> tuple[Listed, Listed]:
    """Names without a match -> their candidates, or the reason why there are none; and the candidates with their distances."""
    linked = {(side, getattr(one, name)) for one in links for side, name in enumerate(SIDES)}
    over: Listed = {}
    distances: Listed = {}
    for side, name in enumerate(SIDES):
        for one in search.open[side]:
            if (side, one.name) in linked and not one.slices:
                continue  # with what the other side has frozen
            candidates = _candidates(search, one, side)
            why = _reason(search, one, side, bool(candidates))
            over[f"{name}:{one}"] = (why,) if why else tuple(candidates)
            if not why:
                distances[f"{name}:{one}"] = tuple(candidates.values())
        over |= {f"{name}:{one}": (OPTIONAL,) for one in search.buffers[side] if (side, one) not in linked}
    return over, distances


def _candidates(search: Search, array_slice: ParameterSlice, side: int) -> dict[str, str]:
    """The other side's open slices of its size, or larger ones that it may be a part of; the same with their distances."""
    size = search.size(array_slice, side)
    sizes = {one: search.size(one, 1 - side) for one in search.open[1 - side]}
    candidates = {
        str(one): f"{one}{_off(search, array_slice, one, side)}"
        for one, other in sizes.items()
        if other == size
    }
    texts = [f"a part of {one}" for one, other in sizes.items() if other > size and other % size == 0]
    texts += [
        f"made of {one} and others" for one, other in sizes.items() if other < size and size % other == 0
    ]
    return candidates | {one: one for one in texts}


def _off(search: Search, array_slice: ParameterSlice, other: ParameterSlice, side: int) -> str:
    """How far the gradients of a candidate are off, in the layout in which they are the nearest."""
    pair = (array_slice, other) if side == 0 else (other, array_slice)
    distances = [search.last.distance(one) for one in search.layouts(*pair)]
    known = [one for one in distances if one is not None]
    return f" (its gradient is off by {min(known):.2g} of itself)" if known else " (it shows no gradient)"


def _reason(search: Search, array_slice: ParameterSlice, side: int, has_candidates: bool) -> str:
    """Why a parameter need not be linked; empty where it must.

    Args:
        search: that found no link for it, with gradients while all that is linked is.
        array_slice: the parameter; a slice of one that is linked in part must be, and where nothing is trained all must.
        side: its side.
        has_candidates: whether the other side has open parameters that it could be.
    """
    if array_slice.slices or not search.trains:
        return ""
    rivals = [
        one for one in search.open[1 - side] if search.size(one, 1 - side) == search.size(array_slice, side)
    ]
    if _unused(search, array_slice, side) and all(_unused(search, one, 1 - side) for one in rivals):
        return UNUSED
    if tie := next((one for one in search.ties if pair_of(one)[side] == array_slice), None):
        shared = pair_of(tie)[1 - side]
        partners = [str(pair_of(one)[side]) for one in search.links if pair_of(one)[1 - side] == shared]
        return TIED.format(SIDES[1 - side], str(shared), " and ".join(partners))
    return "" if has_candidates else LACKING.format(SIDES[1 - side])


def _unused(search: Search, array_slice: ParameterSlice, side: int) -> bool:
    """Whether no number of a parameter has a gradient, neither as it is nor under the last probe."""
    gradient = (search.last.left, search.last.right)[side][array_slice.name]
    return array_slice.name not in search.used[side] and not gradient.any()
