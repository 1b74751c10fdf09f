"""Linear regressions with certified coefficients: NIST's Statistical Reference Datasets (StRD).

Data and certified values: https://www.itl.nist.gov/div898/strd/lls/lls.shtml (in the public domain). The values are
checked twice by tests: their hash, and least squares in exact rational arithmetic, which gives every certified
coefficient to all 15 digits.

Gradient descent on the columns as they come would need a number of epochs that grows with the square of the
condition number, so each problem trains on Q = X T, T upper triangular, with nearly orthonormal columns. T is
float64, the product is formed exactly and rounded once, and β = T θ is formed exactly again: only training loses
digits.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from lockstep.backends.problem import Array, Arrays, Layer, Loss, Optimizer, Problem
from lockstep.harness.problems import Entry

Matrix = list[list[Fraction]]


class Dataset(NamedTuple):
    """One dataset of the StRD.

    Attributes:
        columns: the design's columns as NIST prints them, first the intercept's ones where there are any.
        response: y, likewise.
        certified: β, in the order of the columns.
        sha256: of `text`.
    """

    columns: tuple[tuple[str, ...], ...]
    response: tuple[str, ...]
    certified: tuple[str, ...]
    sha256: str

    @property
    def text(self) -> str:
        """Response and columns as one line an observation, then the certified values on one line."""
        rows = zip(self.response, *self.columns, strict=True)
        return "\n".join(map(" ".join, (*rows, self.certified)))


def _ones(count: int) -> tuple[str, ...]:
    return ("1",) * count


def _powers(degree: int) -> tuple[tuple[str, ...], ...]:
    """1, x, …, x^degree for x = 0, …, 20."""
    return tuple(tuple(str(x**power) for x in range(21)) for power in range(degree + 1))


def _table(text: str) -> tuple[tuple[str, ...], ...]:
    """The columns of a table."""
    return tuple(zip(*(line.split() for line in text.strip().splitlines()), strict=True))


_NORRIS = _table(
    """
0.1 0.2
338.8 337.4
118.1 118.2
888.0 884.6
9.2 10.1
228.1 226.5
668.5 666.3
998.5 996.3
449.1 448.6
778.9 777.0
559.2 558.2
0.3 0.4
0.1 0.6
778.1 775.5
668.8 666.9
339.3 338.0
448.9 447.5
10.8 11.6
557.7 556.0
228.3 228.1
998.0 995.8
888.8 887.6
119.6 120.2
0.3 0.3
0.6 0.3
557.6 556.8
339.3 339.1
888.0 887.2
998.5 999.0
778.9 779.0
10.2 11.1
117.6 118.3
228.9 229.2
668.4 669.1
449.2 448.9
0.2 0.5
"""
)
"""y and x: calibration of ozone monitors."""

_LONGLEY = _table(
    """
