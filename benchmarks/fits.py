"""Functions that train a problem from the start: a backend's `fit`, and what stands for the same job elsewhere."""

from __future__ import annotations

from benchmarks import by_hand
from lockstep import backends
from lockstep.backends.problem import Problem
from lockstep.backends.protocol import LOSSES_ONLY, Recording

PEERS = {
    "numpy": {"by hand": by_hand.numpy, "notebook": by_hand.notebook, "HIPS autograd": by_hand.autograd},
    "jax": {"by hand": by_hand.jax_scan, "notebook": by_hand.jax_notebook},
    "torch": {"by hand": by_hand.torch},
}
"""By backend: the loop written by hand in its framework, the notebook's own, and libraries in its place."""


def ours(name: str, problem: Problem, recording: Recording = LOSSES_ONLY):
    """A backend's `fit`, which gives losses, weights and bias."""
    trainer, batches = backends.load(name).trainer(problem), problem.batches()

    def train():
        trace = trainer.fit(trainer.init(), batches, recording)
        final = trace.final.parameters
        return trace.losses, final["0.linear/w"], final["0.linear/b"]

    return train
