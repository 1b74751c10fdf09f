"""The sample of what is many alike: the same for one commit, another for the next, at least one case of each test."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests import sample

CASES = [f"tests/test_a.py::test_alike[{number}]" for number in range(100)]
ALONE = "tests/test_a.py::test_alone"
PLAIN = "tests/test_a.py::test_plain"


class Config:
    def __init__(self, option, hook):
        self.option, self.hook = option, hook


class Items:
    """What pytest would have collected."""

    def __init__(self, percent, seed, everything=False):
        self.left = []
        hook = SimpleNamespace(pytest_deselected=lambda items: self.left.extend(items))
        option = SimpleNamespace(sample=percent, sample_seed=seed, sample_all=everything)
        self.config = Config(option, hook)

    def kept(self, names):
        items = [Case(name) for name in names]
        sample.pytest_collection_modifyitems(self.config, items)
        assert len(items) + len(self.left) == len(names)
        return [one.nodeid for one in items]


class Case:
    def __init__(self, nodeid):
        self.nodeid = nodeid

    def get_closest_marker(self, name):
        return name == "sweep" and self.nodeid != PLAIN


def test_a_share_of_each_test_is_kept_and_all_that_is_not_marked():
    kept = Items(3, "abc").kept([PLAIN, *CASES, ALONE])
    assert len(kept) == 5
    assert {PLAIN, ALONE} < set(kept)
    assert kept == sorted(kept, key=[PLAIN, *CASES, ALONE].index)


def test_the_commit_decides_and_the_order_does_not():
    kept = {seed: Items(10, seed).kept(CASES) for seed in "abcdef"}
    assert len({frozenset(one) for one in kept.values()}) == 6
    assert set(Items(10, "a").kept(CASES[::-1])) == set(kept["a"])


def test_of_everything_the_marks_do_not_matter():
    assert len(Items(50, "a", everything=True).kept([PLAIN, *CASES])) == 51
    assert Items(None, "a").kept(CASES) == CASES


@pytest.mark.parametrize("percent", [0, -1, 101])
def test_what_is_no_percentage_is_refused(percent):
    with pytest.raises(pytest.UsageError, match="takes a percentage above 0"):
        sample.pytest_configure(Items(percent, "a").config)


def test_outside_of_git_there_is_a_seed_all_the_same(monkeypatch):
    def absent(*command, **options):
        raise FileNotFoundError

    assert sample.seed_of_commit()
    monkeypatch.setattr(sample.subprocess, "run", absent)
    assert sample.seed_of_commit() == sample.OUTSIDE


def test_ci_runs_targets_that_exist_and_none_that_takes_an_hour():
    root = Path(__file__).parent.parent
    run = re.findall(r"^make ([a-z-]+)$", (root / ".ci" / "run").read_text(encoding="utf-8"), re.MULTILINE)
    targets = re.findall(r"^([a-z-]+):.*##", (root / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert {"check", "test", "verify"} < set(run) < set(targets)
    assert not {"selftest", "sweep", "verify-all", "bench", "machines"} & set(run)


def test_problems_are_drawn_from_what_verify_leaves_out():
    from lockstep.harness.problems import CORE, catalogue

    names = sample.problems(12)
    assert len(names) == 12
    assert set(names) <= set(catalogue()) - set(CORE)
