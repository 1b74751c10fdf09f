"""Links that a user wrote as a dict from names to names, or to dicts of a link's fields; see docs/adopt.md."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from numbers import Integral, Real
from typing import Any

from lockstep.harness.mapping.link import Link, MappingError

FIELDS = {one.name for one in dataclasses.fields(Link)} - {"left", "right"} | {"axis", "sizes"}
"""The fields of a link besides the name that it maps to."""


def links(written: Mapping[Any, Any]) -> Iterator[Link]:
    """The links of a dict; several names on one side are the slices along ``axis`` of the one on the other.

    Raises:
        MappingError: a field is unknown, or its value is not valid.
    """
    for left, entry in written.items():
        several = isinstance(entry, list) and all(isinstance(part, Mapping) for part in entry)
        for one in entry if several else [entry]:
            fields = dict(one) if isinstance(one, Mapping) else {"right": one}
            yield from _links(left, fields)


def _links(left: Any, fields: dict[str, Any]) -> Iterator[Link]:
    right = fields.pop("right", fields.pop("to", None))
    settings = {key: _tuples(value) for key, value in fields.items() if value is not None}
    pair = _names(left), _names(right)
    wrong = [key for key, value in settings.items() if key not in FIELDS or not _may_be(key, value)]
    if wrong or not all(pair):
        raise MappingError(
            f"the mapping of {left!r} is not valid",
            ", ".join(f"{key} {fields[key]!r}" for key in wrong) or f"{right!r} as what it maps to",
            f"give a name, or a dict with `to` and some of {', '.join(sorted(FIELDS))} (docs/adopt.md)",
        )
    axis, sizes = settings.pop("axis", 0), settings.pop("sizes", ())
    if len(pair[0]) == len(pair[1]) == 1:
        yield Link(pair[0][0], pair[1][0], **settings)
        return
    many, side = (pair[1], "left") if len(pair[0]) == 1 else (pair[0], "right")
    if len(sizes) != len(many) or 1 not in map(len, pair):
        raise MappingError(
            f"the mapping of {left!r} joins several arrays, but does not say how long each is",
            repr(sizes),
            f"give `sizes`, {len(many)} numbers along `axis`, and one name on the other side",
        )
    ends = itertools.accumulate(sizes, initial=0)
    for name, place in zip(many, itertools.pairwise(ends), strict=True):
        names: dict[str, Any] = {
            "left": pair[0][0],
            "right": pair[1][0],
            "right" if side == "left" else "left": name,
        }
        yield Link(**names, **{**settings, f"{side}_slice": (*((0, None),) * axis, place)})


def _may_be(key: str, value: Any) -> bool:
    """Whether a field may have the value."""
    if key == "axis":
        return _is_count(value)
    if key in ("by", "distance"):
        return isinstance(value, str if key == "by" else Real)
    if not isinstance(value, tuple):
        return False
    if key in ("left_slice", "right_slice"):
        return all(
            isinstance(one, tuple)
            and len(one) == 2
            and _is_count(one[0])
            and (one[1] is None or _is_count(one[1]))
            for one in value
        )
    return all(map(_is_count, value))


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and value >= 0


def _names(written: Any) -> tuple[str, ...]:
    """One name or several; empty where it is neither."""
    several = (written,) if isinstance(written, str) else written
    good = isinstance(several, (list, tuple)) and all(isinstance(one, str) for one in several)
    return tuple(several) if good else ()


def _tuples(value: Any) -> Any:
    """Lists as tuples, and NumPy's whole numbers as Python's."""
    if isinstance(value, (list, tuple)):
        return tuple(_tuples(one) for one in value)
    return int(value) if isinstance(value, Integral) and not isinstance(value, bool) else value
