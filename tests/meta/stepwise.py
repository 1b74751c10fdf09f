"""The NumPy trainer by its chain alone: whatever a fault overrides of a step, `fit` does as well."""

from lockstep.backends.numpy_vjp.backend import NumPyTrainer
from lockstep.harness.runs.free_run import StepByStep


class StepwiseTrainer(NumPyTrainer):
    """Its `fit` takes one step after the other and runs no kernels."""

    def fit(self, state, batches, recording):
        return StepByStep(self).fit(state, batches, recording)
