"""How to write a backend, and what the harness may rely on.

A **backend** is one framework's way to train any problem. It is constructed without arguments, says what it
supports, and binds a problem to a **trainer**. The trainer does the training; the harness only drives it.

The rules:

- *Arrays cross this boundary as NumPy, in the canonical layout*: a flat dict, sorted by name, names like
  ``0.linear/w``; ``w`` is (in, out), ``b`` is (out,); everything in the problem's dtype. They are copies,
  never views of live buffers, in both directions.
- *A state is linear.* A method that takes a state consumes it, so buffers may be donated or changed in place;
  the caller goes on with the state that comes back. To keep one, `read` it (reading does not consume). The
  problem, the batch and a snapshot are never changed.
- *`step` is the real path*: one whole training step, as the framework's users write it. `gradients` and `apply`
  are its two halves: loss and gradients, penalties included, of this batch alone; then accumulate and, when that
  many batches were trained on, clip, update, average. A trainer that is `UNDIVIDED` has no halves. `fit` is the whole run, as fast as the framework can, and must train what `step` trains.
- *read, write, continue equals uninterrupted training*: a snapshot holds everything that the next step needs.
- *Observing changes nothing*: `observe` recomputes stages next to the trajectory and does not consume the state.
- *Say what you cannot do.* `capabilities` names the optional methods that work; `supports` gives a reason for
  a problem that cannot be trained. Nobody asks for a backend's name.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol

from lockstep.backends.problem import Array, Arrays, Batch, Batches, Problem, walk

State = Any
"""What a trainer carries from step to step; opaque to the harness."""

Grads = Any
"""Gradients in the trainer's own form; opaque to the harness."""

Scalar = Any
"""A scalar that `numpy.asarray` accepts; it may still be on its way (asynchronous dispatch)."""

CAPABILITIES = frozenset({"fit", "stages", "inject", "optimizer_state", "twins", "widen"})
"""What a trainer may offer beyond the plain step.

``fit``: the whole run in one call. ``stages``: `observe` and `clipped`. ``inject``: `observe` takes stages from elsewhere.
``optimizer_state``: `read` and `write` carry
everything the optimizer keeps between steps. ``twins``: it is `Disturbable`. ``widen``: adopted
code of float64 says where it computes in less (`narrowed`), and can be trained without (`widened`).
"""

UNDIVIDED = "undivided"
"""Among the capabilities of an adopted trainer whose step cannot be taken apart: it has no `gradients` and no `apply`."""

STAGES = ("batch", "forward", "loss", "cotangent", "gradient")
"""Kinds of stage in the order of one step. A stage is named ``kind`` or ``kind/part``:

``batch/x``, ``batch/y``, ``batch/mask/<layer>``; ``forward/<layer>``, the layer's output; ``loss``; ``cotangent/<layer>``, the
derivative of the loss with respect to the layer's output; ``gradient/<parameter>``.
"""


@dataclass(frozen=True)
class Unsupported:
    """Why a backend cannot train a problem."""

    reason: str


@dataclass(frozen=True)
class Recording:
    """What `fit` records besides the losses.

    Attributes:
        parameters: every parameter before the first epoch and after each epoch.
    """

    parameters: bool = False


LOSSES_ONLY = Recording()

NOTHING: Arrays = MappingProxyType({})
"""No arrays."""


