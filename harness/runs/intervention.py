"""An intervention: one change of a training run. A planted bug is one, and an explanation is one that was confirmed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from lockstep.backends.problem import Array, Arrays, Batch, Batches
from lockstep.backends.protocol import Snapshot
from lockstep.harness.core.spec import RunSpec


@dataclass(frozen=True)
class Moment:
    """Where a run stands when its gradients are changed.

    Attributes:
        before: the state before the update.
        previous: the gradients of the step before, as the trainer computed them; none at the first step.
    """

    before: Snapshot
    previous: Arrays = field(default_factory=dict)


OnGradients = Callable[[Arrays, Moment], Arrays]
"""(gradients, where the run stands) -> the gradients that are applied."""

OnState = Callable[[Snapshot, Snapshot], Snapshot]
"""(state before, state after) -> the state that training continues with."""


@dataclass(frozen=True)
class Intervention:
    """What is changed; what is None stays as it is.

    Attributes:
        description: what the altered trainer does, to go after its name: "averages where the problem says sum".
        spec: what is trained instead.
        suspect: the other implementation under which both would train the same, where it is the mapping between them that
            is wrong and not the training.
        on_start: the state before the first step.
        on_batch: each batch.
        on_forward: the parameters that the forward and backward pass use; the update starts from the true ones.
        on_loss: the loss, in what is reported only.
        on_buffers: (state before, after the forward pass) -> the state with other buffers.
        on_gradients: the gradients.
        on_update: (state before, after the update) -> the state that training continues with.
        on_read: what a snapshot holds of the state.
        on_run: what `fit`, and it alone, makes of the batches.
        on_epoch: what `fit`, and it alone, makes of the state after each epoch.
    """

    description: str = ""
    spec: RunSpec | None = None
    suspect: Any = None
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
