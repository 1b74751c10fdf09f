"""JSON from anywhere: only what RFC 8259 allows and all readers read alike: no NaN, no repeated name, limited depth."""

from __future__ import annotations

import json
import math
from typing import Any

from lockstep.backends.errors import LockstepError
from lockstep.harness.documents.shortening import shortened

DEEPEST = 64
"""Lists and objects within one another."""


class JsonError(LockstepError):
    """A text is not unambiguous JSON."""


def parse(content: bytes, largest: int) -> Any:
    """The value of a JSON text in UTF-8.

    Args:
        content: the text.
        largest: bytes that are looked at; a longer text is refused.

    Raises:
        JsonError: it is longer, is not JSON, or is ambiguous to other readers.
    """
    if len(content) > largest:
        raise JsonError("the text is too long", f"{len(content)} bytes", f"at most {largest} are read")
    try:
        text = content.decode()
        value = json.loads(
            text, object_pairs_hook=_object, parse_constant=_constant, parse_float=finite, parse_int=whole
        )
    except RecursionError as error:
        raise _too_deep() from error
    except ValueError as error:  # also not UTF-8, and numbers of 4300 digits
        raise JsonError("it is not JSON", shortened(str(error)), "write it again") from error
    if _depth(value) > DEEPEST:
        raise _too_deep()
    if r"\u" in text:
        _check_text(value)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {shortened(twice)} stands twice in one object")
    return value


def _constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON's")


def finite(digits: str) -> float:
    """A number with a fraction or an exponent; a ValueError where no float is so large."""
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits[:40]} is larger than any float")
    return value


def whole(digits: str) -> int:
    """A whole number; a ValueError where 64 bits do not hold it."""
    value = int(digits)
    if abs(value) >= 1 << 63:
        raise ValueError(f"{digits[:40]} is larger than 64 bits hold")
    return value


def _depth(value: Any) -> int:
    """Level by level, for a recursion could itself be too deep."""
    depth, level = 0, [value]
    while level:
        inner = [
            one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list)
        ]
        level = [item for container in inner for item in container]
        depth += bool(inner)
    return depth


def _check_text(value: Any) -> None:
    """Half of a surrogate pair, which an escape can give, can be neither printed nor written."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise JsonError("its text is not Unicode", shortened(str(error)), "write it again") from error


def _too_deep() -> JsonError:
    return JsonError("it is nested too deeply", f"more than {DEEPEST} levels", "write it again")
