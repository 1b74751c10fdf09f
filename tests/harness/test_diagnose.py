"""The diagnosis: planted faults are named at their step, stage and parameter, the healthy backends at none."""

import json

import numpy as np
import pytest

import lockstep
from lockstep import backends, cli
from lockstep.backends.errors import LockstepError
from lockstep.backends.numpy_vjp.backend import NumPyBackend, NumPyTrainer
from lockstep.backends.numpy_vjp.function import Function
from lockstep.backends.problem import Clip, Layer, Optimizer
from lockstep.backends.protocol import Unsupported
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.diagnose.diagnosis import Kind, diagnose
from lockstep.harness.numerics.limits import of_run_inputs, of_stage_inputs
from lockstep.harness.problems.initial import draw
from tests.conftest import BACKENDS, square_problem
from tests.meta import faults, stage_faults, step_faults
from tests.meta.faults import Broken
from tests.meta.stage_faults import STAGE_FAULTS
from tests.meta.stepwise import StepwiseTrainer
from tests.meta.test_step_faults import PROBLEM as ACCUMULATED


@pytest.mark.parametrize("name", [one for one in BACKENDS if one != "numpy"])
def test_a_healthy_backend_parts_nowhere(name, seed, dtype):
    found = diagnose(seed, name, others=(), dtype=dtype)
    assert (found.verdict, found.kind, found.first) == (Verdict.AGREE, Kind.NONE, None), found.sentence
    assert all(row.verdict is Verdict.AGREE for row in found.ledger.rows)
    assert len(found.ledger.rows) > 100
    assert found.explanation is None


@pytest.mark.parametrize("problem", [square_problem(), ACCUMULATED], ids=["square", "accumulated"])
def test_a_healthy_copy_parts_nowhere(problem):
    assert diagnose(problem, Broken(NumPyTrainer), others=()).kind is Kind.NONE


