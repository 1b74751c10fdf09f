"""A device that torch only pretends to have: shapes and places are those of a run there, and there are no numbers.

`meta` is the one device beside the CPU that a CPU build of torch lets modules be moved to. Its operations do not mind
where their arguments lie, so that is looked at here, before each of them. What a GPU allows is allowed: a tensor of no
axes on the CPU beside others on the device, which is how torch keeps an optimizer's counts, and a copy to the device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lockstep.backends.protocol import Recording
from lockstep.backends.pytorch import arrays, backend
from lockstep.backends.pytorch.backend import TorchTrainer

DEVICE = "meta"
COPIES = (torch.ops.aten.copy_.default, torch.ops.aten._to_copy.default)


class Watched(TorchDispatchMode):
    """Every operation's arguments lie on one device. What Python asks of numbers that are not there gets an answer.

    Attributes:
        reads: how many answers there were; a GPU would have been waited for as often.
    """

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = [one for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)]
        if func is torch.ops.aten._local_scalar_dense.default and given[0].device.type == DEVICE:
            self.reads += 1
            return 1.5 if given[0].is_floating_point() else 1
        places = {one.device.type for one in given if one.ndim}
        if func in COPIES and given[-1].device.type != DEVICE:
            places.discard("cpu")  # from there
        assert len(places) < 2, f"{func} of tensors on two devices, {sorted(places)}"
        return func(*args, **(kwargs or {}))


@contextmanager
def pretended(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    """Within it operations are watched, and whatever is read must come from DEVICE."""

    def array(tensor):
        assert tensor.device.type == DEVICE, f"read from {tensor.device}"
        return np.zeros(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))

    with monkeypatch.context() as patch, Watched() as watched:
        for module in (arrays, backend):  # each has its own name for it
            patch.setattr(module, "as_array", array)
        yield watched


def drive(make: Callable[[], TorchTrainer]) -> None:
    """Every method of a trainer: none mixes devices."""
    trainer = make()
    problem = trainer._problem
    batch = next(iter(problem.batches()))
    trainer.given()
    state, loss = trainer.step(trainer.init(), batch)
    assert loss.device.type == DEVICE
    state, _, grads = trainer.gradients(state, batch)
    stages = trainer.observe(state, batch, ("forward", "loss", "cotangent", "gradient"))
    others = {name: value for name, value in stages.items() if name.startswith(("forward", "cotangent"))}
    trainer.observe(state, batch, ("loss", "gradient"), others)
    trainer.clipped(state, grads)
    state = trainer.apply(state, trainer.write_grads(trainer.read_grads(grads)))
    state = trainer.write(state, trainer.read(state))
    state, _ = trainer.step(state, batch)
    trainer.predict(state, batch.x)
    lies(state)
    trainer.fit(trainer.init(), problem.batches(), Recording(parameters=True))


def lies(state: backend.State) -> None:
    """On DEVICE: whatever has axes; a count may stand on the CPU."""
    modules = [state.module] if state.average is None else [state.module, state.average.module]
    for module in modules:
        for name, one in (*module.named_parameters(), *module.named_buffers()):
            assert one.device.type == DEVICE, name
    for parameter, kept in state.optimizer.state.items():
        assert parameter.grad is None or parameter.grad.device.type == DEVICE
        for name, one in kept.items():
            assert one.device.type == DEVICE or one.ndim == 0, name