@dataclass(frozen=True)
class Snapshot:
    """A training state outside its framework: all that the next step needs.

    Attributes:
        parameters: by canonical name.
        optimizer: the optimizer's state by canonical name (``momentum/0.linear/w``); empty where it keeps none.
        step: how many batches were trained on. With accumulation over k batches, step // k updates have been made.
        buffers: what the forward pass of training moves (running averages), by canonical name.
        accumulator: with accumulation over k > 1 batches, by name of the parameter, the sum of g/k over the
            step % k batches since the last update (zeros if there is none); else empty.
        average: the parameters' average by name, where the problem keeps one; not debiased (`Average.reported`
            does that). Before the first update it is the parameters, or zeros where it will be debiased.
        extra: what else a user's own code moves, carried to the bit and never disturbed: under its name each integer or
            boolean buffer (`counts`), under ``name:kind`` each attribute that is not as it was at the start.
    """

    parameters: Arrays
    optimizer: Arrays = field(default_factory=dict)
    step: int = 0
    buffers: Arrays = field(default_factory=dict)
    accumulator: Arrays = field(default_factory=dict)
    average: Arrays = field(default_factory=dict)
    extra: Arrays = field(default_factory=dict)

    @property
    def counts(self) -> Arrays:
        """The integer and boolean buffers: what a forward pass counts."""
        return {name: value for name, value in self.extra.items() if ":" not in name}

    def each(self, change: Callable[[Arrays], Arrays]) -> Snapshot:
        """The same state with `change` made of every kind of arrays in it, but of `extra`."""
        return Snapshot(
            change(self.parameters),
            change(self.optimizer),
            self.step,
            change(self.buffers),
            change(self.accumulator),
            change(self.average),
            self.extra,
        )


@dataclass(frozen=True)
class Trace:
    """What a run left behind.

    Attributes:
        losses: (steps,), the loss of each step's batch before its update, in the problem's dtype; with all rows
            in one batch a step is an epoch.
        final: the state after the last step.
        parameters: when recorded, (epochs + 1, ...) for each parameter, the first entry the initial value.
    """

    losses: Array
    final: Snapshot
    parameters: Arrays | None = None


@dataclass(frozen=True)
class Disturbed:
    """What disturbed runs left behind: arrays as in a `Trace`, with a first axis for the twins, in float64.

    Attributes:
        trace: losses (twins, steps); the final state, (twins, ...) each.
        evaluation: (twins, rows, ...), the prediction in evaluation mode; None where the problem has but one mode.
    """

    trace: Trace
    evaluation: Array | None


class Trainer(Protocol):
    """One problem bound to one backend."""

    @property
    def capabilities(self) -> frozenset[str]:
        """Which of CAPABILITIES this trainer has."""

    def given(self) -> Arrays:
        """What training starts from, read back from where the framework holds it.

        ``data/x``, ``data/y`` and ``initial/<parameter>``: the harness checks that all trainers were given
        the same, to the bit, before it compares any result.
        """

    def init(self) -> State:
        """A fresh state before the first step."""

    def step(self, state: State, batch: Batch) -> tuple[State, Scalar]:
        """One whole training step; the loss is that of the parameters before the update."""

    def gradients(self, state: State, batch: Batch) -> tuple[State, Scalar, Grads]:
        """The first half of a step: loss and gradients, no parameter updated; buffers move with the state."""

    def apply(self, state: State, grads: Grads) -> State:
        """The second half of a step: accumulate, clip, update, average."""

    def observe(
        self, state: State, batch: Batch, wanted: Collection[str], inject: Arrays = NOTHING
    ) -> Arrays:
        """The stages named or of the kinds named in `wanted`, of a step from `state`; nothing is updated.

        Args:
            state: where the step starts; it is not consumed.
            batch: what it sees.
            wanted: stages, or kinds of them.
            inject: stages ``forward/<layer>`` and ``cotangent/<layer>``: what follows is computed from these values;
                the stage itself is given as the trainer computes it. Only with the capability ``inject``.
        """

    def clipped(self, state: State, grads: Grads) -> Arrays:
        """The gradients that `apply` would make its update of, accumulated and clipped; the state is not consumed.

        Nothing where the problem does not clip, or where no update is due.
        """

    def predict(self, state: State, x: Array) -> Array:
        """The model's output in evaluation mode: running averages for batch statistics, nothing dropped.

        Does not consume the state.
        """

    def read(self, state: State) -> Snapshot:
        """A copy of the state, in the canonical layout."""

    def write(self, state: State, snapshot: Snapshot) -> State:
        """The state that continues from `snapshot`."""

    def read_grads(self, grads: Grads) -> Arrays:
        """A copy of the gradients, in the canonical layout."""

    def write_grads(self, arrays: Arrays) -> Grads:
        """Gradients in the trainer's own form, for `apply`."""

    def fit(self, state: State, batches: Batches, recording: Recording) -> Trace:
        """The whole run, as fast as the framework can."""


