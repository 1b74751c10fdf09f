"""Adopted JAX code: nothing of the user's state is lost in a snapshot, and optimizers get what they evaluate."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from lockstep import Verdict
from lockstep.backends import jax_haiku
from lockstep.backends.adoption import AdoptionError
from lockstep.backends.problem import Batch
from lockstep.harness.conformance import check_optimizer
from lockstep.harness.verification import adopted
from tests.harness.adopted import models

BATCHES = [Batch(*one, {}) for one in models.batches(5)]
RATE = 0.1


def linear(params, x):
    return x @ params["w"] + params["b"]


def start(dtype="float64"):
    return {"w": np.ones((4, 1), dtype), "b": np.zeros(1, dtype)}


def side(optimizer=None, *, params=None, model=linear, **settings):
    with jax.enable_x64(True):
        return jax_haiku.adopt(
            model, models.squared, optimizer or optax.sgd(RATE), params or start(), **settings
        )


def trained(trainer, batches=BATCHES):
    state = trainer.init()
    for batch in batches:
        state, _ = trainer.step(state, batch)
    return trainer.read(state)


def assert_same(left, right, rtol=0.0):
    for ours, theirs in (
        (left.parameters, right.parameters),
        (left.optimizer, right.optimizer),
        (left.buffers, right.buffers),
    ):
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            np.testing.assert_allclose(value, theirs[name], rtol=rtol)


def test_what_is_written_stays_where_the_user_put_it():
    mesh = Mesh(np.array(jax.devices()[:1]), ("data",))
    rows = NamedSharding(mesh, PartitionSpec("data"))
    free = {"mean": jnp.zeros(4)}
    params, mean = jax.device_put((start("float32"), free), rows)
    average = lambda p, s, x: (linear(p, x), {"mean": 0.9 * s["mean"] + 0.1 * x.mean(0)})  # noqa: E731
    trainer = jax_haiku.adopt(average, models.squared, optax.adam(RATE), params, state=mean)
    batch = Batch(*(one.astype("float32") for one in BATCHES[0][:2]), {})
    state, _ = trainer.step(trainer.init(), batch)
    for one in (trainer.init(), trainer.write(trainer.init(), trainer.read(state))):
        placed = (one.params, one.optimizer[0].mu, one.optimizer[0].nu, one.buffers)
        assert {leaf.sharding for leaf in jax.tree.leaves(placed)} == {rows}
    grads = trainer.write_grads(trainer.read(state).parameters)
    assert {leaf.sharding for leaf in jax.tree.leaves(grads)} == {rows}
    unplaced = jax_haiku.adopt(average, models.squared, optax.adam(RATE), start("float32"), state=free)
    written = unplaced.write(unplaced.init(), unplaced.read(unplaced.init()))
    assert not any(leaf.committed for leaf in jax.tree.leaves((written.params, written.buffers)))


def averaging(decay):
    """The state is an average of the weights, under their names."""

    def model(params, state, x):
        moved = {name: decay * state[name] + (1 - decay) * value for name, value in params.items()}
        return linear(params, x), moved

    return side(model=model, state=start())


@pytest.mark.parametrize("mapping", [None, {"w": "w", "b": "b"}])
def test_parameters_and_state_of_one_name_do_not_collide(mapping):
    """The average is begun at the weights, and so does not move by the first step."""
    snapshot = averaging(0.9).read(averaging(0.9).init())
    assert (set(snapshot.parameters), set(snapshot.buffers)) == ({"w", "b"}, {"state/w", "state/b"})
    pairs = [one[:2] for one in BATCHES]
    same = adopted.verify([averaging(0.9), averaging(0.9)], pairs, mapping=mapping, diagnose="all")
    assert same.verdict is Verdict.AGREE, same.census()
    other = adopted.verify([averaging(0.9), averaging(0.5)], pairs, mapping=mapping, diagnose="all")
    assert other.verdict is Verdict.DIFFER
    assert "state/" in other.census()


def test_a_state_keeps_its_names_where_they_are_free():
    model = lambda p, s, x: (linear(p, x), s)  # noqa: E731
    assert set(side(model=model, state={"mean": jnp.ones(4)}).read(side().init()).buffers) == set()
    trainer = side(model=model, state={"mean": jnp.ones(4)})
    assert set(trainer.read(trainer.init()).buffers) == {"mean"}
    params = {"w": np.ones((4, 1)), "b": np.zeros(1), "state": {"w": np.zeros(1)}}
    crowded = side(model=model, params=params, state={"w": jnp.ones(4)})
    assert set(crowded.read(crowded.init()).buffers) == {"state/state/w"}


def test_counters_and_random_keys_are_in_a_snapshot():
    """A run that goes on from a snapshot draws what the uninterrupted run draws."""

    def model(params, state, x):
        key, count = state["key"], state["count"]
        scale = 1 + count + 0.1 * jax.random.normal(jax.random.fold_in(key, count))
        moved = {"key": jax.random.split(key)[0], "count": count + 1, "seen": state["seen"] | (count > 2)}
        return linear(params, x) * scale, moved

    state = {"key": jax.random.key(3), "count": jnp.int32(0), "seen": jnp.bool_(False)}
    trainer = side(optax.sgd(0.001), model=model, state=state)
    end = trained(trainer)
    assert end.optimizer["model state/count"] == 5
    assert end.optimizer["model state/seen"]
    assert end.optimizer["model state/key"].dtype == np.uint32
    counting = lambda p, s, x: (linear(p, x), {"count": s["count"] + 1})  # noqa: E731
    sides = [side(model=counting, state={"count": jnp.int32(0)}) for _ in range(2)]
    assert adopted.verify(sides, [one[:2] for one in BATCHES]).verdict is Verdict.AGREE
    resumed = trainer.init()
    for batch in BATCHES:
        resumed, _ = trainer.step(trainer.write(trainer.init(), trainer.read(resumed)), batch)
    assert_same(end, trainer.read(resumed))


def needs_loss():
    """A user's own transform: its rate is the loss, the only extra argument that it takes."""

    def update(updates, state, params=None, *, loss):
        return jax.tree.map(lambda one: -0.01 * loss * one, updates), state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)


