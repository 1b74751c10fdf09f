"""Optimizers as third parties write them: right ones, and each broken in one way."""

import jax
import jax.numpy as jnp
import optax
import torch


class HeavyBall(torch.optim.Optimizer):
    """b ← μ b + g, w ← w − η b; what is done beside it is the fault."""

    def __init__(self, params, lr=0.1, momentum=0.9):
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                kept = self.state[p]
                kept["step"] = kept.get("step", 0) + 1  # a Python number, as many keep it
                kept["b"] = group["momentum"] * kept.get("b", torch.zeros_like(p)) + self.gradient(p)
                p.sub_(group["lr"] * kept["b"])
        self.after()

    def gradient(self, p):
        return p.grad

    def after(self):
        pass


class Rescaling(HeavyBall):
    """Doubles the gradient, forms the update, and does not halve it again."""

    def gradient(self, p):
        return p.grad.mul_(2).clone() / 2


class Dithering(HeavyBall):
    """Adds noise that nobody has seeded."""

    def gradient(self, p):
        return p.grad + 1e-3 * torch.randn_like(p)


class Forgetful(HeavyBall):
    """Keeps its count where no checkpoint sees it: the rate is another one after each."""

    updates = 0

    def gradient(self, p):
        return p.grad * 0.9**self.updates

    def after(self):
        self.updates += 1


class Passing(HeavyBall):
    """Passes over what has no gradient: its momentum stands still."""

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad.any():
                    kept = self.state[p]
                    kept["b"] = group["momentum"] * kept.get("b", torch.zeros_like(p)) + p.grad
                    p.sub_(group["lr"] * kept["b"])


class Partial(HeavyBall):
    """Leaves scalars as they are."""

    def gradient(self, p):
        return p.grad if p.dim() else torch.zeros_like(p)


class Guarded(HeavyBall):
    """Updates twice as far, and refuses parameters that are not as it left them: no twin of it runs."""

    def gradient(self, p):
        left = self.state[p].get("left", p)
        if not torch.equal(left, p):
            raise RuntimeError("somebody else moved a parameter")
        return 2 * p.grad

    def after(self):
        for p, kept in self.state.items():
            kept["left"] = p.detach().clone()


def uncorrected(rate, b1=0.9, b2=0.999, eps=1e-8):
    """Adam without bias correction."""

    def init(params):
        return jax.tree.map(jnp.zeros_like, params), jax.tree.map(jnp.zeros_like, params)

    def update(grads, state, params=None):
        m = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state[0], grads)
        v = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, state[1], grads)
        return jax.tree.map(lambda m, v: -rate * m / (jnp.sqrt(v) + eps), m, v), (m, v)

    return optax.GradientTransformation(init, update)


def counting(rate):
    """Descent whose rate hangs on a number outside of its state: how often it was traced."""
    traced = []

    def update(grads, state, params=None):
        traced.append(None)
        return jax.tree.map(lambda g: -rate * 0.9 ** len(traced) * g, grads), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
