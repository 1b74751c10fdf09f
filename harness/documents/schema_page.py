"""The published JSON Schemas as one page: a line for each field, from whatever the schemas hold."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.resources import files
from typing import Any, NamedTuple

from lockstep.harness.documents.markup import code, plain, table
from lockstep.harness.documents.schema import Schema, load

SUFFIX = ".schema.json"
FIRST = ("problem", "report")
"""The schemas that most readers need; the others follow by name."""

INTRODUCTION = """# Schemas

Written by `make reference` from the JSON Schemas (draft 2020-12) in `harness/schemas/`: of the problem file that
`lockstep verify` reads, and of what the commands write. In a field's name `[]` stands for each item of a list and `*` for
each name. NaN and infinities, which JSON does not have, are written as words.
"""

_BOUNDS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
    "minItems": "{} or more",
}
_ALTERNATIVES = ("anyOf", "oneOf")


class Field(NamedTuple):
    """One line: where a value stands, whether it must be there, and its schema."""

    path: str
    required: bool
    schema: Schema


class Choice(NamedTuple):
    """The fields next to a member's name: for each name under `key` at `path`, its own schema."""

    path: str
    key: str
    rows: Mapping[str, Schema]


def schema_page() -> str:
    """The page of all schemas."""
    names = {one.name.removesuffix(SUFFIX) for one in files("lockstep.harness").joinpath("schemas").iterdir()}
    ordered = [*FIRST, *sorted(names - set(FIRST))]
    return (
        INTRODUCTION
        + "\n"
        + "\n".join(line for name in ordered for line in lines_of(name, load(name)))
        + "\n"
    )


def lines_of(name: str, schema: Schema) -> Iterator[str]:
    """The lines of the page about one schema."""
    yield f"## {schema['title']}\n"
    yield f"{plain(schema.get('description', ''))} `harness/schemas/{name}{SUFFIX}`\n"
    yield from _section(name, schema, 3)
    for part, definition in schema.get("$defs", {}).items():
        yield f"### `{part}` of the {name}\n"
        if "description" in definition:
            yield plain(definition["description"]) + "\n"
        if not any(fields(definition)):
            yield f"{_type(name, definition)}\n"
        yield from _section(name, definition, 4)


def _section(name: str, schema: Schema, level: int) -> Iterator[str]:
    """The fields of one schema, then the choices of members in it."""
    yield from table(
        ("field", "", "type", "what it is"),
        (
            (
                code(one.path),
                _need(one.required),
                _type(name, one.schema),
                plain(one.schema.get("description", "")),
            )
            for one in fields(schema)
        ),
    )
    for choice in choices(schema):
        yield f"{'#' * level} {f'`{choice.path}`, by its ' if choice.path else 'By its '}`{choice.key}`\n"
        yield from table((f"`{choice.key}`", "field", "", "type", "what it is"), _choice_rows(name, choice))


def _choice_rows(name: str, choice: Choice) -> Iterator[Sequence[str]]:
    """A row for each member with what it does, and one for each of its arguments."""
    for member, schema in choice.rows.items():
        own = schema.get("properties", {}).get(choice.key, {})
        yield code(member), "", "", "", plain(own.get("description", ""))
        required = {*schema.get("required", ()), *schema.get("else", {}).get("required", ())}
        for key, one in schema.get("properties", {}).items():
            if key != choice.key:
                words = plain(one.get("description", ""))
                yield "", code(key), _need(key in required), _type(name, one), words


def _need(required: bool) -> str:
    return "required" if required else ""


def fields(schema: Schema, path: str = "") -> Iterator[Field]:
    """Every named field of a schema, and those within it."""
    required = schema.get("required", ())
    for key, one in schema.get("properties", {}).items():
        place = f"{path}.{key}" if path else key
        yield Field(place, key in required, one)
        yield from fields(one, place)
    for place, one in _within(schema, path):
        yield from fields(one, place)


def choices(schema: Schema, path: str = "") -> Iterator[Choice]:
    """Every place at which a member is named, its own fields depending on its name."""
    rows: dict[str, dict[str, Schema]] = {}
    for branch in schema.get("allOf", ()):
        for key, named in branch.get("if", {}).get("properties", {}).items():
            if "const" in named:
                rows.setdefault(key, {})[str(named["const"])] = branch.get("then", {})
    yield from (Choice(path, key, members) for key, members in rows.items())
    for key, one in schema.get("properties", {}).items():
        yield from choices(one, f"{path}.{key}" if path else key)
    for place, one in _within(schema, path):
        yield from choices(one, place)


def _within(schema: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    """Schemas of the same value, of its items, and of its values by name."""
    yield from ((path, one) for key in _ALTERNATIVES for one in schema.get(key, ()))
    for key, mark in (("items", "[]"), ("additionalProperties", ".*")):
        if isinstance(schema.get(key), dict):
            yield (f"{path}{mark}".removeprefix("."), schema[key])


def _type(name: str, schema: Schema) -> str:
    """The type of a value, in words."""
    if schema.get("$ref", "").endswith(SUFFIX):  # a whole document
        title = load(schema["$ref"].removesuffix(SUFFIX))["title"]
        return f"[{title}](#{title.lower().replace(' ', '-')})"
    if "$ref" in schema:
        part = schema["$ref"].rpartition("/")[2]
        return f"[{part}](#{part}-of-the-{name})"
    if "const" in schema:
        return code(_json(schema["const"]))
    for key in _ALTERNATIVES:
        if key in schema:
            return _or(_type(name, one) for one in schema[key])
    bounds = [plain(text.format(_json(schema[key]))) for key, text in _BOUNDS.items() if key in schema]
    default = [f"default {code(_json(schema['default']))}"] if "default" in schema else []
    return ", ".join([_kinds(name, schema), *bounds, *default])


def _kinds(name: str, schema: Schema) -> str:
    if "enum" in schema:
        return " ".join(code(_json(one)) for one in schema["enum"])
    kinds = schema.get("type", "anything")
    return _or(_kind(name, kind, schema) for kind in ([kinds] if isinstance(kinds, str) else kinds))


def _kind(name: str, kind: str, schema: Schema) -> str:
    items: Any = schema.get("items" if kind == "array" else "additionalProperties")
    if kind == "array":
        return f"list of {_type(name, items)}" if isinstance(items, dict) else "list"
    if kind == "object" and isinstance(items, dict) and "properties" not in schema:
        return f"by name: {_type(name, items)}"
    return kind


def _or(words: Iterable[str]) -> str:
    return " or ".join(dict.fromkeys(words))


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
