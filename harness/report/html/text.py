"""Text from users, made safe for a page."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from lockstep.harness.documents import (
    figures,
)

NAME, TEXT = 80, 2000
"""Characters of a name and of any other text that are shown."""


def shown(value: Any) -> Any:
    """A value for a template: text without control characters and shortened; our own markup unchanged."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return figures.printable(_cut(value, TEXT))


def name(value: str) -> str:
    """A name short enough for a cell of a table."""
    return _cut(value, NAME)


def _cut(value: str, limit: int) -> str:
    return value if len(value) <= limit else f"{value[:limit]}… ({len(value)} characters)"
