"""One backend that keeps every rule, and for each rule one that breaks it, as people do."""

import dataclasses
import time

import numpy as np

from lockstep.backends.numpy_vjp.backend import NumPyBackend, NumPyTrainer
from lockstep.backends.problem import UNAVERAGED, UNCLIPPED, Batch
from lockstep.backends.protocol import NOTHING, Unsupported

KEPT = {}
"""What faults keep between calls, where they should not."""


def backend(trainer=NumPyTrainer, **members):
    """A backend of that trainer, with members of its own."""
    return type(
        "Faulty",
        (NumPyBackend,),
        {"name": "faulty", "trainer": lambda self, problem: trainer(problem), **members},
    )()


def trainer(**methods):
    """A backend whose trainer has these methods instead of NumPy's."""
    return backend(type("FaultyTrainer", (NumPyTrainer,), methods))


def nudged(arrays, by=1e-3):
    return {name: (value * (1 + by)).astype(value.dtype) for name, value in arrays.items()}


def transposed(self, state):
    """Reads square weights as its framework keeps them."""
    found = NumPyTrainer.read(self, state)
    turned = {
        name: value.T.copy() if value.ndim == 2 and value.shape[0] == value.shape[1] else value
        for name, value in found.parameters.items()
    }
    return dataclasses.replace(found, parameters=turned)


def rounded(self):
    """Its data went through half precision."""
    return {
        name: value.astype(np.float16).astype(value.dtype) if name.startswith("data/") else value
        for name, value in NumPyTrainer.given(self).items()
    }


def unsorted(self, state):
    found = NumPyTrainer.read(self, state)
    return dataclasses.replace(found, parameters=dict(reversed(found.parameters.items())))


def wide(self, grads):
    return {name: value.astype(np.float64) for name, value in grads.items()}


def training_mode(self, state, x):
    """Evaluates with what training left of the last batch."""
    return NumPyTrainer.predict(self, state._replace(buffers=nudged(state.buffers)), x)


def applied_twice(self, state, grads):
    """The half forgets what the whole step does."""
    return NumPyTrainer.apply(self, state, nudged(grads))


def whole(self, state, batch):
    state, loss, grads = NumPyTrainer.gradients(self, state, batch)
    return NumPyTrainer.apply(self, state, grads), loss


def eager(self, state, batch):
    """`gradients` already counts."""
    state, loss, grads = NumPyTrainer.gradients(self, state, batch)
    return state._replace(step=state.step + 1), loss, grads


def forgetful(self, state, snapshot):
    """Moments are not written back."""
    fresh = NumPyTrainer.init(self)
    return NumPyTrainer.write(self, state, snapshot)._replace(optimizer=fresh.optimizer)


def one_shape(self, state, batch):
    """Compiled for the first batch's rows; another batch's loss is divided by those."""
    rows = self.__dict__.setdefault("rows", len(batch.x))
    state, loss, grads = NumPyTrainer.gradients(self, state, batch)
    return state, loss, nudged(grads, len(batch.x) / rows - 1)


def no_longer(self, state, batch):
    """Buffers of the first batch's length: what a longer one has beyond it is not looked at."""
    rows = self.__dict__.setdefault("rows", len(batch.x))
    masks = {name: mask[:rows] for name, mask in batch.masks.items()}
    return NumPyTrainer.gradients(self, state, Batch(batch.x[:rows], batch.y[:rows], masks))


def drawn(self, state, grads):
    noise = np.random.default_rng().standard_normal() * 1e-9
    return NumPyTrainer.apply(self, state, nudged(grads, noise))


def normalises(self, state, batch):
    """In place."""
    found = NumPyTrainer.gradients(self, state, batch)
    batch.x[...] -= batch.x.mean(axis=0)
    return found


def shares(self, state, snapshot):
    """What it is given is its own from now on."""
    return NumPyTrainer.write(self, state, snapshot)._replace(parameters=dict(snapshot.parameters))


def lends(self, state):
    """What it reads out is still its own."""
    return dataclasses.replace(
        NumPyTrainer.read(self, state), parameters=dict(sorted(state.parameters.items()))
    )


def counted(self, state, x):
    """A prediction is a batch of training for the running averages."""
    found = NumPyTrainer.predict(self, state, x)
    for value in (*state.parameters.values(), *state.buffers.values()):
        value *= 1.01
    return found


def momentary(self, state, grads):
    """The count is the trainer's, not the state's."""
    self.calls = getattr(self, "calls", 0) + 1
    return NumPyTrainer.apply(self, state, nudged(grads, self.calls * 1e-6))


def switched(self, state, batch):
    """A switch of the whole process says in which precision to compute; another thread may turn it meanwhile."""
    KEPT["dtype"] = self._problem.dtype
    found = NumPyTrainer.gradients(self, state, batch)
    time.sleep(0.002)
    wrong = KEPT["dtype"] != self._problem.dtype
    return found[0], found[1], nudged(found[2], 1e-3 if wrong else 0)


def seeds(self):
    np.random.seed(0)
    return NumPyTrainer.init(self)


def last_left_out(self, state, batches, recording):
    trace = NumPyTrainer.fit(self, state, batches, recording)
    return dataclasses.replace(trace, final=dataclasses.replace(trace.final, step=trace.final.step - 1))