EVALUATING = {
    "reduce_on_plateau": lambda: optax.chain(
        optax.sgd(RATE), optax.contrib.reduce_on_plateau(factor=0.5, patience=1, cooldown=0)
    ),
    "polyak_sgd": optax.polyak_sgd,
    "backtracking": lambda: optax.chain(optax.sgd(1.0), optax.scale_by_backtracking_linesearch(15)),
    "lbfgs": optax.lbfgs,
    "momo": lambda: optax.contrib.momo(RATE),
    "MultiSteps": lambda: optax.MultiSteps(optax.polyak_sgd(), 2),
    "its own": needs_loss,
}


@pytest.mark.parametrize("name", EVALUATING)
def test_optimizers_that_evaluate_the_loss_train_the_bare_loop(name):
    transform = EVALUATING[name]()
    end = trained(side(transform))
    with jax.enable_x64(True):
        params = jax.tree.map(jnp.asarray, start())
        state = transform.init(params)
        for x, y, _ in BATCHES:
            loss_of = lambda params, x=x, y=y: models.squared(linear(params, x), y)  # noqa: E731
            loss, grads = jax.value_and_grad(loss_of)(params)
            known = {"value": loss, "grad": grads, "value_fn": loss_of}
            if name == "its own":
                known = {"loss": loss}
            updates, state = transform.update(grads, state, params, **known)
            params = optax.apply_updates(params, updates)
    for key, value in params.items():
        np.testing.assert_allclose(end.parameters[key], value, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", EVALUATING)
def test_the_halves_of_a_step_know_the_loss_too(name):
    trainer = side(EVALUATING[name]())
    state = trainer.init()
    for batch in BATCHES:
        state, _, grads = trainer.gradients(state, batch)
        state = trainer.apply(state, trainer.write_grads(trainer.read_grads(grads)))
    assert_same(trained(trainer), trainer.read(state), rtol=1e-9)


def test_a_loss_that_nobody_knows_is_asked_for_in_plain_words():
    trainer = side(optax.polyak_sgd())
    with pytest.raises(
        AdoptionError, match=r"takes what is not known(.|\n)*'value'(.|\n)*that `gradients` gave"
    ):
        trainer.apply(trainer.init(), trainer.write_grads(start()))
    with pytest.raises(AdoptionError, match=r"takes what is not known(.|\n)*'value'(.|\n)*adopt it together"):
        check_optimizer(optax.polyak_sgd(), against=optax.sgd(RATE), updates=3)


def test_an_optimizer_that_evaluates_the_loss_is_judged_and_diagnosed():
    ours, theirs, same = (side(optax.polyak_sgd(scaling=one)) for one in (0.5, 0.25, 0.5))
    pairs, mapping = [one[:2] for one in BATCHES], {"w": "w", "b": "b"}
    assert adopted.verify([ours, same], pairs, mapping=mapping, diagnose="all").verdict is Verdict.AGREE
    found = adopted.verify([ours, theirs], pairs, mapping=mapping)
    assert found.verdict is Verdict.DIFFER
    assert found.cases[0].diagnoses[0].first.name.startswith("update/")


def test_a_line_search_that_begins_with_an_infinity_is_followed_step_by_step():
    """Its state says that nothing was evaluated yet; the parameters are finite."""
    ours, theirs = (side(optax.lbfgs(memory_size=one)) for one in (10, 1))
    pairs, mapping = [one[:2] for one in BATCHES], {"w": "w", "b": "b"}
    found = adopted.verify([ours, theirs], pairs, mapping=mapping)
    first = found.cases[0].diagnoses[0].first
    assert (first.step, first.name.partition("/")[0]) == (2, "update")


def test_optimizers_that_accumulate_are_checked_like_any_other():
    every_second = optax.MultiSteps(optax.sgd(RATE), 2)
    settings = {"dtypes": ["float64"], "shapes": {"w": (3, 2)}, "updates": 6}
    same = check_optimizer(every_second, against=optax.MultiSteps(optax.sgd(RATE), 2), **settings)
    undecided = {one.check.name for one in same.outcomes if one.verdict is not Verdict.AGREE}
    assert undecided <= {"first update"}, same.census()  # which moves nothing
    other = check_optimizer(every_second, against=optax.sgd(RATE), **settings)
    assert "first update" in other.failed