60323  83.0 234289 2356 1590 107608 1947
61122  88.5 259426 2325 1456 108632 1948
60171  88.2 258054 3682 1616 109773 1949
61187  89.5 284599 3351 1650 110929 1950
63221  96.2 328975 2099 3099 112075 1951
63639  98.1 346999 1932 3594 113270 1952
64989  99.0 365385 1870 3547 115094 1953
63761 100.0 363112 3578 3350 116219 1954
66019 101.2 397469 2904 3048 117388 1955
67857 104.6 419180 2822 2857 118734 1956
68169 108.4 442769 2936 2798 120445 1957
66513 110.8 444546 4681 2637 121950 1958
68655 112.6 482704 3813 2552 123366 1959
69564 114.2 502601 3931 2514 125368 1960
69331 115.7 518173 4806 2572 127852 1961
70551 116.9 554894 4007 2827 130081 1962
"""
)
"""y and six economic series (Longley, 1967), nearly collinear."""

DATASETS: dict[str, Dataset] = {
    "norris": Dataset(
        (_ones(36), _NORRIS[1]),
        _NORRIS[0],
        ("-0.262323073774029", "1.00211681802045"),
        "e2b8f3c30a9eae14df913cdafd5e1336c94365ed1cb201fe6539cd7a3552887a",
    ),
    "longley": Dataset(
        (_ones(16), *_LONGLEY[1:]),
        _LONGLEY[0],
        (
            "-3482258.63459582",
            "15.0618722713733",
            "-0.0358191792925910",
            "-2.02022980381683",
            "-1.03322686717359",
            "-0.0511041056535807",
            "1829.15146461355",
        ),
        "c019eed631d020a85c8ef2543cf79c1071f3cdce0108353c3d8845edec595a83",
    ),
    "wampler1": Dataset(
        _powers(5),
        tuple(str(sum(x**power for power in range(6))) for x in range(21)),
        ("1", "1", "1", "1", "1", "1"),
        "bf259f85dcb0effed052778564f22641a5b9b50b908b3ad9d6779d85c6515705",
    ),
    "wampler2": Dataset(
        _powers(5),
        tuple(f"{sum(x**power * 10 ** (5 - power) for power in range(6))}e-5" for x in range(21)),
        ("1", "0.1", "0.01", "0.001", "0.0001", "0.00001"),
        "15e2e5e44a693faee8da60c9e8c6cc15a2a6f63b1ced9b95c1032907ef9a6df2",
    ),
    "noint1": Dataset(
        (tuple(str(x) for x in range(60, 71)),),
        tuple(str(y) for y in range(130, 141)),
        ("2.07438016528926",),
        "88ac48bcb6888d047a049bc9548c25a973c0f51aa2fbce2142f9f3cb5c2939cc",
    ),
}


def design(dataset: Dataset) -> Matrix:
    """X, exactly: one row an observation."""
    return [list(map(Fraction, row)) for row in zip(*dataset.columns, strict=True)]


def _dot(left: Sequence[Fraction], right: Sequence[Fraction]) -> Fraction:
    return sum((a * b for a, b in zip(left, right, strict=True)), Fraction(0))


@functools.cache
def triangle(name: str) -> Array:
    """T (p, p), upper triangular, such that X T has nearly orthonormal columns.

    Gram and Schmidt's process, exact, on unnormalised columns q_k = x_k − Σ r_jk q_j; carried along, it gives the
    columns of T, which are divided by ‖q_k‖ and rounded.
    """
    columns = [list(column) for column in zip(*design(DATASETS[name]), strict=True)]
    size = len(columns)
    orthogonal: list[tuple[list[Fraction], list[Fraction]]] = []
    rounded = np.zeros((size, size))
    for k, column in enumerate(columns):
        q, t = column, [Fraction(int(row == k)) for row in range(size)]
        for before, earlier in orthogonal:
            share = _dot(before, column) / _dot(before, before)
            q = [a - share * b for a, b in zip(q, before, strict=True)]
            t = [a - share * b for a, b in zip(t, earlier, strict=True)]
        orthogonal.append((q, t))
        rounded[:, k] = [float(entry) / math.sqrt(_dot(q, q)) for entry in t]
    return rounded


def _transformed(name: str) -> Array:
    """X T, formed exactly and rounded once."""
    columns = [list(map(Fraction, column)) for column in triangle(name).T]
    return np.array([[float(_dot(row, column)) for column in columns] for row in design(DATASETS[name])])


def coefficients(name: str, parameters: Arrays) -> list[Fraction]:
    """β = T θ, exactly, from what training the problem of that name ended with."""
    theta = [Fraction(float(value)) for value in parameters["0.dot/w"][:, 0]]
    return [_dot(list(map(Fraction, row)), theta) for row in triangle(name)]


def digits(name: str, parameters: Arrays) -> float:
    """Correct digits of the worst coefficient: −log₁₀ |β − certified|/|certified|, at most 15."""
    pairs = zip(coefficients(name, parameters), map(Fraction, DATASETS[name].certified), strict=True)
    worst = max(abs(computed - true) / abs(true) for computed, true in pairs)
    return min(15.0, -math.log10(worst)) if worst else 15.0


def _make(name: str) -> Problem:
    """Sum of squares over orthonormal columns: each step of rate 1/4 halves what is left, 80 leave 2⁻⁸⁰ of it."""
    x = _transformed(name)
    y = np.array([[float(Fraction(value))] for value in DATASETS[name].response])
    return Problem(
        name=f"nist-{name}",
        x=x,
        y=y,
        model=(Layer("dot", size=1),),
        loss=Loss("squared_error", reduction="sum"),
        optimizer=Optimizer("sgd", learning_rate=0.25),
        epochs=80,
        initial={"0.dot/w": np.zeros((x.shape[1], 1))},
    )


REASONS = {
    "norris": "certified coefficients; a line, of lower difficulty",
    "longley": "certified coefficients; nearly collinear columns, of higher difficulty",
    "wampler1": "certified coefficients; a quintic that fits exactly, of higher difficulty",
    "wampler2": "certified coefficients; a quintic whose coefficients span five decades",
    "noint1": "certified coefficients; a line through the origin",
}

PROBLEMS = {f"nist-{name}": Entry(functools.partial(_make, name), reason) for name, reason in REASONS.items()}