@dataclass(frozen=True)
class DisturbedStep:
    """What disturbed copies of one step computed: arrays with a first axis for the twins, in float64.

    Attributes:
        stages: as `Trainer.observe` gives them, by name, and ``clipped/<parameter>``.
        injected: the state after `Trainer.apply` of the gradients that were given.
        undivided: the state after `Trainer.step`.
    """

    stages: Arrays
    injected: Snapshot
    undivided: Snapshot


class Disturbable(Trainer, Protocol):
    """A trainer that can say what rounding does to its run."""

    def disturbed(self, batches: Batches, twins: int, seed: int) -> Disturbed:
        """So many runs, each of whose operations is disturbed within the rounding of the problem's dtype."""

    def disturbed_step(
        self, snapshot: Snapshot, batch: Batch, grads: Arrays, twins: int, seed: int
    ) -> DisturbedStep:
        """The same of one step from `snapshot`, and of an update by `grads`."""


@dataclass(frozen=True)
class Errors:
    """How far a trace is from the truth, in ULPs of the problem's dtype; never negative, NaN where it is not finite.

    One ULP is the distance between neighbours at the scale: for a loss max(|loss|, |first loss|), for a parameter the
    largest magnitude in its leaf.

    Attributes:
        losses: (steps,).
        parameters: those after the last step, by canonical name, each in its leaf's shape.
    """

    losses: Array
    parameters: Arrays


class Truth(Protocol):
    """The true trajectory of a problem: its inputs as rounded to its dtype, then no rounding."""

    @property
    def bits(self) -> int:
        """The working precision."""

    @property
    def seconds(self) -> float:
        """What it took."""

    def errors(self, trace: Trace) -> Errors:
        """How far a trace of the same problem is from the truth.

        Raises:
            ValueError: the trace has other steps, parameters or shapes.
        """


class Backend(Protocol):
    """One framework's way to train any problem."""

    @property
    def name(self) -> str:
        """What reports call it."""

    def supports(self, problem: Problem) -> Unsupported | None:
        """None, or why it cannot train this problem."""

    def trainer(self, problem: Problem) -> Trainer:
        """The problem, bound to this framework."""

    def environment(self) -> Mapping[str, str | int | bool]:
        """Versions, threads, devices and precision switches that its numbers depend on.

        Keys shared by all: ``version``, and ``reduced_precision``, True if products and convolutions of float32 may
        round to less (TF32, bfloat16 passes). ``device_peak_bytes``: the most that this process had allocated
        on a device with a memory of its own, where there is one.
        """


class Certifying(Backend, Protocol):
    """A backend that knows the truth."""

    def expected_seconds(self, problem: Problem) -> float:
        """About what an enclosure takes."""

    def enclosure(self, problem: Problem) -> Truth:
        """The true trajectory.

        Raises:
            UndecidedError: it could not be found, or not in the time that there is.
        """


def is_wanted(stage: str, wanted: Collection[str]) -> bool:
    """Whether `wanted` names this stage, or its kind."""
    return stage in wanted or stage.partition("/")[0] in wanted


def select(stages: Arrays, wanted: Collection[str]) -> dict[str, Array]:
    """The wanted stages; they keep their order, which is that of one step."""
    return {name: value for name, value in stages.items() if is_wanted(name, wanted)}


def unsupported(problem: Problem, tables: Mapping[str, Collection[str]]) -> Unsupported | None:
    """None if the members of `problem` are all in a backend's tables (by `Member.kind`), else the first that is not."""
    layers = [("layer", layer.op) for layer in walk(problem.layers)]
    for kind, name in layers + [(part.kind, part.name) for part in problem.parts]:
        if name not in tables.get(kind, ()):
            return Unsupported(f"it has no {kind} {name!r}")
    return None
