"""A user's own trainer, recorded and replayed: the same code agrees to the bit, and what is otherwise is found at its step."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from torch import nn

import lockstep
from lockstep.backends import jax_haiku, pytorch
from lockstep.backends.adoption import AdoptionError
from lockstep.backends.errors import LockstepError
from lockstep.harness import bundle
from lockstep.harness.bundle import BundleError, record_run
from lockstep.harness.bundle.recording import MACHINE
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.mapping.mapping import MappingError
from lockstep.harness.problems import find
from tests.harness.adopted import models

STEPS_RECORDED = {"parameters_at": [0, 3, "last"], "stages_at": [0, 2, "last"]}
STEPS = 6


def recorded(path, trainer, **options):
    return lockstep.record_adopted(path, trainer, models.batches(), **{**STEPS_RECORDED, **options})


def verdicts(result):
    return {one.quantity: one.verdict for one in result.comparisons}


def content(result):
    (found,) = result.cases[0].diagnoses
    return found


@pytest.mark.parametrize("side", [models.torch_side, models.haiku_side], ids=["torch", "haiku"])
def test_the_same_code_agrees_with_what_it_recorded_to_the_bit(path, side):
    trainer = side("adam")
    made = recorded(path, trainer)
    result = lockstep.replay_adopted(path, trainer, models.batches())
    assert result.verdict is Verdict.AGREE, result.census()
    assert max(one.differing for one in result.comparisons) == 0
    wanted = {"inputs", "loss", "stages of step 0", "stages of step 2", "stages of step 5"}
    assert wanted < set(verdicts(result))
    name = min(made.runs[0].parameters[3])
    assert {name, f"{name} after 0 steps", f"{name} after 3 steps"} < set(verdicts(result))
    rows = content(result).ledger.rows
    assert {row.kind for row in rows} == {"batch", "state", "forward", "loss", "gradient", "update"}
    assert {row.verdict for row in rows} == {Verdict.AGREE}
    assert bundle.to_bytes(bundle.load(path)) == bundle.to_bytes(made) == path.read_bytes()


def test_it_holds_no_batch_and_no_code(path):
    held = recorded(path, models.torch_side())
    assert held.task.batches.shape == (STEPS, 32)
    x = models.batches()[0][0]
    assert x.tobytes() not in path.read_bytes()
    kinds = {name.partition("/")[0] for name in held.runs[0].stages[2]}
    assert kinds == {"state", "forward", "loss", "gradient", "update"}
    assert not held.runs[0].run.trace.final.optimizer


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_another_framework_replays_under_a_mapping(path, optimizer):
    recorded(path, models.torch_side(optimizer))
    result = lockstep.replay_adopted(path, models.jax_side(optimizer), models.batches(), mapping=models.NAMES)
    assert result.verdict is Verdict.AGREE, result.census()
    assert max(one.differing for one in result.comparisons) > 0
    updates = {row.step: row for row in content(result).ledger.rows if row.name == "update/0.weight"}
    assert updates[0].verdict is Verdict.AGREE, "nothing was kept yet that could not be written"
    lacking = "the recorded optimizer's state has another form than that here"
    assert updates[2].reason == ("" if optimizer == "sgd" else lacking)


HAIKU = {
    f"{layer}.{torch_name}": {"to": f"linear{suffix}/{name}", **layout}
    for layer, suffix in ((0, ""), (2, "_1"), (4, "_2"))
    for torch_name, name, layout in (("weight", "w", {"transpose": [1, 0]}), ("bias", "b", {}))
}


def test_modules_of_another_framework_are_judged_under_the_recorded_names(path):
    recorded(path, models.torch_side())
    result = lockstep.replay_adopted(path, models.haiku_side(), models.batches(), mapping=HAIKU)
    assert result.verdict is Verdict.AGREE, result.census()
    rows = {row.name: row.verdict for row in content(result).ledger.rows if row.step == 2}
    assert {rows[f"forward/{layer}"] for layer in (0, 2, 4)} == {Verdict.AGREE}
    assert rows["forward/1"] is Verdict.SKIPPED, "a module without parameters is paired with nothing"


def test_a_module_of_another_framework_that_differs_is_found(path):
    wrong = models.perceptron()
    wrong[1] = nn.Hardtanh()
    recorded(path, models.torch_side(module=wrong))
    found = content(lockstep.replay_adopted(path, models.haiku_side(), models.batches(), mapping=HAIKU))
    assert (found.first.step, found.first.name) == (0, "forward/2")


def test_a_run_that_moves_nothing_is_not_agreement(path):
    recorded(path, models.torch_side(rate=0.0))
    result = lockstep.replay_adopted(path, models.torch_side(rate=0.0), models.batches())
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "no step of either side moves any parameter" in result.cases[0].reason


def test_another_learning_rate_is_found_at_its_step_and_stage(path):
    recorded(path, models.torch_side("adam"))
    result = lockstep.replay_adopted(path, models.torch_side("adam", rate=0.1 * (1 + 1e-6)), models.batches())
    assert result.verdict is Verdict.DIFFER
    assert verdicts(result)["inputs"] is verdicts(result)["0.weight after 0 steps"] is Verdict.AGREE
    sentence = content(result).sentence
    assert "torch first diverges from the recording at step 1, in the whole run's loss: " in sentence
    assert "computed from the recorded state of step 0, the update of 0.bias at [" in sentence
    assert {row.kind for row in content(result).ledger.blamed} == {"update"}


def test_another_epsilon_shows_in_a_late_step_too(path):
    recorded(path, models.torch_side(), stages_at=[])
    made = lambda eps: pytorch.adopt(  # noqa: E731
        models.perceptron(), nn.functional.mse_loss, lambda p: torch.optim.Adam(p, lr=0.1, eps=eps)
    )
    recorded(path, made(1e-8), stages_at=["last"], parameters_at=())
    found = content(lockstep.replay_adopted(path, made(1e-7), models.batches()))
    assert (found.kind, found.first.step, found.first.kind) == ("local", 5, "update")


def test_another_forward_pass_is_found_in_its_module(path):
    recorded(path, models.torch_side())
    wrong = models.perceptron()
    wrong[3] = nn.Hardtanh()
    found = content(lockstep.replay_adopted(path, models.torch_side(module=wrong), models.batches()))
    assert (found.first.step, found.first.name) == (0, "forward/3")


def test_another_batch_is_found_at_its_step(path):
    recorded(path, models.torch_side())
    batches = models.batches()
    batches[4] = batches[4][0] * (1 + 1e-9), batches[4][1]
    result = lockstep.replay_adopted(path, models.torch_side(), batches)
    inputs = next(one for one in result.comparisons if one.quantity == "inputs")
    assert inputs.verdict is Verdict.DIFFER
    assert inputs.reason == "batches: others than were recorded, first at step 4"
    assert content(result).sentence.startswith(
        "torch first diverges from the recording at step 4, in the whole run's inputs: batches: others"
    )


def test_too_few_batches_and_another_order_are_other_batches(path):
    recorded(path, models.torch_side(), stages_at=())
    for batches, step in ((models.batches()[:5], 5), (models.batches()[::-1], 0)):
        result = lockstep.replay_adopted(path, models.torch_side(), batches)
        (inputs, *_) = result.comparisons
        assert inputs.first_failing == (step,)


def test_it_starts_where_the_recorded_one_did(path):
    """Another version may draw its initial parameters otherwise."""
    recorded(path, models.torch_side())
    other = models.torch_side(module=models.perceptron(seed=1))
    result = lockstep.replay_adopted(path, other, models.batches())
    assert result.verdict is Verdict.AGREE
    assert max(one.differing for one in result.comparisons) == 0


def test_without_the_start_another_one_differs(path):
    held = recorded(path, models.torch_side(), data=False, machine=False, parameters_at=(), stages_at=())
    assert held.task.start is None
    assert not set(MACHINE) & set(held.environment)
    assert lockstep.replay_adopted(path, models.torch_side(), models.batches()).verdict is Verdict.AGREE
    other = models.torch_side(module=models.perceptron(seed=1))
    result = lockstep.replay_adopted(path, other, models.batches())
    assert "initial/0.bias: other values than were recorded" in result.comparisons[0].reason


def test_trees_buffers_and_schedulers_are_kept(path):
    def side(momentum=0.1):
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, momentum=momentum), nn.Linear(4, 1))
        optimizer = torch.optim.SGD(module.double().parameters(), lr=0.1, momentum=0.9)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2)
        forward = lambda module, x: module(x["a"]) * x["b"]["c"]  # noqa: E731
        return pytorch.adopt(module, nn.functional.mse_loss, optimizer, scheduler=scheduler, forward=forward)

    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.standard_normal(shape)  # noqa: E731
    batches = [({"a": draw(5, 3), "b": {"c": draw(5, 1)}}, draw(5, 1)) for _ in range(4)]
    lockstep.record_adopted(path, side(), batches, stages_at=[0, 3])
    result = lockstep.replay_adopted(path, side(), batches)
    assert result.verdict is Verdict.AGREE
    assert "1.running_var" in verdicts(result)
    found = content(lockstep.replay_adopted(path, side(momentum=0.2), batches))
    assert found.first.name == "buffers/1.running_mean"
    batches[2][0]["b"]["c"][0] += 1
    assert lockstep.replay_adopted(path, side(), batches).comparisons[0].first_failing == (2,)


def test_an_optimizer_that_keeps_bfloat16_and_counts_survives(path):
    side = models.jax_side(transform=optax.adam(0.1, mu_dtype=jnp.bfloat16))
    recorded(path, side, stages_at=[2], steps=3, parameters_at=())
    state = bundle.load(path).runs[0].stages[2]
    kept = {str(value.dtype) for name, value in state.items() if name.startswith("state/optimizer/")}
    assert kept == {"bfloat16", "float64", "int32"}
    result = lockstep.replay_adopted(path, side, models.batches())
    assert result.verdict is Verdict.AGREE, result.census()
    assert max(one.differing for one in result.comparisons) == 0
    assert content(result).ledger.rows[-1].verdict is Verdict.AGREE, "the optimizer's state was written"


def test_a_loss_may_have_another_dtype_than_the_parameters(path):
    side = lambda: models.torch_side(loss=lambda output, y: nn.functional.mse_loss(output, y).float())  # noqa: E731
    held = recorded(path, side())
    assert held.runs[0].run.trace.losses.dtype == np.float64
    result = lockstep.replay_adopted(path, side(), models.batches())
    assert result.verdict is Verdict.AGREE, result.census()
    assert max(one.differing for one in result.comparisons) == 0


def test_a_parameter_may_have_any_name(path):
    params = {"count": np.ones((4, 1)), "a b/ä": np.zeros(1)}
    model = lambda p, x: x @ p["count"] + p["a b/ä"]  # noqa: E731
    side = lambda rate=0.1: jax_haiku.adopt(model, models.squared, optax.sgd(rate), params)  # noqa: E731
    recorded(path, side())
    assert lockstep.replay_adopted(path, side(), models.batches()).verdict is Verdict.AGREE
    found = content(lockstep.replay_adopted(path, side(0.1 * (1 + 1e-15)), models.batches()))
    assert found.verdict is Verdict.AGREE, "the gradient of `count` is no count: rounding passes"


def seeded(seed):
    module = nn.Sequential(nn.Linear(4, 4), nn.Dropout(), nn.Linear(4, 1)).double()
    return models.torch_side(module=module, seed=seed)


def test_random_numbers_are_those_of_the_recorded_seed_or_refused(path):
    held = recorded(path, seeded(3))
    assert held.task.generator == "torch, seed 3"
    assert lockstep.replay_adopted(path, seeded(3), models.batches()).verdict is Verdict.AGREE
    with pytest.raises(AdoptionError, match="recorded 'torch, seed 3', here torch, seed 4"):
        lockstep.replay_adopted(path, seeded(4), models.batches())
    with pytest.raises(AdoptionError, match="draws random numbers"):
        recorded(path, seeded(None))
    assert recorded(path, models.torch_side(seed=3)).task.generator == "", "it draws none"


class Fails(nn.Module):
    """Raises at a forward pass."""

    def __init__(self, last):
        super().__init__()
        self.inner, self.left = models.perceptron(), last

    def forward(self, x):
        self.left -= 1
        if not self.left:
            raise RuntimeError("out of luck")
        return self.inner(x)


def test_what_cannot_be_recorded_is_refused_and_nothing_is_written(path):
    for options, words in (
        ({"stages_at": [STEPS]}, "stages-at: not a step"),
        ({"parameters_at": ["soon"]}, "not a step"),
        ({"max_size": 2_000}, "the bundle would be larger than was allowed"),
        ({"parameters_at": range(STEPS), "steps": 5_000, "stages_at": range(800)}, "too many arrays"),
        ({"trainer": models.torch_side(module=Fails(5))}, "RuntimeError: out of luck"),
    ):
        given = {"trainer": models.torch_side(), "max_size": 10**9, **options}
        with pytest.raises(LockstepError, match=words):
            recorded(path, given.pop("trainer"), **given)
        assert not path.exists()


def test_the_size_is_refused_before_the_run(path, monkeypatch):
    def train(*arguments, **options):
        raise AssertionError("it trained")

    monkeypatch.setattr(record_run, "free_run", train)
    with pytest.raises(BundleError, match="about 3,480 of 3,000 bytes"):
        recorded(path, models.torch_side(), max_size=3_000, parameters_at=range(7), stages_at=())


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_size_is_known_before_the_run(path, optimizer):
    """To a fifth, of what is large: names and headers are not counted."""
    wide = nn.Sequential(nn.Linear(4, 200), nn.Tanh(), nn.Linear(200, 1)).double()
    made = lambda: models.torch_side(optimizer, module=wide)  # noqa: E731
    recorded(path, made())
    size = path.stat().st_size
    assert recorded(path, made(), max_size=int(1.25 * size))
    with pytest.raises(BundleError, match="would be larger"):
        recorded(path, made(), max_size=int(0.6 * size))


def test_a_trainer_that_does_not_fit_is_refused(path):
    recorded(path, models.torch_side())
    wide = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 1)).double()
    with pytest.raises(BundleError, match=r"'0\.bias': recorded \(4,\), here \(5,\).*and 3 others"):
        lockstep.replay_adopted(path, models.torch_side(module=wide), models.batches())
    with pytest.raises(BundleError, match="other parameters than were recorded"):
        lockstep.replay_adopted(path, models.jax_side(), models.batches())
    with pytest.raises(MappingError, match="the mapping names what"):
        lockstep.replay_adopted(path, models.jax_side(), models.batches(), mapping={"0.weight": "nothing"})
    with pytest.raises(AdoptionError, match="float32, recorded float64"):
        lockstep.replay_adopted(
            path, models.torch_side(module=models.perceptron(torch.float32)), models.batches()
        )


def test_either_kind_of_bundle_is_told_from_the_other(path):
    recorded(path, models.torch_side())
    with pytest.raises(BundleError, match="give that trainer with --trainer"):
        lockstep.replay(path)
    lockstep.record(path, find("seed"), backends=["numpy"], dtypes=["float64"])
    with pytest.raises(BundleError, match="recorded of problems"):
        lockstep.replay_adopted(path, models.torch_side(), models.batches())


def test_what_fails_here_is_an_error_and_what_diverges_never_agrees(path):
    recorded(path, models.torch_side(module=Fails(1_000)))
    result = lockstep.replay_adopted(path, models.torch_side(module=Fails(6)), models.batches())
    assert result.verdict is Verdict.ERROR
    assert "RuntimeError: out of luck" in result.cases[0].reason
    recorded(path, models.torch_side(rate=1e200))
    assert lockstep.replay_adopted(path, models.torch_side(rate=1e200), models.batches()).verdict in (
        Verdict.ERROR,
        Verdict.DIFFER,
    )


@pytest.mark.parametrize(
    ("kind", "name", "words"),
    [
        ("parameters", "0.weight", "in the whole run's 0.weight after 3 steps at [0, 1]"),
        ("stages", "forward/2", "the recorded state of step 2, the output of 2 at [0, 1] differs"),
        ("stages", "gradient/2.weight", "of step 2, the gradient of 2.weight at [0, 1] differs"),
        ("stages", "update/0.weight", "of step 2, the update of 0.weight at [0, 1] differs"),
    ],
)
def test_one_altered_number_is_found_where_it_is(path, kind, name, words):
    held = recorded(path, models.torch_side("adam"), parameters_at=[3], stages_at=[2])
    (one,) = held.runs
    (step,) = getattr(one, kind)
    arrays = {key: value.copy() for key, value in getattr(one, kind)[step].items()}
    arrays[name][0, 1] *= 1 + 1e-4
    altered = dataclasses.replace(held, runs=(dataclasses.replace(one, **{kind: {step: arrays}}),))
    result = lockstep.replay_adopted(altered, models.torch_side("adam"), models.batches())
    assert result.verdict is Verdict.DIFFER
    assert words in content(result).sentence


def test_looking_at_a_run_does_not_move_it(path):
    plain = recorded(path, models.torch_side("adam"), parameters_at=(), stages_at=())
    observed = recorded(path, models.torch_side("adam"), parameters_at=range(6), stages_at=range(6))
    left, right = (one.runs[0].run.trace.losses.tobytes() for one in (plain, observed))
    assert left == right
