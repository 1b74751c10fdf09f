"""One small net with names in torch and JAX, and ways in which one side's parameters are not the other's."""

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch import nn

from lockstep.backends import jax_haiku, pytorch
from tests.harness.adopted import models


class Net(nn.Module):
    """Two layers; perhaps without the last bias, with a layer that no loss depends on, or with the first matrix frozen."""

    def __init__(self, bias=True, unused=False, frozen=False):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(4, 4), nn.Linear(4, 1, bias=bias)
        if unused:
            self.pool = nn.Linear(4, 7)
        self.fc1.weight.requires_grad_(not frozen)

    def forward(self, x):
        return self.fc2(torch.tanh(self.fc1(x)))


class Coded(nn.Module):
    """A code, and back by the same matrix, or by another one."""

    def __init__(self, tied):
        super().__init__()
        self.code, self.head = nn.Linear(4, 6, bias=False), nn.Linear(4, 1)
        self.back = None if tied else nn.Linear(6, 4, bias=False)

    def forward(self, x):
        hidden = torch.tanh(self.code(x))
        return self.head(hidden @ self.code.weight if self.back is None else self.back(hidden))


class Deep(nn.Module):
    """Residual blocks of square matrices, each normalised, as transformers have them."""

    def __init__(self, depth):
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.ModuleDict({"norm": nn.LayerNorm(4), "fc": nn.Linear(4, 4)}) for _ in range(depth)
        )
        self.head = nn.Linear(4, 1)

    def forward(self, x):
        for block in self.blocks:
            x = x + torch.tanh(block["fc"](block["norm"](x)))
        return self.head(x)


def torch_side(module, loss=nn.functional.mse_loss):
    trained = [one for one in module.double().parameters() if one.requires_grad]
    return pytorch.adopt(module, loss, torch.optim.SGD(trained, lr=0.1))


def random(**shapes):
    """``fc1__kernel=(4, 4)`` is {"fc1": {"kernel": ...}}, random."""
    rng, tree = np.random.default_rng(0), {}
    for name, shape in shapes.items():
        module, _, kind = name.partition("__")
        tree.setdefault(module, {})[kind] = rng.standard_normal(shape)
    return tree


SHAPES = {"fc1__kernel": (4, 4), "fc1__bias": (4,), "fc2__kernel": (4, 1), "fc2__bias": (1,)}
UNUSED = {"pool__kernel": (4, 7), "pool__bias": (7,)}
CODED = {"code__kernel": (4, 6), "head__kernel": (4, 1), "head__bias": (1,)}


def net(params, x):
    hidden = jnp.tanh(x @ params["fc1"]["kernel"] + params["fc1"]["bias"])
    return hidden @ params["fc2"]["kernel"] + params["fc2"].get("bias", 0.0)


def coded(params, x):
    back = params["back"]["kernel"] if "back" in params else params["code"]["kernel"].T
    return jnp.tanh(x @ params["code"]["kernel"]) @ back @ params["head"]["kernel"] + params["head"]["bias"]


def deep(params, x, activation=jnp.tanh, epsilon=1e-5):
    depth = sum(name.startswith("blocks") for name in params)
    for number in range(depth):
        block = params[f"blocks_{number}"]
        centred = x - x.mean(-1, keepdims=True)
        normed = centred / jnp.sqrt((centred**2).mean(-1, keepdims=True) + epsilon)
        normed = normed * block["norm"]["scale"] + block["norm"]["bias"]
        x = x + activation(normed @ block["fc"]["kernel"] + block["fc"]["bias"])
    return x @ params["head"]["kernel"] + params["head"]["bias"]


def deep_params(depth):
    block = {"norm__scale": (4,), "norm__bias": (4,), "fc__kernel": (4, 4), "fc__bias": (4,)}
    blocks = {f"blocks_{number}": random(**block) for number in range(depth)}
    return {**blocks, **random(head__kernel=(4, 1), head__bias=(1,))}


def jax_side(params, model=net, loss=models.squared, **settings):
    with jax.enable_x64(True):
        return jax_haiku.adopt(model, loss, models.optimizers("sgd", 0.1)[1], params, **settings)
