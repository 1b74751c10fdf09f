"""What rounding hides in whole runs, the lockstep run decides, or says that it cannot; the same whatever is diagnosed."""

import numpy as np
import pytest
import torch
from torch import nn

from lockstep import Verdict
from lockstep.backends import pytorch
from lockstep.harness.core.ledger import UNDISTURBED, compare_stages
from lockstep.harness.verification import adopted

RNG = np.random.default_rng(0)
FRAMES = [(np.repeat(RNG.standard_normal((3, 1)), 2, 1), np.zeros(3))]
"""A series of two frames, padded with its last one: every maximum is a tie."""

ROWS = np.round(RNG.random((30, 2)) * 256) / 256
TARGETS = ROWS @ [[2.0], [-3.0]] + 1
TARGETS[10:] += np.round(RNG.standard_normal((20, 1)) * 256) / 256
"""The first ten residuals are 0 to the bit."""


class Pooled(nn.Module):
    """The maximum over frames: of equal ones one has the gradient, or they share it."""

    def __init__(self, share):
        super().__init__()
        self.pos, self.share = nn.Parameter(torch.zeros(2, dtype=torch.float64)), share

    def forward(self, x):
        return (x + self.pos).amax(1) if self.share else (x + self.pos).max(1).values


def pooled(share):
    return pytorch.adopt(
        Pooled(share),
        nn.functional.mse_loss,
        lambda parameters: torch.optim.SGD(parameters, lr=0.1),
        name="share" if share else "first",
    )


def absolute(kind):
    """Σ|e|, whose derivative at 0 is 0, or 1."""
    module = nn.Linear(2, 1).double()
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[2.0, -3.0]]))
        module.bias.fill_(1.0)
    losses = {
        "abs": lambda o, y: (o - y).abs().sum(),
        "where": lambda o, y: torch.where(o - y >= 0, o - y, y - o).sum(),
        "scaled": lambda o, y: ((o - y) * (1 + 1e-15)).abs().sum(),
    }
    return pytorch.adopt(module, losses[kind], lambda p: torch.optim.SGD(p, lr=0.01), name=kind)


PAIRS = {
    "a maximum": (lambda: pooled(False), lambda: pooled(True), FRAMES, "gradient/pos"),
    "a maximum, the other way round": (lambda: pooled(True), lambda: pooled(False), FRAMES, "gradient/pos"),
    "an absolute value": (
        lambda: absolute("abs"),
        lambda: absolute("where"),
        [(ROWS, TARGETS)],
        "gradient/bias",
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_another_derivative_at_a_tie_is_a_difference_whatever_is_diagnosed(name):
    left, right, batches, stage = PAIRS[name]
    names = {one: one for one in left().read(left().init()).parameters}
    for diagnose in ("none", "differing", "all"):
        result = adopted.verify([left(), right()], batches, mapping=names, diagnose=diagnose)
        assert result.verdict is Verdict.DIFFER, (diagnose, result.census())
        (found,) = result.cases[0].diagnoses
        assert found.first.name == stage
        same = adopted.verify([left(), left()], batches, mapping=names, diagnose=diagnose)
        assert same.verdict is not Verdict.DIFFER, (diagnose, same.census())


def stages(output=1.0, gradient=1.0):
    arrays = {
        "state/w": 1.0,
        "forward/output": output,
        "loss": output,
        "gradient/w": gradient,
        "gradient/b": 0.5,
    }
    return {name: np.full(2, value) for name, value in arrays.items()}


WIDE = {
    "forward/output": 1e-9,
    "loss": 1e-9,
    "gradient/w": 40.0,
    "gradient/b": 40.0,
    UNDISTURBED + "gradient/w": 1e-9,
}


@pytest.mark.parametrize(
    ("right", "verdict"),
    [
        (stages(), Verdict.AGREE),
        (stages(gradient=1.5), Verdict.DIFFER),
        (stages(output=1.0 + 1e-15, gradient=1.5), Verdict.INCONCLUSIVE),
    ],
    ids=["the same", "at the same point", "at another point"],
)
def test_a_gradient_that_jumps_is_judged_where_both_forward_passes_are_the_same_to_the_bit(right, verdict):
    rows = {row.name: row for row in compare_stages(0, stages(), right, WIDE)}
    assert rows["gradient/w"].verdict is verdict
    assert (
        rows["gradient/b"].verdict is Verdict.INCONCLUSIVE
    )  # it grows with the disturbance: no second limit


@pytest.mark.parametrize(("output", "verdict"), [(1.0, Verdict.DIFFER), (1.0 + 1e-15, Verdict.INCONCLUSIVE)])
def test_a_gradient_of_zero_at_a_tie_lets_nothing_pass(output, verdict):
    left, right = stages(gradient=0.0), stages(output=output, gradient=16.0)
    rows = {row.name: row for row in compare_stages(0, left, right, WIDE)}
    assert rows["gradient/w"].verdict is verdict


def test_what_stays_undecided_is_named_and_not_summed_up_as_agreement():
    """The port is at another point of the jump: which of the two is right no number says."""
    sides = [absolute("abs"), absolute("scaled")]
    names = {"weight": "weight", "bias": "bias"}
    result = adopted.verify(sides, [(ROWS, TARGETS)], mapping=names, diagnose="all", steps=3)
    (found,) = result.cases[0].diagnoses
    assert (result.verdict, found.verdict) == (Verdict.AGREE, Verdict.INCONCLUSIVE), found.sentence
    assert "could not be judged on equal inputs, first step 0" in found.sentence
    assert "every stage" not in found.sentence


def variance(shifted):
    """A normalisation at a mean of 1000: E[x²] − E[x]² loses what E[(x − E[x])²] does not."""

    class Normed(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 1)

        def forward(self, x):
            centred = x - x.mean(0)
            moment = (centred**2).mean(0) if not shifted else (x**2).mean(0) - x.mean(0) ** 2
            return self.fc(centred / (moment + 1e-5).sqrt())

    torch.manual_seed(0)
    module = Normed().double()
    return pytorch.adopt(
        module, nn.functional.mse_loss, torch.optim.SGD(module.parameters(), lr=1e-3), name=str(shifted)
    )


def test_a_stage_beyond_its_limit_is_no_difference_where_the_whole_runs_agree():
    rng = np.random.default_rng(1)
    batches = [(1000 + rng.standard_normal((16, 3)), rng.standard_normal((16, 1))) for _ in range(5)]
    names = {"fc.weight": "fc.weight", "fc.bias": "fc.bias"}
    for diagnose in ("none", "differing", "all"):
        result = adopted.verify([variance(False), variance(True)], batches, mapping=names, diagnose=diagnose)
        assert result.verdict is Verdict.AGREE, result.census()
        assert len(result.cases[0].diagnoses) == (diagnose == "all")
    (found,) = result.cases[0].diagnoses
    assert (found.verdict, found.first.name) == (Verdict.AGREE, "forward/fc")
    assert found.sentence.startswith("the whole runs agree within their tolerance")
