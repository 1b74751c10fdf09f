"""Every optimizer and variant: state that travels, agreement across backends, decay, and what is refused."""

import numpy as np
import pytest

import lockstep
from lockstep import backends
from lockstep.backends.errors import ProblemError
from lockstep.backends.numpy_vjp.optimizers import decayed
from lockstep.backends.numpy_vjp.rules import RULES
from lockstep.backends.ops import OPTIMIZERS
from lockstep.backends.problem import Optimizer, _check_optimizer
from lockstep.backends.protocol import LOSSES_ONLY
from lockstep.harness.problems import find
from lockstep.harness.problems.families.optimizers import VARIANTS
from tests.conftest import BACKENDS, advance

FIRST = {optimizer: name for name, (optimizer, _, _) in reversed(VARIANTS.items())}
EACH = [name if name in FIRST.values() else pytest.param(name, marks=pytest.mark.sweep) for name in VARIANTS]
"""Every variant; all but one of each optimizer are left to the sweep."""


def assert_same(left, right):
    assert list(left) == list(right)
    for name in left:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name, strict=True)


def test_every_optimizer_is_in_the_catalogue():
    assert {optimizer for optimizer, _, _ in VARIANTS.values()} == set(OPTIMIZERS)


@pytest.mark.parametrize("name", EACH)
def test_a_snapshot_holds_all_that_the_next_step_needs(backend, name):
    problem = find(name)
    trainer, batch = backend.trainer(problem), next(iter(problem.batches()))
    for at in (0, 2):
        snapshot = trainer.read(advance(trainer, trainer.init(), batch, at))
        straight = trainer.read(advance(trainer, trainer.init(), batch, at + 3))
        resumed = trainer.read(advance(trainer, trainer.write(trainer.init(), snapshot), batch, 3))
        assert resumed.step == straight.step == at + 3
        assert_same(resumed.parameters, straight.parameters)
        assert_same(resumed.optimizer, straight.optimizer)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_state_before_the_first_step_is_the_registrys(backend, name, dtype):
    """Names, shapes, dtype and values, whatever the framework keeps, and when."""
    problem = find(name).replace(dtype=dtype)
    trainer = backend.trainer(problem)
    expected = problem.optimizer.initial_state(problem.initial_parameters())
    assert_same(trainer.read(trainer.init()).optimizer, expected)


@pytest.mark.parametrize("name", EACH)
def test_canonical_states_agree_across_backends(name):
    """Names, shapes and units are the registry's, whatever the framework keeps."""
    problem = find(name)
    batch = next(iter(problem.batches()))
    found = []
    for backend in BACKENDS:
        trainer = backends.load(backend).trainer(problem)
        read = [trainer.read(advance(trainer, trainer.init(), batch, steps)).optimizer for steps in (1, 5)]
        found.append(read)
    for other in found[1:]:
        for theirs, ours in zip(other, found[0], strict=True):
            assert {key: value.shape for key, value in theirs.items()} == {
                key: value.shape for key, value in ours.items()
            }
            for key, expected in ours.items():
                scale = max(np.abs(expected).max(), 1e-8)
                np.testing.assert_allclose(theirs[key], expected, rtol=0, atol=1e-13 * scale, err_msg=key)


@pytest.mark.parametrize("name", EACH)
def test_one_backends_state_continues_on_another(name):
    """A snapshot taken anywhere trains on everywhere: the canonical state is complete and means the same."""
    problem = find(name)
    batch = next(iter(problem.batches()))
    source = backends.load("numpy").trainer(problem)
    snapshot = source.read(advance(source, source.init(), batch, 4))
    expected = source.read(advance(source, source.write(source.init(), snapshot), batch, 4)).parameters
    for backend in set(BACKENDS) - {"numpy"}:
        trainer = backends.load(backend).trainer(problem)
        found = trainer.read(advance(trainer, trainer.write(trainer.init(), snapshot), batch, 4)).parameters
        for key, value in expected.items():
            np.testing.assert_allclose(found[key], value, rtol=0, atol=1e-13 * np.abs(value).max())


@pytest.mark.parametrize("name", ["momentum", "adam", "rmsprop-centered"])
def test_fit_carries_the_state_that_steps_carry(backend, name):
    problem = find(name).replace(epochs=6)
    trainer = backend.trainer(problem)
    fitted = trainer.fit(trainer.init(), problem.batches(), LOSSES_ONLY).final
    stepped = trainer.read(advance(trainer, trainer.init(), next(iter(problem.batches())), 6))
    assert fitted.step == stepped.step
    for key, value in {**stepped.parameters, **stepped.optimizer}.items():
        found = {**fitted.parameters, **fitted.optimizer}[key]
        np.testing.assert_allclose(found, value, rtol=0, atol=1e-13 * max(np.abs(value).max(), 1e-8))


