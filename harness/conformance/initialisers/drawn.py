"""What a sample seems to be drawn from, in words. No verdict depends on it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lockstep.backends.problem import Array
from lockstep.harness.conformance.initialisers.scale import OF_BOUNDS, OF_DEVIATIONS, Counts, scale

CUT = 0.87962566103423978
"""The standard deviation of a normal distribution cut at two of its own."""

FIT = 2.0
"""√n D up to which a family fits: with its scale fitted, a right one is above at one in 1,000 or fewer."""


@dataclass(frozen=True)
class Fit:
    """One family, fitted.

    Attributes:
        distance: Kolmogorov's D of the sample.
        describe: the family with its numbers.
    """

    distance: float
    describe: Callable[[], str]


def describe(numbers: Array, counts: Counts) -> str:
    """A sample of independent numbers in words: ``U(±1/√64), 64 the fan in``.

    Args:
        numbers: all of one distribution, and not all the same.
        counts: numbers on which its scale may depend.
    """
    numbers = np.sort(numbers, axis=None)
    best = min((_uniform(numbers, counts), *_normals(numbers, counts)), key=lambda one: one.distance)
    if numbers.size >= 8 and best.distance * math.sqrt(numbers.size) <= FIT:
        return best.describe()
    return (
        f"numbers from {numbers[0]:.3g} to {numbers[-1]:.3g} with mean {numbers.mean():.3g} and standard deviation "
        f"{numbers.std():.3g}"
    )


def constant(values: Array) -> str:
    """Numbers that no seed changes: ``0``, or ``0 (48 of 64) and 1 (16 of 64)``, or ``64 fixed numbers``."""
    distinct, how_many = np.unique(values + 0, return_counts=True)  # no minus zero
    if len(distinct) == 1:
        return f"{distinct[0]:.4g}"
    if len(distinct) > 3:
        return f"{values.size} numbers that no seed changes"
    return " and ".join(
        f"{one:.4g} ({count} of {values.size})" for one, count in zip(distinct, how_many, strict=True)
    )


def _uniform(numbers: Array, counts: Counts) -> Fit:
    low, high = float(numbers[0]), float(numbers[-1])
    size, width = numbers.size, high - low
    accuracy = max(8 / size, 1e-6)

    def words() -> str:
        # As far as the bounds are from the largest numbers on average.
        low_end, high_end = low - width / size, high + width / size
        if abs(low_end + high_end) <= 8 * width / size:
            found = scale(max(-low, high) * (1 + 1 / size), accuracy, counts, OF_BOUNDS)
            return f"U(±{found.text})" + (f", {found.note}" if found.note else "")
        ends = [f"{_rounded(one, 8 * width / size):.3g}" for one in (low_end, high_end)]
        return f"U({ends[0]}, {ends[1]})"

    return Fit(_distance((numbers - low) / width), words)


def _normals(numbers: Array, counts: Counts) -> list[Fit]:
    """The normal distribution, and one that is cut at two standard deviations where nothing lies beyond."""
    import scipy.special

    mean, deviation = float(numbers.mean()), float(numbers.std())
    mean = 0.0 if abs(mean) <= 4 * deviation / math.sqrt(numbers.size) else mean
    standard = (numbers - mean) / deviation
    accuracy = 4 * math.sqrt(max(float((standard**4).mean()) - 1, 0.1) / (4 * numbers.size))

    def plain() -> str:
        found = scale(deviation, accuracy, counts, OF_DEVIATIONS)
        return f"N({mean:.3g}, {found.square})" + (f", {found.note}" if found.note else "")

    def cut() -> str:
        # Either the cut distribution has the stated deviation (JAX), or the one that is cut (TensorFlow's initialisers before 2).
        whole = scale(deviation / CUT, accuracy, counts, OF_DEVIATIONS)
        found = scale(deviation, accuracy, counts, OF_DEVIATIONS)
        if whole.score + 3 < found.score:
            return f"N({mean:.3g}, {whole.square}) cut at 2 standard deviations, which leaves {CUT:.2f} of them, {whole.note}"
        note = f", {found.note}" if found.note else ""
        return f"N cut at 2 standard deviations, with mean {mean:.3g} and variance {found.square}{note}"

    fits = [Fit(_distance(scipy.special.ndtr(standard)), plain)]
    if np.abs(standard).max() <= 2 / CUT * 1.03:
        inside = (scipy.special.ndtr(CUT * standard) - scipy.special.ndtr(-2.0)) / (
            1 - 2 * scipy.special.ndtr(-2.0)
        )
        fits.append(Fit(_distance(np.clip(inside, 0, 1)), cut))
    return fits


def _distance(probabilities: Array) -> float:
    """Kolmogorov's D of sorted numbers, as their distribution function gives them."""
    steps = np.arange(probabilities.size + 1) / probabilities.size
    return float(max((steps[1:] - probabilities).max(), (probabilities - steps[:-1]).max()))


def _rounded(value: float, accuracy: float) -> float:
    """A whole number of hundredths, if one is near."""
    near = round(value, 2)
    return near + 0.0 if abs(near - value) <= accuracy else value
