"""A benchmark beside an older one: the ratio's interval, and when there is nothing to compare."""

import copy
import itertools
import json

import pytest

from lockstep.harness.benchmark import (
    against,
    document,
    stored,
)
from lockstep.harness.documents.files import FileError
from lockstep.harness.environment.manifest import manifest
from lockstep.harness.report import (
    bench_tables as tables,
)
from tests.harness.benchmark.made import Fake, bench

HERE = manifest()


def content(**options):
    return json.loads(document.dumps(document.to_document(bench(**options), HERE)))


def test_ranks_are_the_orders_counted_one_by_one():
    for left, right in ((1, 1), (2, 3), (4, 3)):
        found = [0] * (left * right + 1)
        for places in itertools.combinations(range(left + right), left):
            found[sum(places) - left * (left - 1) // 2] += 1
        assert against._ranks(left, right) == found


@pytest.mark.parametrize(("left", "right"), [(4, 4), (5, 3), (6, 6), (2, 2)])
def test_the_coverage_is_that_of_all_orders(left, right):
    """Values of one distribution come in every order equally often; the ratio is then 1."""
    held, orders = 0, list(itertools.combinations(range(left + right), left))
    for places in orders:
        new = [2.0**place for place in places]
        old = [2.0**place for place in range(left + right) if place not in places]
        _, low, high, coverage = against.ratio(new, old)
        held += low <= 1 <= high
    assert coverage == pytest.approx(held / len(orders))
    assert coverage >= 0.95 or left * right < 15


def test_a_factor_moves_the_interval_by_it():
    new, old = [1.0, 1.5, 2.0, 1.1, 1.7, 1.3], [1.2, 1.9, 1.4, 1.6, 1.05, 1.15]
    found = against.ratio(new, old)
    tripled = against.ratio([3 * one for one in new], old)
    assert tripled[:3] == pytest.approx([3 * one for one in found[:3]])
    assert tripled[3] == found[3]


def test_few_values_say_how_little_they_cover():
    middle, low, high, coverage = against.ratio([2.0, 4.0], [1.0, 2.0])
    assert (middle, low, high) == (2.0, 1.0, 4.0)
    assert coverage == pytest.approx(1 - 2 / 6)


def test_a_slower_run_is_told_and_fails_the_gate():
    old, new = content(), content(measure=Fake({"torch": 0.04}))
    new["against"] = against.compare(new, old, fail_over=1.2)
    rows = {row["backend"]: row for row in new["against"]["rows"]}
    assert rows["torch"]["ratio"] == pytest.approx(4 / 3, rel=0.01)
    assert rows["numpy"]["ratio"] == pytest.approx(1, rel=0.01)
    assert [name for name, row in rows.items() if row["regressed"]] == ["torch"]
    assert against.regressed(new)
    assert not against.unjudged(new)


def test_a_ratio_below_the_threshold_or_within_the_noise_passes():
    old, slower, noisy = content(), content(measure=Fake({"torch": 0.033})), content()
    for place, one in enumerate(noisy["entries"][1]["repetitions"]):
        one["runs"] = [0.04 if place else 0.01]  # six times slower or three times faster
    for new, over in ((slower, 1.2), (noisy, 1.2)):
        new["against"] = against.compare(new, old, fail_over=over)
        assert not against.regressed(new)
    assert noisy["against"]["rows"][1]["ratio"] > 1.2
    slower["against"] = against.compare(slower, old, fail_over=1.05)
    assert against.regressed(slower)


@pytest.mark.parametrize(
    ("part", "key", "words"),
    [
        ("environment", "cpu", "cpu: another then"),
        ("environment", "python", "python: another then"),
        ("machine", "threads", "threads: another then"),
    ],
)
def test_another_machine_is_no_comparison(part, key, words):
    old, new = content(), content(measure=Fake({"torch": 0.09}))
    old[part][key] = "another"
    new["against"] = against.compare(new, old, fail_over=1.1)
    assert not new["against"]["valid"]
    assert words in new["against"]["differ"][0]
    assert not against.regressed(new)
    assert against.unjudged(new)


@pytest.mark.parametrize(("factor", "valid"), [(0.65, False), (0.9, True), (1.1, True), (1.5, False)])
def test_a_machine_with_another_speed_is_no_comparison(factor, valid):
    old, new = content(), content(measure=Fake({"torch": 0.09}))
    new["machine"]["matmul"][0]["rate"] *= factor
    new["against"] = against.compare(new, old, fail_over=1.1)
    assert new["against"]["valid"] is against.regressed(new) is valid
    assert any("matmul rate, float64: 100 G then" in one for one in new["against"]["differ"]) is not valid


def test_another_version_of_a_framework_is_no_comparison():
    old, new = content(), content(measure=Fake(environment={"version": "2.0", "device": "cpu"}))
    found = against.compare(new, old)
    assert "torch's version: 1.0 then, 2.0 now" in found["differ"]


def test_what_the_baseline_has_not_is_said():
    new = content()
    new["against"] = against.compare(new, content(backends=["numpy"]), fail_over=1.1)
    assert [row["reason"] for row in new["against"]["rows"]] == ["", "not in the baseline"]
    assert against.unjudged(new)
    assert tables.outcome(new) == ["--fail-over 1.1 could not be judged: torch not in the baseline"]
    other = content(sizes={"rows": (60,)})
    assert {row["reason"] for row in against.compare(new, other)["rows"]} == {"not in the baseline"}


def test_a_file_that_is_no_benchmark_is_refused(tmp_path):
    path = tmp_path / "old.json"
    with pytest.raises(FileError, match="cannot be read"):
        stored.load(path)
    path.write_text("{")
    with pytest.raises(FileError, match="not JSON"):
        stored.load(path)
    good = content()
    broken = copy.deepcopy(good)
    del broken["entries"][0]["repetitions"][0]["runs"]
    path.write_text(json.dumps(broken))
    with pytest.raises(FileError, match="'runs' is a required property"):
        stored.load(path)
    path.write_text(json.dumps(good))
    assert stored.load(path) == good
