"""The self-test's figures of this version, as every report cites them. Imports nothing of the self-test."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any


@cache
def stored() -> dict[str, Any] | None:
    """The figures that were stored last (`lockstep.harness.selftest.figures`); None where there are none."""
    file = files("lockstep.harness").joinpath("selftest/figures.json")
    if not file.is_file():
        return None
    score: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return score
