"""Problem files: TOML, checked against the published JSON Schema, with data inline or in a file next to it."""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lockstep.backends.errors import LockstepError, ProblemError
from lockstep.backends.problem import Array, Layer, Problem
from lockstep.harness.documents.schema import load
from lockstep.harness.documents.shortening import shortened
from lockstep.harness.problems.document import build, check, layers
from lockstep.harness.problems.initial import draw

DEEPEST = 64
"""Levels of lists and tables: as many as NumPy's arrays have axes."""


def read(path: Path) -> Problem:
    """The problem that a TOML file describes.

    Raises:
        ProblemError: the file is missing, not TOML, not according to the schema, or its data are not valid;
            the message names the file and the line or the field.
    """
    document = _parse(path)
    try:
        _refuse_depth(document)
        check(document, load("problem"))
        return _build(path.parent, document)
    except LockstepError as error:
        raise ProblemError(f"{path}: {error.what}", error.got, error.fix) from error


def _parse(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ProblemError(
            "the problem file cannot be read", f"{path}: {error.strerror}", "check the path"
        ) from error
    except (ValueError, RecursionError) as error:  # ValueError: also not UTF-8, and numbers of 4300 digits
        raise ProblemError(f"{path} is not TOML", str(error), "correct that line") from error


def _refuse_depth(document: dict[str, Any]) -> None:
    """Refuse a document that is deeper than an array can be; the schema's recursion would end at a depth that the process decides."""
    level: list[Any] = [document]
    for _ in range(DEEPEST):
        level = [inner for one in level for inner in _within(one)]
        if not level:
            return
    raise ProblemError(
        "a list or table is nested too deeply",
        f"more than {DEEPEST} levels",
        "give numbers, or rows of numbers",
    )


def _within(value: Any) -> Iterable[Any]:
    """The lists and tables that a list or table holds."""
    values = value.values() if isinstance(value, dict) else value
    return (one for one in values if isinstance(one, (dict, list)))


def _build(folder: Path, document: dict[str, Any]) -> Problem:
    x, y = (_values(folder, document["data"], axis) for axis in ("x", "y"))
    initial = dict(document.get("initial", {}))
    drawn = _drawn(layers(document), x.shape[1:], initial.pop("seed", 0))
    return build(document, x, y, {**drawn, **initial})


def _drawn(model: tuple[Layer, ...], input_shape: tuple[int, ...], seed: int) -> dict[str, Array]:
    try:
        return draw(model, input_shape, seed)
    except (MemoryError, ValueError) as error:
        raise ProblemError(
            "model: its parameters are more than an array can hold", str(error), "give smaller sizes"
        ) from error


def _values(folder: Path, data: dict[str, Any], axis: str) -> Array:
    """X or y as an array; a flat list of numbers is one column."""
    wanted = data[axis]
    if "file" in data:
        values = _from_file(folder / data["file"], axis, wanted)
    elif isinstance(wanted, str):
        values = _from_npy(folder / wanted, axis)
    else:
        values = _from_list(axis, wanted)
    return values[:, None] if values.ndim == 1 else values


def _from_list(axis: str, rows: list[Any]) -> Array:
    try:
        array = np.array(rows)
    except ValueError as error:
        lengths = [len(row) if isinstance(row, list) else 1 for row in rows]
        odd = next((index for index, length in enumerate(lengths) if length != lengths[0]), None)
        raise ProblemError(
            f"data.{axis} is ragged",
            shortened(rows)
            if odd is None  # a number among rows, or a difference further in
            else f"row {odd} has {lengths[odd]} values, row 0 has {lengths[0]}",
            "give rows of one length",
        ) from error
    if array.dtype.kind not in "iuf":
        raise ProblemError(
            f"data.{axis} is not numeric",
            shortened(rows),
            "give numbers, or name a `file` with these columns",
        )
    return array


def _from_npy(path: Path, axis: str) -> Array:
    arrays = _arrays(path, axis)
    if None not in arrays:
        raise ProblemError(
            f"data.{axis} is not one array",
            f"{path}: an archive",
            "name the archive as `file` and the array here",
        )
    return arrays[None]


def _from_file(path: Path, axis: str, wanted: Any) -> Array:
    if path.suffix == ".csv":
        return _from_csv(path, axis, wanted)
    arrays = _arrays(path, axis)
    if None in arrays:
        raise ProblemError(
            "data.file is one array", str(path), "name the .npy files as x and y, without `file`"
        )
    if not isinstance(wanted, str) or wanted not in arrays:
        raise ProblemError(
            f"data.{axis} names no array of {path.name}",
            shortened(wanted),
            f"use one of {', '.join(map(repr, arrays))}",
        )
    return arrays[wanted]


def _arrays(path: Path, axis: str) -> dict[str | None, Array]:
    """The arrays of a .npz by name, or the one of a .npy under None; pickled objects are refused, they could run code."""
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            arrays = {None: loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
    except OSError as error:
        raise ProblemError(
            f"the file of data.{axis} cannot be read", f"{path}: {error.strerror or error}", "check the path"
        ) from error
    except Exception as error:  # of a damaged file: BadZipFile, zlib.error, TokenError, MemoryError, and more
        raise ProblemError(
            f"the file of data.{axis} is not a NumPy file",
            f"{path}: {error}",
            "save it with numpy.save or savez, numbers only",
        ) from error
    return {name: array for name, array in arrays.items() if isinstance(array, np.ndarray)}


def _from_csv(path: Path, axis: str, wanted: Any) -> Array:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            header, *rows = [(reader.line_num, row) for row in reader]
    except OSError as error:
        raise ProblemError(
            f"the file of data.{axis} cannot be read", f"{path}: {error.strerror}", "check the path"
        ) from error
    except (ValueError, csv.Error) as error:
        raise ProblemError(
            f"the file of data.{axis} is not a table", f"{path}: {error}", "give a header and rows, in UTF-8"
        ) from error
    titles = header[1]
    columns = [_column(titles, name.strip(), axis, path) for name in _names(wanted, axis)]
    values = [[_cell(path, line, titles, row, column) for column in columns] for line, row in rows if row]
    return np.array(values, dtype=np.float64).reshape(len(values), len(columns))


def _names(wanted: Any, axis: str) -> list[str]:
    names = [wanted] if isinstance(wanted, str) else wanted
    if not all(isinstance(name, str) for name in names):
        raise ProblemError(
            f"data.{axis} must name columns", shortened(wanted), f'write {axis} = ["first", "second"]'
        )
    return list(names)


def _column(header: Sequence[str], name: str, axis: str, path: Path) -> int:
    titles = [title.strip() for title in header]
    if titles.count(name) != 1:
        raise ProblemError(
            f"data.{axis} names {'no column' if name not in titles else 'several columns'} of {path.name}",
            repr(name),
            f"use one of {', '.join(map(repr, titles))}",
        )
    return titles.index(name)


def _cell(path: Path, line: int, header: Sequence[str], row: Sequence[str], column: int) -> float:
    if len(row) != len(header):
        raise ProblemError(
            f"{path.name}, line {line}: ragged",
            f"{len(row)} cells under {len(header)} titles",
            "complete the line",
        )
    try:
        if "_" in row[column]:  # Python would read 1_0 as ten
            raise ValueError(row[column])
        return float(row[column])
    except ValueError as error:
        raise ProblemError(
            f"{path.name}, line {line}, column {header[column]!r}: not a number",
            repr(row[column]),
            "give a number",
        ) from error