def test_arguments_that_do_not_go_together_are_refused():
    with pytest.raises(ProblemError, match="nesterov needs a momentum above 0 and no dampening"):
        Optimizer("sgd", learning_rate=0.1, nesterov=True)
    with pytest.raises(ProblemError, match="do not go together"):
        Optimizer("sgd", learning_rate=0.1, nesterov=True, momentum=0.9, dampening=0.1)
    with pytest.raises(ProblemError, match="must lie between smallest and largest"):
        Optimizer("rprop", learning_rate=100.0)
    with pytest.raises(ProblemError, match="needs an epsilon above 0"):
        Optimizer("adafactor", learning_rate=0.1, epsilon_added=True)


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("adam", {"beta1": 1.0}),
        ("adam", {"beta2": -0.1}),
        ("adam", {"epsilon": 0.0}),
        ("adam", {"amsgrad": 1}),
        ("adam", {"epsilon_root": -1e-9}),
        ("adam", {"decoupled": "yes"}),
        ("sgd", {"weight_decay": -0.1}),
        ("nadam", {"momentum_decay": -1.0}),
        ("radam", {"threshold": 3.0}),
        ("rprop", {"shrink": 1.0}),
        ("rprop", {"grow": 1.0}),
        ("adafactor", {"clip": 0.5}),
        ("adafactor", {"factored_from": 0}),
    ],
)
def test_ranges_are_checked_with_the_fields_name(name, args):
    with pytest.raises(ProblemError, match=f"optimizer '{name}': {next(iter(args))}"):
        Optimizer(name, learning_rate=0.1, **args)


def test_what_is_decoupled_always_takes_no_choice():
    for name in ("adamw", "lion", "adafactor"):
        with pytest.raises(ProblemError, match="does not take 'decoupled'"):
            Optimizer(name, learning_rate=0.1, decoupled=False)
    with pytest.raises(ProblemError, match="does not take 'weight_decay'"):
        Optimizer("rprop", learning_rate=0.1, weight_decay=0.1)


def test_adafactor_refuses_parameters_that_its_frameworks_factor_differently():
    with pytest.raises(ProblemError, match="cannot train 'kernel'") as caught:
        _check_optimizer(Optimizer("adafactor", preset="torch"), {"kernel": (3, 3, 2)})
    assert "(3, 3, 2)" in caught.value.got


def test_decay_goes_around_the_rule():
    """Coupled it enters the gradient; decoupled the rule sees nothing of it."""
    g, w = np.array([1.0, -2.0]), np.array([3.0, 4.0])
    seen = []

    def rule(g, w, slots, t, rate):
        seen.append(g)
        return -rate * g, {}

    coupled, _ = decayed(rule, 0.1, decoupled=False)(g, w, {}, 1, 0.5)
    apart, _ = decayed(rule, 0.1, decoupled=True)(g, w, {}, 1, 0.5)
    np.testing.assert_array_equal(seen[0], g + 0.1 * w)
    np.testing.assert_array_equal(seen[1], g)
    np.testing.assert_allclose(coupled, apart, rtol=1e-15)  # of plain descent the same
    assert decayed(rule, 0.0, decoupled=True) is rule


DECAYED = [name for name, rule in OPTIMIZERS.items() if "decoupled" in rule.arguments]


@pytest.mark.parametrize(
    "name",
    [
        one if one in ("sgd", "adam", "rprop") else pytest.param(one, marks=pytest.mark.sweep)
        for one in DECAYED
    ],
)
def test_decay_agrees_coupled_and_decoupled(name):
    """In every optimizer, in every framework, also where the framework has no such decay of its own."""
    args = {"learning_rate": 1e-2, "weight_decay": 0.1}
    for decoupled in (False, True):
        optimizer = Optimizer(name, **args, decoupled=decoupled)
        problem = find("momentum").replace(name="decay", optimizer=optimizer, epochs=20)
        lockstep.assert_parity(problem, dtypes=["float64"])


def test_adamw_is_adam_decoupled():
    """The same bits: it is the same rule."""
    plain, apart = Optimizer("adam", preset="torch"), Optimizer("adamw", preset="torch")
    g, w = np.array([0.3, -2.0]), np.array([3.0, 4.0])
    slots = {"mean": np.zeros(2), "square": np.zeros(2)}
    left = decayed(RULES["adam"](plain.args), 0.01, decoupled=True)(g, w, slots, 1, 1e-3)
    right = decayed(RULES["adamw"](apart.args), 0.01, decoupled=True)(g, w, slots, 1, 1e-3)
    np.testing.assert_array_equal(left[0], right[0])
