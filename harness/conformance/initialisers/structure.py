"""What the numbers of one build have in common: repeated slices, orthonormal rows or columns, rounding."""

from __future__ import annotations

import numpy as np

from lockstep.backends.problem import Array

ORTHONORMAL = 1e-3
"""How far M Mᵀ may be from c² I, over c²: QR in bfloat16 rounds to 4e-3 at worst, random matrices of 1,000 columns are 0.1 off."""

PRECISIONS = {8: "bfloat16", 11: "float16", 24: "float32"}
"""The bits of a mantissa in each format. A float64 draw has no more than 24 once in 5e8, a float32 draw no more than 11 once in 8,000."""

MOST_SIDE = 4096
"""Matrices with more rows and columns than that are not multiplied with themselves."""


def bits(values: Array) -> int:
    """Of what precision numbers are at least: the bits of a format in PRECISIONS that holds the mantissa of each, or 53."""
    mantissas, _ = np.frexp(values.astype(np.float64))
    for precision in PRECISIONS:
        scaled = mantissas * 2.0**precision
        if bool((scaled == np.round(scaled)).all()):
            return precision
    return 53


def copied_axes(values: Array) -> frozenset[int]:
    """The axes, longer than 1, along which all slices are the same."""
    return frozenset(
        axis
        for axis in range(values.ndim)
        if values.shape[axis] > 1 and bool((values == values.take([0], axis)).all())
    )


def gain(values: Array) -> float | None:
    """The c of a matrix whose rows or columns are orthogonal and of length c; None of any other.

    An array of more axes is one matrix by its first axis (torch) or by its last (JAX).
    """
    if values.ndim < 2 or values.dtype.kind != "f" or not np.isfinite(values).all():
        return None
    matrices = (values.reshape(len(values), -1), values.reshape(-1, values.shape[-1]))
    return next((one for one in map(_gain, matrices) if one is not None), None)


def _gain(matrix: Array) -> float | None:
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    if not 2 <= len(wide) <= MOST_SIDE:
        return None
    squares = (wide * wide).sum(axis=1, dtype=np.float64)
    square = float(squares.mean())
    if not square or float(np.abs(squares - square).max()) > ORTHONORMAL * square:
        return None
    products = wide.astype(np.float64) @ wide.T
    off = float(np.abs(products - np.diag(products.diagonal())).max())
    return float(np.sqrt(square)) if off <= ORTHONORMAL * square else None


def as_real(values: Array) -> Array:
    """Complex numbers as pairs along a last axis; all else as it is."""
    return np.stack([values.real, values.imag], axis=-1) if values.dtype.kind == "c" else values
