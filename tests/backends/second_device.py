"""Run in a process that has two CPU devices: JAX's trainer on the second one, where nothing may lie on the first.

Every array that is alive is looked at after every method, so one that was made elsewhere is found, whoever holds it.
"""

import json
import sys
from collections.abc import Callable, Iterator

import jax
import numpy as np

from lockstep.backends.jax_haiku.backend import JaxTrainer
from lockstep.backends.protocol import Recording
from lockstep.harness.conformance.problems import PROBLEMS

BATCH_STAGES = ("forward", "loss", "cotangent", "gradient")


Look = Callable[..., None]


def look(device: jax.Device, after: str, entered: bool = True) -> None:
    """Nothing that is alive lies anywhere else, and something is alive if `entered`: no program need have taken it yet."""
    held = {one for array in jax.live_arrays() for one in array.devices()}
    good = held == {device} or not (held or entered)
    assert good, f"after {after}: arrays on {sorted(map(str, held))}, not on {device} alone"


def look_away(device: jax.Device, after: str, entered: bool = True) -> None:
    """Once something was trained on another device."""


def driven(trainer: JaxTrainer, device: jax.Device, look: Look = look) -> Iterator[np.ndarray]:
    """What each method of the trainer gives, as arrays."""
    problem = trainer._problem
    batch = next(iter(problem.batches()))
    trainer.given()
    state = trainer.init()
    look(device, "init", entered=False)
    state, loss = trainer.step(state, batch)
    look(device, "step")
    yield np.asarray(loss)
    state, loss, grads = trainer.gradients(state, batch)
    yield from trainer.observe(state, batch, BATCH_STAGES).values()
    yield from trainer.clipped(state, grads).values()
    look(device, "gradients")
    state = trainer.apply(state, trainer.write_grads(trainer.read_grads(grads)))
    look(device, "apply")
    state = trainer.write(state, trainer.read(state))
    look(device, "write", entered=False)
    state, loss = trainer.step(state, batch)
    look(device, "a step from what was written")
    yield trainer.predict(state, batch.x)
    inner = trainer._fit

    def fit(*args: object, **options: object) -> object:
        found = inner(*args, **options)
        look(device, "fit")
        return found

    trainer._fit = fit
    trace = trainer.fit(trainer.init(), problem.batches(), Recording(parameters=True))
    yield trace.losses
    yield from trace.final.parameters.values()


def fault() -> str:
    """What is found where the trainer forgets its device."""
    second = jax.devices()[1]
    trainer = JaxTrainer(PROBLEMS["seed"](), second)
    trainer._device = None
    try:
        list(driven(trainer, second))
    except AssertionError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    first, second = jax.devices()
    made = {name: PROBLEMS[name]() for name in sys.argv[1:]}
    there = {name: list(driven(JaxTrainer(one, second), second)) for name, one in made.items()}
    here = {name: list(driven(JaxTrainer(one, first), first, look_away)) for name, one in made.items()}
    same = {name: list(map(np.array_equal, there[name], here[name])) for name in made}
    assert all(len(there[name]) == len(here[name]) for name in made)
    print(json.dumps({"same": same, "fault": fault()}))
