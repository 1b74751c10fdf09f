"""What torch code counts and keeps in attributes: carried to the bit, compared exactly, and never a reason to accuse it."""

import numpy as np
import pytest
import torch
from torch import nn

import lockstep
from lockstep.backends import pytorch
from lockstep.backends.problem import Batch
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.runs.altered import Altered
from lockstep.harness.runs.intervention import Intervention
from lockstep.harness.verification import adopted
from tests.backends.test_torch_copies import Averaged, Moving, SlowWeights
from tests.harness.adopted import models

mse = nn.functional.mse_loss


def cumulative():
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3, momentum=None), nn.Linear(3, 1))


def side(build, make=lambda p: torch.optim.SGD(p, lr=0.05), name="torch", seed=0, **settings):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = build().double()
    return pytorch.adopt(module, mse, make(module.parameters()), name=name, **settings)


def same_names(one):
    start = one.read(one.init())
    return {name: name for name in (*start.parameters, *start.buffers)}


@pytest.mark.parametrize("build", [cumulative, Averaged, Moving])
def test_code_that_counts_is_not_accused(build):
    sides = [side(build, name="left"), side(build, name="right")]
    found = adopted.diagnose(sides, models.batches(4), mapping=same_names(sides[0]))
    assert found.verdict is Verdict.AGREE, found.sentence


class Counting(nn.Module):
    """Counts by more than its twin does, in a buffer that nothing else shows."""

    def __init__(self, by):
        super().__init__()
        self.layer, self.by = nn.Linear(4, 1), by
        self.register_buffer("seen", torch.tensor(0))

    def forward(self, x):
        self.seen += self.by
        return self.layer(x)


def test_counts_are_compared_exactly():
    sides = [side(lambda by=by: Counting(by), name=f"by{by}") for by in (1, 2)]
    result = adopted.verify(sides, models.batches(3), mapping=same_names(sides[0]), diagnose="all")
    (one,) = [one for one in result.comparisons if one.quantity == "seen"]
    assert one.verdict is Verdict.DIFFER
    assert (one.worst.left, one.worst.right) == (3, 6)
    assert result.cases[0].diagnoses[0].first.name == "buffers/seen"


def test_both_sides_start_from_the_references_counts():
    def begun():
        module = cumulative()
        module[1].num_batches_tracked += 7
        return module

    sides = [side(begun, name="left"), side(cumulative, name="right")]
    result = adopted.verify(sides, models.batches(3), mapping=same_names(sides[0]))
    assert result.verdict is Verdict.AGREE, result.census()
    (one,) = [one for one in result.comparisons if one.quantity == "1.num_batches_tracked"]
    assert one.worst.left == 10


def test_a_rate_that_a_scheduler_moves_is_each_sides_own():
    def scheduled(gamma, name):
        module = models.perceptron()
        made = torch.optim.SGD(module.parameters(), lr=0.1)
        scheduler = torch.optim.lr_scheduler.StepLR(made, 2, gamma)
        return pytorch.adopt(module, mse, made, scheduler=scheduler, name=name)

    sides = [scheduled(0.5, "left"), scheduled(0.7, "right")]
    found = adopted.diagnose(sides, models.batches(5), mapping=same_names(sides[0]))
    assert found.verdict is Verdict.DIFFER
    assert (found.first.step, found.first.kind) == (2, "update")


@pytest.mark.parametrize("in_state", [True, False])
def test_slow_weights_follow_the_parameters_to_another_start(in_state):
    make = lambda p: SlowWeights(torch.optim.SGD(p, lr=0.1), in_state=in_state)  # noqa: E731
    build = lambda: nn.Linear(4, 1)  # noqa: E731
    sides = [side(build, make, "left", seed=0), side(build, make, "right", seed=1)]
    result = adopted.verify(sides, models.batches(5), mapping=same_names(sides[0]))
    assert result.verdict is Verdict.AGREE, result.census()


@pytest.mark.parametrize("build", [cumulative, Moving])
def test_counts_and_attributes_are_recorded_and_replayed(tmp_path, build):
    path = tmp_path / "counts.lockstep.npz"
    held = lockstep.record_adopted(path, side(build), models.batches(4), stages_at=[0, 3])
    assert any(name.startswith("state/extra/") for name in held.runs[0].stages[3])
    result = lockstep.replay_adopted(path, side(build), models.batches(4))
    assert result.verdict is Verdict.AGREE, result.census()
    assert max(one.differing for one in result.comparisons) == 0


def test_lbfgs_is_compared_with_itself_and_another_rate_is_found():
    lbfgs = lambda rate: lambda p: torch.optim.LBFGS(p, lr=rate, max_iter=2)  # noqa: E731
    build = lambda: nn.Linear(4, 1)  # noqa: E731
    batches = models.batches(3)
    names = same_names(side(build))
    right = [side(build, lbfgs(0.1), "left"), side(build, lbfgs(0.1), "right")]
    assert adopted.diagnose(right, batches, mapping=names).verdict is Verdict.AGREE
    wrong = [side(build, lbfgs(0.1), "left"), side(build, lbfgs(0.2), "right")]
    found = adopted.diagnose(wrong, batches, mapping=names)
    assert found.verdict is Verdict.DIFFER
    assert found.first.name.startswith(("update/", "optimizer"))


def test_twins_leave_counts_alone():
    one = side(cumulative)
    state, _ = one.step(one.init(), Batch(*models.batches(1)[0], {}))
    snapshot = one.read(state)
    moved = snapshot.each(lambda arrays: {name: value + 1 for name, value in arrays.items()})
    assert np.array_equal(moved.counts["1.num_batches_tracked"], 1)


def test_an_intervention_keeps_what_the_forward_pass_counted():
    one = side(Moving)
    altered = Altered(one, Intervention("moves nothing", on_buffers=lambda before, after: after))
    batches = [Batch(*each, {}) for each in models.batches(3)]
    ends = []
    for trainer in (one, altered):
        state = trainer.init()
        for batch in batches:
            state, _, grads = trainer.gradients(state, batch)
            state = trainer.apply(state, grads)
        ends.append(one.read(state))
    assert all(np.array_equal(value, ends[1].extra[name]) for name, value in ends[0].extra.items())
    assert ends[1].extra["calls:int"] == 3
