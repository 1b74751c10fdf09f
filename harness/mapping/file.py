"""Mappings on disk: JSON, checked against its schema before anything is done with it."""

from __future__ import annotations

import dataclasses
import json
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema

from lockstep.harness.documents.files import write_text
from lockstep.harness.documents.schema import load as load_schema
from lockstep.harness.mapping.link import Link, MappingError
from lockstep.harness.mapping.mapping import Mapping

VERSION = 1

MOST_BYTES = 1 << 24
"""A file of more is no mapping."""


def dumps(mapping: Mapping, left: str, right: str) -> str:
    """The text of a mapping file.

    Args:
        mapping: the links and leftover names.
        left, right: names of the two sides, for the reader.
    """
    document = {
        "lockstep_mapping": VERSION,
        "left": left,
        "right": right,
        "links": [_serialise(one) for one in mapping.links],
        "left_over": {name: list(candidates) for name, candidates in mapping.left_over.items()},
    }
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def save(path: Path, mapping: Mapping, left: str, right: str) -> None:
    """Write a mapping file, whole or not at all.

    Raises:
        FileError: it cannot be written.
    """
    write_text(path, dumps(mapping, left, right))


def read(path: Path) -> Mapping:
    """The mapping in a file.

    Raises:
        MappingError: there is no such file, or it is not a mapping of a version that is known.
    """
    fix = "name a file that `lockstep map -o FILE` wrote, or one like it"
    try:
        if path.stat().st_size > MOST_BYTES:
            raise MappingError("the mapping file is too large", f"{path}: {path.stat().st_size} bytes", fix)
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MappingError("the mapping file cannot be read", f"{path}: {error.strerror}", fix) from error
    except (ValueError, RecursionError) as error:
        raise MappingError("the mapping file is not JSON", f"{path}: {str(error)[:200]}", fix) from error
    return loads(document, str(path))


def loads(document: Any, where: str) -> Mapping:
    """The mapping in a JSON document.

    Raises:
        MappingError: it is not valid.
    """
    error = jsonschema.exceptions.best_match(_validator().iter_errors(document))
    if error is not None:
        place = "/".join(map(str, error.absolute_path)) or "the document"
        raise MappingError(
            f"{where}: the mapping is not valid at {place}",
            error.message[:200],
            "see docs/adopt.md, or write it anew",
        )
    links = tuple(Link(**{key: _tuples(value) for key, value in one.items()}) for one in document["links"])
    return Mapping(links, {name: tuple(one) for name, one in document.get("left_over", {}).items()})


@cache
def _validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(load_schema("mapping"))


def _serialise(link: Link) -> dict[str, Any]:
    """A link without its empty fields."""
    return {
        key: value for key, value in dataclasses.asdict(link).items() if value is not None and value != ()
    }


def _tuples(value: Any) -> Any:
    """Lists as tuples; 1.0 is an integer to JSON Schema, and no index to Python."""
    return tuple(_tuple_item(one) for one in value) if isinstance(value, list) else value


def _tuple_item(one: Any) -> Any:
    return int(one) if isinstance(one, float) else _tuples(one)
