"""Documents against the published schemas."""

from __future__ import annotations

from functools import cache

from jsonschema import Draft202012Validator

from harness.schema import Schema, load

WITHIN = {"report": ("bench",)}
"""Schema -> those of whole documents that may stand in one of its own."""


@cache
def validator(name: str) -> Draft202012Validator:
    """What finds where a document does not keep to a published schema; schemas that it refers to are at hand."""
    schema = load(name)
    others: Schema = {f"{other}.schema.json": load(other) for other in WITHIN.get(name, ())}
    return Draft202012Validator({**schema, "$defs": {**schema.get("$defs", {}), **others}})
