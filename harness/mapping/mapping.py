"""Which parameter of one side is which of the other, and in which layout: a list of links between (slices of) arrays."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterable
from collections.abc import Mapping as AnyMapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from lockstep.backends.errors import did_you_mean
from lockstep.backends.problem import Array, Arrays
from lockstep.harness.mapping.link import Link, MappingError, Slices, slice_shape, sliced
from lockstep.harness.mapping.written import links

Shapes = AnyMapping[str, tuple[int, ...]]


FREE = "it need not be linked"
"""How every reason ends for which a leftover name may stay unlinked."""

OPTIONAL = f"a buffer, or frozen; {FREE}"

LEFT_OUT = f"left out by you; {FREE}"


@dataclass(frozen=True)
class Mapping:
    """From the names of one side to the names of the other. Parameters must be linked in full, buffers may be.

    Attributes:
        links: in any order.
        left_over: names without a match -> their candidates on the other side, or the reason why there are none;
            names begin with ``left:`` or ``right:``.
        candidates: the same of names that must be linked, with how far the gradients of each candidate are off.
    """

    links: tuple[Link, ...]
    left_over: AnyMapping[str, tuple[str, ...]] = field(default_factory=dict)
    candidates: AnyMapping[str, tuple[str, ...]] = field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, value: Any) -> Mapping:
        """From a dict of names to names, or to dicts of a link's fields, or to lists of these; see docs/adopt.md.

        Raises:
            MappingError: it is none of these.
        """
        if isinstance(value, Mapping):
            return value
        if not isinstance(value, AnyMapping):
            raise MappingError("this is no mapping", type(value).__name__, "give a dict from names to names")
        return cls(tuple(links(value)))

    def check(self, left: Shapes, right: Shapes, optional: Collection[str] = ()) -> None:
        """Raise a MappingError unless every name is known, and every element stands in exactly one link.

        Args:
            left, right: shapes by name, parameters and buffers.
            optional: ``left:name`` and ``right:name`` of arrays that need not be linked.
        """
        for link in self.links:
            for side, name, shapes in (("left", link.left, left), ("right", link.right, right)):
                if name not in shapes:
                    raise MappingError(
                        f"the mapping names what the {side} side does not have",
                        repr(name),
                        did_you_mean(name, shapes) + f"it has {', '.join(shapes)}",
                    )
            self._check_link(link, left, right)
        for side, shapes in (("left", left), ("right", right)):
            self._check_covered(side, shapes, {*optional, *self.free})

    def _check_link(self, link: Link, left: Shapes, right: Shapes) -> None:
        for shape, slices in ((left[link.left], link.left_slice), (right[link.right], link.right_slice)):
            if not _inside(shape, slices):
                raise MappingError(
                    f"{link.left} and {link.right}: a slice is not within its array",
                    f"{sliced(slices)} of {shape}",
                    "give 0 <= start < stop <= length for each axis",
                )
        shapes = (
            slice_shape(left[link.left], link.left_slice),
            slice_shape(right[link.right], link.right_slice),
        )
        between = shapes[0] if link.reshape is None else link.reshape
        axes = tuple(range(len(between))) if link.transpose is None else link.transpose
        fits = math.prod(between) == math.prod(shapes[0]) and sorted(axes) == list(range(len(between)))
        if fits and link.reshape is None and len(shapes[0]) == len(shapes[1]):
            fits = _without_ones(between[axis] for axis in axes) == _without_ones(shapes[1])
        if not fits or math.prod(shapes[0]) != math.prod(shapes[1]):
            raise MappingError(
                f"{link.left} does not fit {link.right}",
                f"{shapes[0]} against {shapes[1]}{f' ({link.layout})' if link.layout else ''}",
                "give the transpose, reshape or slices under which they have one shape",
            )

    def _check_covered(self, side: str, shapes: Shapes, optional: Collection[str]) -> None:
        for name, shape in shapes.items():
            links = [one for one in self.links if getattr(one, side) == name]
            if not links and f"{side}:{name}" in optional:
                continue
            hits = np.zeros(shape, dtype=int)
            for link in links:
                hits[_index(getattr(link, f"{side}_slice"))] += 1
            if (hits != 1).any():
                what = (
                    "is not linked"
                    if not links
                    else "is linked in part"
                    if (hits == 0).any()
                    else "is linked twice"
                )
                other = "right" if side == "left" else "left"
                raise MappingError(
                    f"{name}, of the {side} side, {what}",
                    f"links to {', '.join(getattr(one, other) for one in links)}"
                    if links
                    else self._listed(f"{side}:{name}"),
                    self._fix(side, name),
                )

    def _listed(self, place: str) -> str:
        """The candidates of a leftover name."""
        candidates = self.candidates.get(place) or self.left_over.get(place, ())
        return f"candidates: {', '.join(candidates)}" if candidates else "no link that fits"

    def _fix(self, side: str, name: str) -> str:
        first = next(iter(self.left_over.get(f"{side}:{name}", ())), "its counterpart")
        pair = (name, first) if side == "left" else (first, name)
        return (
            f"link each of its numbers once: edit the file that `lockstep map -o FILE` writes, or give mapping= with, say, "
            f"{{{pair[0]!r}: {pair[1]!r}}}"
        )

    def to_right(self, arrays: Arrays, shapes: Shapes) -> dict[str, Array]:
        """The left side's arrays under the right side's names and in its layouts; arrays that are not linked are left out."""
        return self._moved(arrays, shapes, "left", "right")

    def to_left(self, arrays: Arrays, shapes: Shapes) -> dict[str, Array]:
        """The right side's arrays under the left side's names and in its layouts."""
        return self._moved(arrays, shapes, "right", "left")

    def _moved(self, arrays: Arrays, shapes: Shapes, here: str, there: str) -> dict[str, Array]:
        moved: dict[str, Array] = {}
        for link in self.links:
            source, target = getattr(link, here), getattr(link, there)
            if source not in arrays or target not in shapes:
                continue
            values = arrays[source][_index(getattr(link, f"{here}_slice"))]
            index = _index(getattr(link, f"{there}_slice"))
            out = moved.setdefault(target, np.empty(shapes[target], values.dtype))
            convert = link.to_right if there == "right" else link.to_left
            out[index] = convert(values, out[index].shape)
        return moved

    @property
    def open_parameters(self) -> list[str]:
        """The leftover names that must be linked."""
        return [name for name in self.left_over if name not in self.free]

    @property
    def free(self) -> dict[str, str]:
        """The leftover names that need not be linked, each with its reason."""
        return {
            name: one[0] for name, one in self.left_over.items() if len(one) == 1 and one[0].endswith(FREE)
        }

    @property
    def unconfirmed(self) -> tuple[Link, ...]:
        """The links that no gradient confirms; see `Link.unconfirmed`."""
        return tuple(one for one in self.links if one.unconfirmed)

    def without(self, *names: str) -> Mapping:
        """The mapping without these names or patterns (``ema.*``), of either side: what is not to be compared.

        A name of the other side goes with the one that it is linked to.

        Raises:
            MappingError: no name is like that.
        """
        every = {place for one in self.links for place in _places(one)} | {*self.left_over}
        for pattern in names:
            if not any(_like(place, pattern) for place in every):
                own = sorted(place.partition(":")[2] for place in every)
                raise MappingError(
                    "there is nothing to leave out of the mapping",
                    repr(pattern),
                    did_you_mean(pattern, own) + f"it has {', '.join(own)}",
                )
        out = {place for place in every for pattern in names if _like(place, pattern)}
        links = [one for one in self.links if not out.isdisjoint(_places(one))]
        out |= {place for one in links for place in _places(one)}
        return dataclasses.replace(
            self,
            links=tuple(one for one in self.links if one not in links),
            left_over={**self.left_over, **dict.fromkeys(sorted(out), (LEFT_OUT,))},
        )

    def replaced(self, old: Link, new: Link) -> Mapping:
        """The mapping with one link in place of another."""
        return dataclasses.replace(self, links=tuple(new if one == old else one for one in self.links))


def parts(link: Link, left: Array, right: Array) -> tuple[Array, Array]:
    """What a link pairs: the slice of its left array, and that of its right array in the layout of the left one."""
    part = left[_index(link.left_slice)]
    return part, link.to_left(right[_index(link.right_slice)], part.shape)


def _places(link: Link) -> tuple[str, str]:
    """Both names, with their sides."""
    return f"left:{link.left}", f"right:{link.right}"


def _like(place: str, pattern: str) -> bool:
    name = place.partition(":")[2]
    return name == pattern or fnmatchcase(name, pattern)


def _index(slices: Slices) -> tuple[slice, ...]:
    return tuple(slice(start, stop) for start, stop in slices)


def _inside(shape: tuple[int, ...], slices: Slices) -> bool:
    return len(slices) <= len(shape) and all(
        0 <= start < (length if stop is None else stop) <= length
        for (start, stop), length in zip(slices, shape, strict=False)
    )


def _without_ones(shape: Iterable[int]) -> tuple[int, ...]:
    return tuple(length for length in shape if length != 1)
