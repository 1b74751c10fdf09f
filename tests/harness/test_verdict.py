"""Verdicts combine to the most severe, and nothing combines to AGREE by being empty."""

import itertools

import pytest

from lockstep.harness.core.verdict import Verdict, combine


def test_nothing_is_inconclusive():
    assert combine([]) is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("pair", list(itertools.combinations(Verdict, 2)))
def test_the_more_severe_wins_in_either_order(pair):
    assert combine(pair) is combine(pair[::-1]) is pair[0]


def test_only_agreement_exits_with_zero():
    assert {one: one.exit_status for one in Verdict} == {
        Verdict.AGREE: 0,
        Verdict.DIFFER: 1,
        Verdict.ERROR: 3,
        Verdict.INCONCLUSIVE: 3,
        Verdict.SKIPPED: 3,
    }
