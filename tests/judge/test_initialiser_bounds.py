"""When two initialisers are said to differ, and when nothing is decided: each number from both sides.

Both sides are NumPy arrays. `README.md` in this folder lists the numbers.
"""

import numpy as np
import pytest

from lockstep import Verdict, check_initialisers
from lockstep.harness.conformance.initialisers.builds import OTHER_SIDE, SPACING
from lockstep.harness.conformance.initialisers.sample import Sample
from lockstep.harness.conformance.initialisers.structure import gain


def drawn(shape, factor=1.0):
    """Normal numbers of a scale, by seed."""
    return lambda seed: {"w": factor * np.random.default_rng(seed).standard_normal(shape)}


def constants(off):
    table = np.linspace(0.5, 1, 16)
    return check_initialisers(lambda: {"w": table.copy()}, lambda: {"w": table * (1 + off)}).verdict


@pytest.mark.parametrize(("eps", "verdict"), [(6, Verdict.AGREE), (11, Verdict.DIFFER)])
def test_constants_may_be_off_as_two_libraries_round_them(eps, verdict):
    assert constants(eps * 2.0**-52) is verdict


@pytest.mark.parametrize(("seeds", "verdict"), [(80, Verdict.INCONCLUSIVE), (100, Verdict.AGREE)])
def test_where_ten_times_the_scale_would_be_missed_nothing_is_decided(seeds, verdict):
    """Of a single number: 0.798 is D of a normal distribution and one ten times as wide."""
    report = check_initialisers(drawn(1), drawn(1), seeds=seeds)
    assert report.verdict is verdict, report.census()


@pytest.mark.parametrize(("off", "orthogonal"), [(6e-4, True), (2e-3, False)])
def test_orthogonal_is_what_is_so_but_for_rounding(off, orthogonal):
    """Two rows of unit length whose product is `off`."""
    assert (gain(np.array([[1.0, 0.0, 0.0], [off, (1 - off**2) ** 0.5, 0.0]])) is not None) is orthogonal


@pytest.mark.parametrize(("moved", "verdict"), [(43, Verdict.AGREE), (49, Verdict.DIFFER)])
def test_two_samples_differ_where_one_distribution_gives_that_once_in_a_million(moved, verdict):
    """Of 128 numbers some lie elsewhere, between bounds that stay: e exp(-128 d^2) is 1e-6 over six tests at 46 of them."""
    here = np.arange(128.0)
    there = here + 0.25
    there[10 : 10 + moved] = 100 + np.arange(moved) / 100
    report = check_initialisers(
        lambda seed: {"w": here[[seed // SPACING]]},
        lambda seed: {"w": there[[(seed - OTHER_SIDE) // SPACING]]},
        seeds=128,
    )
    assert report.verdict is verdict, report.census()


@pytest.mark.parametrize(("numbers", "builds", "seen"), [(16_000, 8, 16_000), (17_000, 8, 16_384)])
def test_as_many_numbers_are_kept_as_a_mebibyte_holds(numbers, builds, seen):
    sample = Sample(builds, numbers)
    for seed in range(builds):
        sample.add(np.random.default_rng(seed).standard_normal(numbers))
    assert sample.drawn(sample.fixed).shape == (builds, seen)


@pytest.mark.parametrize(("size", "seeds"), [(1, 128), (3, 128), (16, 32), (40, 13), (70, 8), (1000, 8)])
def test_small_parameters_are_built_from_more_seeds(size, seeds):
    assert check_initialisers(drawn(size), drawn(size)).seeds == seeds
