"""Arrays of a bundle by their names, taken out as they are read, so that arrays that nobody reads are noticed."""

from __future__ import annotations

from collections.abc import Mapping

from lockstep.backends.problem import Array
from lockstep.harness.bundle.archive import BundleError
from lockstep.harness.documents.shortening import shortened


def take(left: dict[str, Array], prefix: str) -> dict[str, Array]:
    """The arrays under a prefix, which are taken out."""
    return {name.removeprefix(prefix): left.pop(name) for name in [*left] if name.startswith(prefix)}


def taken(arrays: dict[str, Array], name: str) -> Array:
    """The array of this name, which must be there and is taken out."""
    if name not in arrays:
        raise BundleError("an array is missing", repr(name), "record it again")
    return arrays.pop(name)


def some(arrays: dict[str, Array], prefix: str) -> dict[str, Array]:
    """Those under a prefix, of which there must be one."""
    named = take(arrays, prefix)
    if not named:
        raise BundleError("arrays are missing", repr(prefix), "record it again")
    return named


def nothing_left(arrays: Mapping[str, Array]) -> None:
    """Raise a BundleError where an array was not taken out."""
    if arrays:
        raise BundleError("it holds an array of nothing", shortened(next(iter(arrays))), "record it again")
