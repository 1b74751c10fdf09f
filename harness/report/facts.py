"""An environment as facts: the path to each, and its value in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def facts(environment: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Each fact with the path to it: ``backends / torch / version``."""
    for key, value in environment.items():
        yield from _facts(str(key), value)


def _facts(path: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, (dict, list)) and value:
        pairs = value.items() if isinstance(value, dict) else enumerate(value, 1)
        for key, one in pairs:
            yield from _facts(f"{path} / {key}", one)
    else:
        yield path, _word(value)


def _word(value: Any) -> str:
    if value is None or value in ({}, []):
        return "none"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
