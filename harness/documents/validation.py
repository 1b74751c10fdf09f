"""Documents against the published schemas."""

from __future__ import annotations

from functools import cache
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from lockstep.harness.documents.schema import Schema, load

GOT = 120
"""Characters of the actual value that an error quotes."""

WITHIN = {"report": ("bench",)}
"""Schema -> schemas of whole documents that its documents may contain."""


@cache
def validator(name: str) -> Draft202012Validator:
    """The validator of a published schema, with the schemas that it refers to."""
    schema = load(name)
    others: Schema = {f"{other}.schema.json": load(other) for other in WITHIN.get(name, ())}
    return Draft202012Validator({**schema, "$defs": {**schema.get("$defs", {}), **others}})


def fault(name: str, document: Any) -> tuple[str, str] | None:
    """The place where a document violates a published schema, and how; None where it is valid."""
    error = best_match(validator(name).iter_errors(document))
    return None if error is None else (f"{error.json_path:.{GOT}}", f"{error.message:.{GOT}}")
