"""An intervention: one change of a training run. A planted bug is one, and an explanation is one that was confirmed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from lockstep.backends.problem import Array, Arrays, Batch, Batches
from lockstep.backends.protocol import Snapshot
from lockstep.harness.core.spec import RunSpec
from lockstep.harness.runs.implementation import Implementation


@dataclass(frozen=True)
class StepContext:
    """The state of a run when its gradients are changed.

    Attributes:
        before: the state before the update.
        previous: the gradients of the step before, as the trainer computed them; none at the first step.
    """

    before: Snapshot
    previous: Arrays = field(default_factory=dict)


OnGradients = Callable[[Arrays, StepContext], Arrays]
"""(gradients, the state of the run) -> the gradients that are applied."""

OnState = Callable[[Snapshot, Snapshot], Snapshot]
"""(state before, state after) -> the state that training continues with."""


@dataclass(frozen=True)
class Intervention:
    """One change of a run; every attribute that is None leaves its part unchanged.

    Attributes:
        description: of the altered trainer, to follow its name: "averages where the problem says sum".
        spec: the run that is trained instead.
        suspect: the other implementation under which both would train the same, where it is the mapping between them that
            is wrong and not the training.
        on_suspect: a change of the suspect's own run under which both would train the same, where the witness cannot be
            brought to make the mistake.
        ahead: applications of zero gradients before the first step. Their change of the parameters is undone; the optimizer's
            counts stay.
        on_start: the state before the first step.
        on_batch: each batch.
        on_forward: the parameters that the forward and backward pass use; the update starts from the true ones.
        on_loss: the loss, in the report only.
        on_buffers: (state before, after the forward pass) -> the state with other buffers.
        on_gradients: the gradients.
        on_update: (state before, after the update) -> the state that training continues with.
        on_read: the snapshot of a state.
        on_run: the batches, in `fit` alone.
        on_epoch: the state after each epoch, in `fit` alone.
    """

    description: str = ""
    spec: RunSpec | None = None
    suspect: Implementation | None = None
    on_suspect: Intervention | None = None
    ahead: int = 0
    on_start: Callable[[Snapshot], Snapshot] | None = None
    on_batch: Callable[[Batch], Batch] | None = None
    on_forward: Callable[[Arrays], Arrays] | None = None
    on_loss: Callable[[Array], Array] | None = None
    on_buffers: OnState | None = None
    on_gradients: OnGradients | None = None
    on_update: OnState | None = None
    on_read: Callable[[Snapshot], Snapshot] | None = None
    on_run: Callable[[Batches], Batches] | None = None
    on_epoch: Callable[[Snapshot], Snapshot] | None = None
