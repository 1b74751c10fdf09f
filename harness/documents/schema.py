"""The JSON Schemas: of the problem file (built from the tables of `lockstep.backends.ops`) and of the files that commands write.

``python -m lockstep.harness.documents.schema`` writes the problem's anew; a test compares it with the tables.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from lockstep.backends.ops import (
    AVERAGES,
    CLIPS,
    FUNCTIONS,
    LOSSES,
    OPTIMIZERS,
    PENALTIES,
    SCHEDULES,
    Argument,
    Op,
    Rule,
)

Schema = dict[str, Any]

_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string"}
_NUMBERS: Schema = {"type": "array", "items": {"anyOf": [{"type": "number"}, {"$ref": "#/$defs/numbers"}]}}


PARTS = ("diagnosis", "selftest")
"""Documents that are described within the report's schema."""


def load(name: str) -> Schema:
    """A published schema: ``problem``, ``report``, ``bundle``, ``list``, ``conventions``; ``diagnosis`` and ``selftest`` are parts of
    ``report``.
    """
    if name in PARTS:
        report = load("report")
        return {"$schema": report["$schema"], "$ref": f"#/$defs/{name}", "$defs": report["$defs"]}
    text = files("lockstep.harness").joinpath(f"schemas/{name}.schema.json").read_text(encoding="utf-8")
    schema: Schema = json.loads(text)
    return schema


def problem_schema() -> Schema:
    """The schema of a problem file, from the tables."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Lockstep problem file",
        "description": "One training run: data, model, loss, optimizer, epochs, initial parameters.",
        "type": "object",
        "required": ["name", "data", "model", "loss", "optimizer", "epochs"],
        "additionalProperties": False,
        "properties": {
            "name": {"type": "string", "minLength": 1, "description": "its name in reports"},
            "epochs": {"type": "integer", "minimum": 1, "description": "passes over the data, 1 or more"},
            "data": _data_schema(),
            "model": {
                "type": "array",
                "minItems": 1,
                "description": "the layers, applied in order",
                "items": {"$ref": "#/$defs/layer"},
            },
            "loss": _member_schema("name", LOSSES),
            "optimizer": _member_schema("name", OPTIMIZERS),
            "schedule": _member_schema("name", SCHEDULES),
            "clip": _member_schema("name", CLIPS),
            "penalties": {
                "type": "array",
                "description": "a list of penalties on the parameters, added to the loss",
                "items": _member_schema("name", PENALTIES),
            },
            "accumulation": {
                "type": "integer",
                "minimum": 1,
                "default": 1,
                "description": "batches an update, their gradients averaged, an int >= 1",
            },
            "average": _member_schema("name", AVERAGES),
            "batching": {
                "type": "object",
                "description": "how the rows are dealt to steps; without it all at once",
                "required": ["size"],
                "additionalProperties": False,
                "properties": {
                    "size": {"type": "integer", "minimum": 1, "description": "rows a batch, an int >= 1"},
                    "shuffle": {
                        "type": "integer",
                        "minimum": 0,
                        "description": "seed of the order, an int >= 0",
                    },
                    "keep_last": {
                        "type": "boolean",
                        "default": True,
                        "description": "whether a short last batch is trained on",
                    },
                },
            },
            "initial": {
                "type": "object",
                "description": "parameters before the first step by canonical name (0.linear/w); "
                "those not given are drawn from `seed` (0)",
                "properties": {"seed": {"type": "integer", "minimum": 0, "description": "an int >= 0"}},
                "additionalProperties": {"$ref": "#/$defs/numbers"},
            },
        },
        "$defs": {
            "numbers": {**_NUMBERS, "description": "a list of numbers, or of equally long rows"},
            "layer": _member_schema("op", FUNCTIONS),
        },
    }


def _data_schema() -> Schema:
    source = {
        "description": "rows of numbers; or the path of a .npy file; or, with `file`, the columns of a .csv "
        "(a list of names) or the array in a .npz (its name)",
        "anyOf": [
            {"$ref": "#/$defs/numbers"},
            {"type": "string", "minLength": 1},
            {"type": "array", "minItems": 1, "items": {"type": "string"}},
        ],
    }
    return {
        "type": "object",
        "required": ["x", "y"],
        "additionalProperties": False,
        "properties": {
            "file": {"type": "string", "description": "a .csv or .npz, relative to the problem file"},
            "x": source,
            "y": source,
        },
    }


_BRANCHES: Schema = {
    "type": "array",
    "minItems": 1,
    "items": {"type": "array", "items": {"$ref": "#/$defs/layer"}},
    "description": "chains of layers over the same input, as [[{ op = ... }, ...], ...]",
}


def _member_schema(key: str, table: Mapping[str, Rule]) -> Schema:
    """A table that names one member under `key` and gives its arguments, and perhaps a preset, next to it."""
    branches = [
        {"if": {"required": [key], "properties": {key: {"const": name}}}, "then": _row_schema(key, rule)}
        for name, rule in table.items()
    ]
    return {
        "type": "object",
        "required": [key],
        "properties": {key: {"enum": list(table)}},
        "allOf": branches,
    }


def _row_schema(key: str, rule: Rule) -> Schema:
    """The arguments of one member; with a preset none is required, for that is known only once it is looked up."""
    arguments = {name: _argument_schema(one) for name, one in rule.arguments.items()}
    if isinstance(rule, Op) and rule.join is not None:
        arguments["branches"] = _BRANCHES
    required = [name for name, one in arguments.items() if "default" not in one]
    schema: Schema = {"required": required, "additionalProperties": False, "properties": {}}
    schema["properties"] = {key: {"description": rule.doc}, **arguments}
    if rule.presets:
        words = "whose default arguments to begin with; one of " + ", ".join(map(repr, rule.presets))
        schema["properties"]["preset"] = {"enum": list(rule.presets), "description": words}
        described = {name: {"description": arguments[name]["description"]} for name in required}
        without = {"required": schema.pop("required"), "properties": described}
        schema |= {"if": {"required": ["preset"]}, "else": without} if required else {}
    return schema


def _argument_schema(argument: Argument) -> Schema:
    words = f"{argument.doc}; {argument.describe()}"
    if argument.many:
        items = _argument_schema(dataclasses.replace(argument, many=False))
        return {"type": "array", "minItems": 1, "items": items, "description": words}
    schema: Schema = {"type": _TYPES[argument.kind], "description": words}
    for keyword, bound in (
        ("exclusiveMinimum", argument.above),
        ("minimum", argument.at_least),
        ("exclusiveMaximum", argument.below),
    ):
        if bound is not None:
            schema[keyword] = bound
    if argument.choices:
        schema["enum"] = list(argument.choices)
    if argument.default is not None:
        schema["default"] = argument.default
    return schema


def dumps(schema: Schema) -> str:
    """The text of a schema file."""
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    (Path(__file__).parents[1] / "schemas" / "problem.schema.json").write_text(
        dumps(problem_schema()), encoding="utf-8"
    )
