"""Documents against the published schemas."""

from __future__ import annotations

from functools import cache
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from lockstep.harness.documents.schema import Schema, load

GOT = 120
"""Characters of what was found that an error repeats."""

WITHIN = {"report": ("bench",)}
"""Schema -> those of whole documents that may stand in one of its own."""


@cache
def validator(name: str) -> Draft202012Validator:
    """What finds where a document does not keep to a published schema; schemas that it refers to are at hand."""
    schema = load(name)
    others: Schema = {f"{other}.schema.json": load(other) for other in WITHIN.get(name, ())}
    return Draft202012Validator({**schema, "$defs": {**schema.get("$defs", {}), **others}})


def fault(name: str, told: Any) -> tuple[str, str] | None:
    """Where a document does not keep to a published schema, and how; None where it does."""
    error = best_match(validator(name).iter_errors(told))
    return None if error is None else (f"{error.json_path:.{GOT}}", f"{error.message:.{GOT}}")
