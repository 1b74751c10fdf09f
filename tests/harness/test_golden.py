"""The golden bundles: what was recorded of the catalogue is what every backend trains today, within the measured budget."""

from pathlib import Path

import numpy as np
import pytest

from lockstep import backends
from lockstep.harness import bundle
from lockstep.harness.bundle.replaying import replay
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.problems import find
from lockstep.harness.problems.document import describe

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "tests" / "golden"
GOLDEN = sorted(path.name.removesuffix(".lockstep.npz") for path in FOLDER.glob("*.npz"))
QUICK = ("adam", "seed")
"""Of a kind each; the sweep replays all."""


def test_they_are_those_of_the_makefile_and_small():
    (line,) = (one for one in (ROOT / "Makefile").read_text().splitlines() if one.startswith("GOLDEN"))
    assert sorted(line.split()[2:]) == GOLDEN
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 400_000


@pytest.mark.parametrize("name", GOLDEN)
def test_the_catalogue_still_has_the_problem_that_was_recorded(name):
    held = bundle.load(FOLDER / f"{name}.lockstep.npz")
    (kept,) = held.problems
    today = find(name)
    assert kept.document == describe(today)
    # Drawn by the same seeds, then put through functions of the C library, which may round otherwise elsewhere.
    for was, now in ((kept.problem.x, today.x), (kept.problem.y, today.y)):
        np.testing.assert_allclose(now, was, rtol=1e-13, atol=1e-13)
    assert [one.run.dtype for one in held.runs] == ["float64", "float32"]
    assert {one.run.backend for one in held.runs} == {"numpy"}


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.sweep) for name in GOLDEN]
)
def test_every_backend_trains_what_was_recorded(name):
    result = replay(FOLDER / f"{name}.lockstep.npz", backends=[*backends.entries()])
    assert result.verdict is Verdict.AGREE, result.census()
    assert {one.right for one in result.comparisons} == set(backends.entries())
    assert {one.tolerance.kind for one in result.comparisons if one.tolerance} == {"budget"}
