"""Clipping: against torch and optax called directly, and that the catalogue's limits bite."""

import jax
import numpy as np
import optax
import pytest
import torch

from lockstep import backends
from lockstep.backends.numpy_vjp.clips import CLIPS, by_norm
from lockstep.backends.ops import CLIPS as RULES
from lockstep.backends.problem import UNCLIPPED, Clip
from lockstep.backends.protocol import LOSSES_ONLY
from lockstep.harness.problems import find
from lockstep.harness.problems.families.clips import LIMITS

RNG = np.random.default_rng(0)
GRADS = {"a": RNG.standard_normal((3, 2)), "b": RNG.standard_normal(4)}


def ours(name, **args):
    return CLIPS[name](Clip(name, **args).args)(GRADS)


def torchs(clip, limit):
    parameters = [torch.nn.Parameter(torch.zeros(grad.shape, dtype=torch.float64)) for grad in GRADS.values()]
    for parameter, grad in zip(parameters, GRADS.values(), strict=True):
        parameter.grad = torch.tensor(grad)
    clip(parameters, limit)
    return dict(zip(GRADS, (parameter.grad.numpy() for parameter in parameters), strict=True))


def optaxs(transform):
    with jax.enable_x64(True):
        grads = {name: jax.numpy.asarray(grad) for name, grad in GRADS.items()}
        return transform.update(grads, transform.init(grads))[0]


def assert_close(left, right):
    for name in GRADS:
        np.testing.assert_allclose(left[name], right[name], rtol=1e-15)


def test_every_clip_is_in_the_catalogue():
    assert {"none", *(clip for clip, _, _ in LIMITS.values())} == set(RULES)


@pytest.mark.parametrize("limit", [0.5, 100.0])
def test_plain_torch_and_optax_clip_alike(limit):
    assert_close(ours("norm", limit=limit), torchs(torch.nn.utils.clip_grad_norm_, limit))
    assert_close(ours("norm", limit=limit, epsilon=0.0), optaxs(optax.clip_by_global_norm(limit)))
    assert_close(ours("value", limit=limit), torchs(torch.nn.utils.clip_grad_value_, limit))
    assert_close(ours("value", limit=limit), optaxs(optax.clip(limit)))


def test_a_zero_gradient_stays_zero_without_a_warning():
    zeros = {"a": np.zeros(2)}
    np.testing.assert_array_equal(by_norm(1.0, 0.0)(zeros)["a"], 0.0)


@pytest.mark.parametrize("name", LIMITS)
def test_the_limits_bite_at_first_and_not_at_last(name):
    problem = find(name)
    trainer = backends.load("numpy").trainer(problem)
    batch = next(iter(problem.batches()))
    clip = CLIPS[problem.clip.name](problem.clip.args)

    def changed(state):
        grads = trainer.read_grads(trainer.gradients(state, batch)[2])
        clipped = clip(grads)
        return any((clipped[key] != grads[key]).any() for key in grads)

    start = trainer.init()
    assert changed(start)
    end = trainer.fit(start, problem.batches(), LOSSES_ONLY).final
    assert not changed(trainer.write(start, end))


def test_both_conventions_are_told_apart():
    first, second = (find(name) for name in ("clip-norm", "clip-norm-exact"))
    losses = []
    for problem in (first, second, second.replace(clip=UNCLIPPED)):
        trainer = backends.load("numpy").trainer(problem)
        losses.append(trainer.fit(trainer.init(), problem.batches(), LOSSES_ONLY).losses)
    assert 1e-12 < np.abs(losses[0] - losses[1]).max() < 1e-5
    assert np.abs(losses[1] - losses[2]).max() > 1e-3
