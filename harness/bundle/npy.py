"""One array as the bytes of a .npy file, and back: numbers only, little-endian, in C order."""

from __future__ import annotations

import importlib
import io
import math
import warnings
from typing import Any

import numpy as np
from numpy.lib import format as npy

from lockstep.backends.problem import Array
from lockstep.harness.bundle.archive import BundleError
from lockstep.harness.documents.shortening import shortened

DTYPES = frozenset({"float64", "float32", "float16", "int64", "int32", "int16", "int8"}) | frozenset(
    {"uint64", "uint32", "uint16", "uint8", "bool"}
)
"""What a .npy file of ours holds: floats, counts and bytes, and whatever the optimizer of a user's own code keeps."""

BFLOAT16 = "bfloat16"
"""NumPy has no such dtype and its files no name for it: it is stored as uint16, and the bundle says so."""

MOST_AXES = 32
LONGEST_HEADER = 1000
"""Characters that are given to Python's parser: ours have about 120."""


def encode(name: str, array: Array) -> bytes:
    """The array's file.

    Raises:
        BundleError: it is not of numbers that a bundle can hold.
    """
    if array.dtype.name == BFLOAT16:
        array = array.view(np.uint16)
    if array.dtype.name not in DTYPES:
        raise BundleError(
            f"{name}: its dtype cannot be recorded", array.dtype.name, f"use {', '.join(sorted(DTYPES))}"
        )
    file = io.BytesIO()
    little = np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")
    npy.write_array(file, little, version=(1, 0), allow_pickle=False)
    return file.getvalue()


def decode(name: str, content: bytes) -> Array:
    """The array of a file, read-only: a view of the bytes that were given.

    Raises:
        BundleError: it is not what `encode` writes.
    """
    shape, dtype, start = _header(name, content)
    size = math.prod(shape) * dtype.itemsize
    if size != len(content) - start:
        raise BundleError(
            f"{name}: its header says another size than it has",
            f"shape {shortened(shape)} of {dtype}, {len(content) - start} bytes",
            "record it again",
        )
    return (
        np.frombuffer(content, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="), copy=False)
    )


def _header(name: str, content: bytes) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Shape, dtype and where the numbers begin."""
    file = io.BytesIO(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # NumPy repairs some headers, and says so
            if npy.read_magic(file) != (1, 0):
                raise ValueError("another version of the format than 1.0")
            shape, fortran, dtype = npy.read_array_header_1_0(file, max_header_size=LONGEST_HEADER)
    except Exception as error:  # ValueError, SyntaxError, TypeError, RecursionError, and more
        raise BundleError(f"{name}: it is not an array", shortened(str(error)), "record it again") from error
    for fault, what in (
        (dtype.hasobject, "it holds pickled objects, which could run code"),
        (dtype.name not in DTYPES or dtype.byteorder == ">", "it is not of little-endian numbers"),
        (fortran, "it is in Fortran's order"),
        (
            len(shape) > MOST_AXES or any(isinstance(one, bool) or one < 0 for one in shape),
            "its shape is none",
        ),
        # Of no elements: the other axes could be of any length.
        (max(shape, default=0) > len(content), "its shape is larger than its file"),
    ):
        if fault:
            raise BundleError(f"{name}: {what}", f"{shortened(shape)} of {dtype}", "record it again")
    return shape, dtype, file.tell()


def as_bfloat16(array: Array) -> Array:
    """What was stored as uint16.

    Raises:
        BundleError: it was not, or ml_dtypes is not installed.
    """
    try:
        dtype = np.dtype(importlib.import_module("ml_dtypes").bfloat16)
    except ImportError as error:
        raise BundleError(
            "bfloat16 cannot be read here", "no module named ml_dtypes", "pip install ml_dtypes"
        ) from error
    if array.dtype != np.uint16:
        raise BundleError("what is said to be bfloat16 is not", str(array.dtype), "record it again")
    return array.view(dtype)
