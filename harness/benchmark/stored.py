"""A benchmark as it was stored: read, and checked against the published schema."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lockstep.harness.benchmark.document import SCHEMA_VERSION
from lockstep.harness.documents import strict_json
from lockstep.harness.documents.files import FileError
from lockstep.harness.documents.validation import GOT, fault

Document = dict[str, Any]

LARGEST = 1 << 28
"""Bytes of a file that are read."""

_FIX = "give a file that `lockstep bench --json FILE` or `--output DIR` wrote"


def load(path: Path) -> Document:
    """The document that an earlier benchmark wrote.

    Raises:
        FileError: it cannot be read, is not JSON, is of another version, or is no benchmark; where, and what to do.
    """
    document = _parsed(path)
    if not isinstance(document, dict) or "schema_version" not in document:
        raise FileError("the file is no benchmark", f"{path}: {_shape(document)}", _FIX)
    if document["schema_version"] != SCHEMA_VERSION:
        raise FileError(
            f"the benchmark is of another version; this Lockstep reads {SCHEMA_VERSION}",
            f"{path}: schema_version {document['schema_version']!r:.{GOT}}",
            "run `lockstep bench` again, or use the Lockstep that wrote it",
        )
    if violation := fault("bench", document):
        place, got = violation
        raise FileError(f"the benchmark does not keep to its schema at {place}", f"{path}: {got}", _FIX)
    return document


def _parsed(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise FileError(
            "the benchmark cannot be read", f"{path}: {error.strerror}", "check the path"
        ) from error
    try:
        return strict_json.parse(content, LARGEST)
    except strict_json.JsonError as error:
        raise FileError(
            "the benchmark is not JSON that can be relied on", f"{path}: {error.got}", _FIX
        ) from error


def _shape(document: Any) -> str:
    return f"a {type(document).__name__} without a schema_version"