@pytest.mark.parametrize("fault", STAGE_FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_is_named_at_its_step_and_stage_and_explained(fault):
    found = diagnose(fault.problem, Broken(fault), others=())
    step, name = fault.row
    assert found.verdict is Verdict.DIFFER
    assert found.first.step == step, found.sentence
    assert found.first.name == name or found.first.name.startswith(f"{name}/"), found.sentence
    assert (found.explanation and found.explanation.name) == fault.explanation
    assert found.sentence.startswith("broken ")
    carried = found.first.kind in ("state", "fit", "continued")
    assert found.kind is (Kind.CARRIED if carried else Kind.LOCAL)


SUBTLE = {stage_faults.ForwardOff, stage_faults.LearningRateOffAtLast, stage_faults.FusedPathOff}
"""Below float32's rounding."""


@pytest.mark.sweep
@pytest.mark.parametrize("fault", STAGE_FAULTS, ids=lambda fault: fault.__name__)
def test_in_float32_what_is_above_its_rounding_is_named_and_explained_too(fault):
    found = diagnose(fault.problem, Broken(fault), others=(), dtype="float32")
    if fault in SUBTLE:
        assert found.verdict is Verdict.AGREE
        return
    step, name = fault.row
    assert found.first.step == step
    assert found.first.name == name or found.first.name.startswith(f"{name}/")
    assert (found.explanation and found.explanation.name) == fault.explanation


def test_limits_and_growth_can_be_replaced():
    """By others a thousand times as wide, under which a defect of 1e-10 is nothing."""

    def wide(problem, trainer):
        narrow = of_stage_inputs(problem, trainer)
        return lambda snapshot, batch: {name: 1e5 * one for name, one in narrow(snapshot, batch).items()}

    def grown(problem, reference):
        return {name: 1e5 * one for name, one in of_run_inputs(problem, reference).items()}

    fault = Broken(faults.LearningRateOff)
    assert diagnose(square_problem(), fault, others=(), limits=wide, growth=grown).verdict is Verdict.AGREE
    assert diagnose(square_problem(), fault, others=(), limits=wide).verdict is Verdict.DIFFER


WITH_EXPLANATION = {
    faults.SignFlipped: "sign",
    faults.MeanForSum: "mean and sum",
    faults.StaleGradient: "stale gradient",
    faults.TransposedSquareWeight: "rearranged parameter",
    faults.OneEpochShort: "length of the run",
    faults.LearningRateOff: "learning rate",
    faults.SinglePrecisionInside: "single precision",
    faults.ForgottenBias: "parameter never updated",
}


@pytest.mark.parametrize("fault", faults.FAULTS, ids=lambda fault: fault.__name__)
def test_faults_of_the_free_run_are_found_and_explained_where_they_can_be(fault):
    found = diagnose(square_problem(), Broken(fault), others=())
    assert found.verdict is Verdict.DIFFER, found.sentence
    assert (found.explanation and found.explanation.name) == WITH_EXPLANATION.get(fault)


@pytest.mark.parametrize(
    "fault",
    [*step_faults.STEP_FAULTS, *step_faults.CONTINUATION_FAULTS, step_faults.UpdatesBetween],
    ids=lambda fault: fault.__name__,
)
def test_faults_around_the_optimizer_are_found(fault):
    """Those of continuation too, which a free run cannot see."""
    found = diagnose(ACCUMULATED, Broken(fault), others=())
    assert found.verdict is Verdict.DIFFER, found.sentence
    expected = {
        "SumOfAccumulated": "accumulation",
        "ScheduleCountsBatches": "schedule",
        "PenaltyOfTheBiasesToo": "penalty",
    }
    if fault.__name__ in expected:
        assert found.explanation.name == expected[fault.__name__]


def test_the_sentence_says_step_stage_parameter_index_both_values_and_how_far():
    found = diagnose(square_problem(), Broken(stage_faults.GradientOfOneParameter), others=["torch"])
    left, right = found.first.left, found.first.right
    assert right == pytest.approx(2 * left)
    assert (
        f"at step 0, in the gradient of 1.dot/w at [2, 1]: numpy {left!r}, broken {right!r}, a distance of"
        in found.sentence
    )
    assert "broken is wrong, as torch agrees with numpy" in found.sentence


def test_the_majority_can_find_the_reference_wrong():
    """And the explanation is of the reference, then."""
    found = diagnose(square_problem(), "numpy", Broken(faults.SignFlipped), others=["torch"])
    assert found.culprit.name == "broken"
    assert "torch agrees with numpy" in found.sentence
    assert found.explanation.name == "sign"
    found = diagnose(square_problem(), "numpy", Broken(faults.OneEpochShort), others=["torch"])
    assert (found.culprit.name, found.explanation.name) == ("broken", "length of the run")


@pytest.mark.parametrize(
    ("fault", "kind"), [(faults.SignFlipped, "update"), (stage_faults.HiddenState, "free")]
)
def test_the_certified_reference_is_the_first_witness(fault, kind, monkeypatch):
    problem = getattr(fault, "problem", square_problem())
    monkeypatch.setattr(fault, "capabilities", frozenset({"fit", "stages"}))
    for sides in (("numpy", Broken(fault)), (Broken(fault), "numpy")):
        found = diagnose(problem, *sides)
        assert found.first.kind == kind
        assert found.culprit.name == "broken"
        assert "exact agrees with numpy" in found.sentence


def test_a_third_that_agrees_with_neither_is_no_witness():
    third = Broken(stage_faults.SumForMean)
    third.name = "third"
    found = diagnose(square_problem(), Broken(faults.MeanForSum), others=[third])
    assert found.culprit.name == "broken" or "agrees with broken" in found.culprit.reason
    other = Broken(stage_faults.HalfSquares)
    other.name = "third"
    found = diagnose(square_problem(), Broken(faults.MeanForSum), others=[other])
    assert (found.culprit.name, "agrees with neither" in found.culprit.reason) == ("", True)


class NotContinued(stage_faults.HiddenState):
    """Its state cannot be set, so that only the whole runs show what it forgets."""

    capabilities = frozenset({"fit", "stages"})


def test_a_defect_that_no_compared_step_shows_is_left_to_the_whole_runs():
    problem = stage_faults.HiddenState.problem
    found = diagnose(problem, Broken(NotContinued), others=["torch"])
    assert (found.verdict, found.kind) == (Verdict.DIFFER, Kind.CARRIED)
    assert found.sentence.startswith("the free runs diverge at step 17, in the whole run's loss: numpy ")
    assert "further than rounding grows" in found.sentence
    assert found.culprit.name == "broken"


def test_given_the_references_values_what_is_right_agrees_again():
    """The layers after the wrong one computed from its output: in the exchange only it differs."""
    found = diagnose(stage_faults.DEEP, Broken(stage_faults.ForwardOff), others=())
    differing = {row.name for row in found.ledger.rows if row.step == 0 and row.verdict is Verdict.DIFFER}
    assert {"forward/1.tanh", "forward/2.linear", "loss"} <= differing
    exchanged = {row.name for row in found.exchanged.rows if row.verdict is Verdict.DIFFER}
    assert exchanged == {"forward/1.tanh"}
    assert found.sentence.endswith("every other stage of the step agrees")


class TwoFaults(stage_faults.ForwardOff):
    """tanh is off, and behind it the last layer's product."""

    def __init__(self, problem):
        super().__init__(problem)
        place = self._chain.ends["2.linear"] - 2
        true = self._funcs[place]
        self._funcs[place] = Function(lambda x, w: true(x, w) * (1 + 1e-12))
        self._funcs[place].define_vjp(true.make_vjp)


def test_a_second_defect_is_not_hidden_behind_the_first():
    found = diagnose(stage_faults.DEEP, Broken(TwoFaults), others=())
    assert found.first.name == "forward/1.tanh"
    exchanged = [row.name for row in found.exchanged.rows if row.verdict is Verdict.DIFFER]
    assert exchanged == ["forward/1.tanh", "forward/2.linear"]
    assert "given numpy's values and gradients, the output of 2.linear at" in found.sentence
    assert found.sentence.endswith("differs as well")


class NotInjected(stage_faults.ForwardOff):
    capabilities = NumPyTrainer.capabilities - {"inject"}


def test_a_trainer_that_takes_no_values_is_not_given_any():
    found = diagnose(stage_faults.DEEP, Broken(NotInjected), others=())
    assert found.first.name == "forward/1.tanh"
    assert found.exchanged.rows == ()
    assert "given numpy's values" not in found.sentence


class ClippedOff(StepwiseTrainer):
    """Its clipping makes gradients longer by one part in 10¹⁰."""

    def __init__(self, problem):
        super().__init__(problem)
        true = self._clip
        self._clip = lambda grads: {name: grad * (1 + 1e-10) for name, grad in true(grads).items()}


def test_wrong_clipping_is_named_before_the_optimizer():
    problem = square_problem(clip=Clip("norm", limit=0.5), optimizer=Optimizer("adam", learning_rate=0.01))
    found = diagnose(problem, Broken(ClippedOff), others=())
    assert found.first.kind == "clipped"
    assert "in the clipped gradient of" in found.sentence
    follows = {row.kind for row in found.ledger.rows if row.follows.startswith("clipped/")}
    assert "optimizer" in follows


class Rounded(StepwiseTrainer):
    """Every gradient is off by one rounding: no more than another order of summation."""

    def gradients(self, state, batch):
        state, loss, grads = super().gradients(state, batch)
        return state, loss, {name: grad * (1 + 2.3e-16) for name, grad in grads.items()}


def deep(epochs, optimizer):
    return stage_faults.DEEP.replace(epochs=epochs, optimizer=optimizer)


CHAOS = deep(200, Optimizer("rmsprop", learning_rate=1.0, decay=0.5))
"""Steps too long for the problem, and normalised: rounding grows to everything."""


def test_a_distance_that_rounding_can_grow_to_is_explained_by_growth():
    found = diagnose(deep(100, Optimizer("sgd", learning_rate=1.0)), Broken(Rounded), others=())
    assert (found.verdict, found.kind) == (Verdict.AGREE, Kind.GROWTH), found.sentence
    assert "no further than rounding grows" in found.sentence
    assert found.explanation is None


def test_where_rounding_grows_to_everything_the_whole_runs_are_not_judged():
    found = diagnose(CHAOS, Broken(Rounded), others=())
    assert (found.verdict, found.kind) == (Verdict.INCONCLUSIVE, Kind.GROWTH), found.sentence
    assert "every stage of 8 steps agrees on equal inputs, but" in found.sentence


def test_where_nothing_can_be_judged_in_whole_runs_a_local_defect_is_still_found():
    found = diagnose(CHAOS, Broken(faults.SinglePrecisionInside), others=())
    assert (found.verdict, found.first.step, found.first.kind) == (Verdict.DIFFER, 0, "optimizer")


def test_a_leaf_of_rounding_noise_does_not_keep_the_rest_from_agreeing():
    model = (Layer("linear", size=4), Layer("batch_norm"), Layer("linear", size=2))
    found = diagnose(square_problem(model=model, initial=draw(model, (3,), seed=1)), "torch", others=())
    assert found.verdict is Verdict.AGREE, found.sentence


class Refuses(NumPyBackend):
    name = "refuses"

    def supports(self, problem):
        return Unsupported("not today")


class Raises(StepwiseTrainer):
    def observe(self, state, batch, wanted, inject=None):
        raise RuntimeError("observed too much")


class OnlySteps(StepwiseTrainer):
    """A trainer with none of the capabilities."""

    capabilities = frozenset()


def test_a_backend_that_refuses_is_skipped():
    found = diagnose(square_problem(), Refuses(), others=())
    assert (found.verdict, found.kind) == (Verdict.SKIPPED, Kind.UNJUDGED)
    assert found.sentence == "refuses did not train: not today"


def test_an_absent_framework_is_skipped_with_its_install_command(monkeypatch, seed):
    monkeypatch.setattr(backends, "missing_modules", lambda name: ["torch"] if name == "torch" else [])
    found = diagnose(seed, "torch")
    assert found.verdict is Verdict.SKIPPED
    assert found.sentence.endswith('pip install "torch>=2.6"')


def test_an_unknown_backend_is_refused(seed):
    with pytest.raises(LockstepError, match="unknown backend"):
        diagnose(seed, "numppy")


def test_a_backend_that_raises_beside_its_run_is_an_error_with_its_reason():
    found = diagnose(square_problem(), Broken(Raises), others=())
    assert found.verdict is Verdict.ERROR
    assert "observed too much" in found.sentence


def test_what_a_trainer_cannot_do_is_said_and_the_rest_is_compared():
    found = diagnose(square_problem(), Broken(OnlySteps), others=())
    assert found.verdict is Verdict.AGREE
    skipped = {row.kind: row.reason for row in found.ledger.rows if row.verdict is Verdict.SKIPPED}
    assert skipped.keys() == {"batch", "forward", "cotangent"}
    assert "no capability 'stages'" in skipped["forward"]
    assert {row.verdict for row in found.carried["broken"].rows} == {Verdict.SKIPPED}


def test_a_reference_that_diverges_is_an_error_after_steps_that_agree():
    problem = square_problem(epochs=2000, optimizer=Optimizer("sgd", learning_rate=50.0))
    found = diagnose(problem, Broken(NumPyTrainer), others=())
    assert (found.verdict, found.kind) == (Verdict.ERROR, Kind.UNJUDGED)
    assert "diverged" in found.sentence
    assert any(row.name.startswith("update/") and row.verdict is Verdict.AGREE for row in found.ledger.rows)


def test_a_fault_is_found_before_the_reference_diverges():
    problem = square_problem(epochs=2000, optimizer=Optimizer("sgd", learning_rate=50.0))
    found = diagnose(problem, Broken(faults.LearningRateOff), others=())
    assert (found.verdict, found.first.step, found.first.kind) == (Verdict.DIFFER, 0, "update")


def test_a_parameter_that_is_never_touched_agrees():
    """All gradients of it are 0: x has a column of zeros."""
    x = np.array(square_problem().x)
    x[:, 1] = 0
    found = diagnose(square_problem(x=x), "torch", others=())
    assert (found.verdict, found.kind) == (Verdict.AGREE, Kind.NONE)


def test_from_python_it_is_called_diagnose(seed):
    assert lockstep.diagnose is diagnose
    assert lockstep.diagnose(seed, "torch", others=()).verdict is Verdict.AGREE


def test_a_backend_is_not_compared_with_itself(seed):
    with pytest.raises(LockstepError, match="numpy would be compared with itself") as error:
        lockstep.diagnose(seed, "numpy")
    assert "another backend" in error.value.fix


def test_the_command_prints_the_sentence_and_the_ledger(capsys):
    assert cli.main(["diagnose", "seed", "--backend", "torch", "--epochs", "3"]) == 0
    printed = capsys.readouterr().out
    assert "seed float64  AGREE  none" in printed
    assert "torch: continued" in printed
    assert "steps in lockstep: 0, 1, 2" in printed


def test_the_command_exits_with_one_where_something_differs(capsys, monkeypatch):
    monkeypatch.setitem(
        backends.known(), "broken", backends.Entry("broken", f"{__name__}:a_broken_one", "broken")
    )
    assert cli.main(["diagnose", "seed", "--backend", "broken", "--epochs", "3"]) == 1
    printed = capsys.readouterr().out
    assert "culprit: broken (" in printed
    assert "explanation: sign, confirmed by training: it ascends" in printed
    assert cli.main(["diagnose", "seed", "--backend", "broken", "--json"]) == 1
    content = json.loads(capsys.readouterr().out)
    assert (content["verdict"], content["kind"], content["explanation"]["name"]) == (
        "DIFFER",
        "local",
        "sign",
    )
    assert content["first"]["stage"] == "update/0.linear/b"


def a_broken_one():
    return Broken(faults.SignFlipped)


@pytest.mark.parametrize(
    "arguments",
    [
        ["seed"],
        ["sed", "--backend", "torch"],
        ["seed", "--backend", "trch"],
        ["seed", "--backend", "torch", "--dtype", "int8"],
    ],
)
def test_what_cannot_be_asked_exits_with_two(arguments, capsys):
    try:
        status = cli.main(["diagnose", *arguments])
    except SystemExit as left:
        status = left.code
    assert status == 2
    assert "Traceback" not in capsys.readouterr().err