def recorded_otherwise(self, state, batches, recording):
    trace = NumPyTrainer.fit(self, state, batches, recording)
    losses = np.nextafter(trace.losses, 0) if recording.parameters else trace.losses
    return dataclasses.replace(trace, losses=losses)


def no_masks(self, state, batch, wanted, inject=NOTHING):
    found = NumPyTrainer.observe(self, state, batch, wanted, inject)
    return {name: value for name, value in found.items() if name != "loss"}


def unpenalised(self, state, batch, wanted, inject=NOTHING):
    found = NumPyTrainer.observe(self, state, batch, wanted, inject)
    return {name: value / 2 if name.startswith("gradient/") else value for name, value in found.items()}


def always(self, state, grads):
    return self.read_grads(grads)


def never_clips(self, state, grads):
    return {} if self._problem.clip == UNCLIPPED else self.read_grads(grads)


def deaf(self, state, batch, wanted, inject=NOTHING):
    return NumPyTrainer.observe(self, state, batch, wanted)


def once_more(self, state, batch, wanted, inject=NOTHING):
    """Computes an injected layer once more."""
    return NumPyTrainer.observe(self, state, batch, wanted, nudged(inject))


def halfway(self, state, batch, wanted, inject=NOTHING):
    """Takes outputs, not cotangents."""
    return NumPyTrainer.observe(
        self, state, batch, wanted, {k: v for k, v in inject.items() if k.startswith("forward/")}
    )


def alike(self, batches, twins, seed):
    found = NumPyTrainer.disturbed(self, batches, twins, seed)
    losses = np.repeat(found.trace.losses[:1], twins, axis=0)
    return dataclasses.replace(found, trace=dataclasses.replace(found.trace, losses=losses))


def without_penalties(problem):
    return NumPyTrainer(problem.replace(penalties=()))


def without_average(problem):
    return NumPyTrainer(problem.replace(average=UNAVERAGED))


def constantly(problem):
    """A part that it does not know is ignored instead of refused."""
    return NumPyTrainer(problem.replace(schedule=type(problem.schedule)("constant")))


FAULTS = {
    "nameless": ("name", lambda: backend(name=" ")),
    "refuses everything": ("supports", lambda: backend(supports=lambda self, one: Unsupported("no"))),
    "refuses without a reason": ("supports", lambda: backend(supports=lambda self, one: Unsupported(""))),
    "TF32": (
        "environment",
        lambda: backend(environment=lambda self: {"version": "1", "reduced_precision": True}),
    ),
    "a word of its own": ("capabilities", lambda: trainer(capabilities=frozenset({"fit", "fast"}))),
    "another argument": ("methods", lambda: trainer(predict=lambda self, state, rows: rows)),
    "a method missing": (
        "methods",
        lambda: trainer(capabilities=frozenset({"fit"}), clipped=None, read_grads=None),
    ),
    "transposed": ("start", lambda: trainer(read=transposed)),
    "rounded data": ("given", lambda: trainer(given=rounded)),
    "unsorted": ("snapshots", lambda: trainer(read=unsorted)),
    "float64 gradients": ("gradients layout", lambda: trainer(read_grads=wide)),
    "evaluates as it trains": ("predictions", lambda: trainer(predict=training_mode)),
    "halves that are not the step": ("halves", lambda: trainer(apply=applied_twice, step=whole)),
    "counts too early": ("gradients update nothing", lambda: trainer(gradients=eager)),
    "forgets moments": ("continues", lambda: trainer(write=forgetful)),
    "remembers a shape": ("short batch", lambda: trainer(gradients=one_shape)),
    "allocates for the first batch": ("short batch", lambda: trainer(gradients=no_longer)),
    "draws": ("deterministic", lambda: trainer(apply=drawn, capabilities=frozenset())),
    "changes the batch": ("inputs unchanged", lambda: trainer(gradients=normalises)),
    "shares": ("takes copies", lambda: trainer(write=shares)),
    "lends": ("hands out copies", lambda: trainer(read=lends)),
    "moves while it predicts": ("observing moves nothing", lambda: trainer(predict=counted)),
    "counts in the trainer": ("states apart", lambda: trainer(apply=momentary)),
    "a switch of the process": ("threads", lambda: trainer(gradients=switched)),
    "seeds NumPy": ("random states", lambda: trainer(init=seeds)),
    "fit miscounts": ("fit", lambda: trainer(fit=last_left_out)),
    "recording changes a bit": ("recording", lambda: trainer(fit=recorded_otherwise)),
    "a stage is missing": ("stages complete", lambda: trainer(observe=no_masks)),
    "stages of another step": ("stages of the step", lambda: trainer(observe=unpenalised)),
    "clips always": ("nothing clipped", lambda: trainer(clipped=always)),
    "never clips": ("clipped", lambda: trainer(clipped=never_clips)),
    "changes what is injected": ("own stages injected", lambda: trainer(observe=once_more)),
    "ignores what is injected": ("injection", lambda: trainer(observe=deaf)),
    "ignores injected cotangents": ("injection by formula", lambda: trainer(observe=halfway)),
    "twins all alike": ("twins", lambda: trainer(disturbed=alike)),
    "ignores penalties": ("agrees", lambda: backend(without_penalties)),
    "ignores averages": ("agrees", lambda: backend(without_average)),
    "ignores schedules": ("agrees", lambda: backend(constantly)),
}
"""What is wrong -> (the check that says so, how the backend is made)."""
