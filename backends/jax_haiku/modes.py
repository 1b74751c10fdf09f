"""Other ways to run the same JAX programs: step by step under jit, one operation at a time, and on a GPU."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack

import jax

from lockstep.backends.jax_haiku.backend import JaxBackend, JaxTrainer


class SteppedTrainer(JaxTrainer):
    """Each step is one jitted call; there is no scan over the run."""

    capabilities = JaxTrainer.capabilities - {"fit"}


class EagerTrainer(SteppedTrainer):
    """Nothing is compiled as a whole: every operation is dispatched by itself."""

    def _precision(self) -> AbstractContextManager[object]:
        stack = ExitStack()
        stack.enter_context(super()._precision())
        stack.enter_context(jax.disable_jit())
        return stack


class JaxStepBackend(JaxBackend):
    """The jitted step, called from Python once a step."""

    name = "jax:step"
    kind = SteppedTrainer


class JaxEagerBackend(JaxBackend):
    """Without jit."""

    name = "jax:eager"
    kind = EagerTrainer


class JaxCudaBackend(JaxBackend):
    """The same programs, compiled for a GPU."""

    name = "jax:cuda"
    platform = "cuda"
