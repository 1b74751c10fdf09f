"""Foreign values in an error, cut to a length that can be read."""

from __future__ import annotations


def shortened(value: object) -> str:
    """A value as text, the first 200 characters of it."""
    text = repr(value)
    return text if len(text) <= 200 else text[:200] + " ..."
