"""A report as it was stored: read, and checked against the published schema."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from lockstep.backends.errors import LockstepError
from lockstep.harness.documents.strict_json import finite, whole
from lockstep.harness.documents.validation import GOT, fault
from lockstep.harness.report.document import SCHEMA_VERSION

Document = dict[str, Any]


class ReportError(LockstepError):
    """A file is not a report that this version reads."""


def load(path: Path) -> Document:
    """The document in a file, or from standard input for ``-``.

    Raises:
        ReportError: it cannot be read, is not JSON, is cut short, is of another version, or is no report.
    """
    document = _parsed(path, _read(path))
    if not isinstance(document, dict) or "schema_version" not in document:
        raise ReportError("the file is not a report", f"{path}: {_shape(document)}", _FIX)
    if document["schema_version"] != SCHEMA_VERSION:
        raise ReportError(
            f"the report is of another version; this Lockstep reads {SCHEMA_VERSION}",
            f"{path}: schema_version {document['schema_version']!r:.{GOT}}",
            "run `lockstep verify` again, or render it with the Lockstep that wrote it",
        )
    if violation := fault("report", document):
        place, got = violation
        raise ReportError(f"the report does not keep to its schema at {place}", f"{path}: {got}", _FIX)
    return document


_FIX = "give a file that `lockstep verify --json FILE` or `--output DIR` wrote"


def _read(path: Path) -> str:
    try:
        return sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
    except OSError as error:
        raise ReportError("the report cannot be read", f"{path}: {error.strerror}", _FIX) from error
    except UnicodeDecodeError as error:
        raise ReportError("the file is not JSON", f"{path}: {error.reason}", _FIX) from error


def _parsed(path: Path, text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refused, parse_float=finite, parse_int=whole)
    except json.JSONDecodeError as error:
        cut = (bool(text.strip()) and error.pos >= len(text.rstrip()) - 1) or error.msg.startswith(
            "Unterminated"
        )
        what = "the file is cut short" if cut and text.lstrip()[:1] in "{[" else "the file is not JSON"
        fix = "write or copy it again, whole" if what.endswith("short") else _FIX
        raise ReportError(what, f"{path}: {error}", fix) from error
    except (RecursionError, ValueError) as error:  # too deep, a number beyond a float, NaN as a bare word
        raise ReportError("the file is not JSON", f"{path}: {error!s:.{GOT}}", _FIX) from error


def _refused(word: str) -> Any:
    raise ValueError(f"{word} is no JSON")


def _shape(document: Any) -> str:
    return (
        f"an object with {', '.join(map(repr, list(document)[:5])) or 'nothing in it'}"
        if isinstance(document, dict)
        else (f"a {type(document).__name__}")
    )
