"""The live objects of one run of a user's torch code, and where fresh ones come from: copies of theirs, or a function of theirs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import nn

from lockstep.backends.adoption import AdoptionError, check_kind, failing
from lockstep.backends.problem import Batch
from lockstep.backends.pytorch.adoption.attributes import Attributes, Beginning
from lockstep.backends.pytorch.adoption.copying import FACTORY, copied, named_tensors

Begun = TypeVar("Begun", bound="State")
Loss = Callable[[Any, Any], torch.Tensor]
Forward = Callable[[nn.Module, Any], Any]
BeforeUpdate = Callable[[nn.Module], object] | None
MakeOptimizer = Callable[[Any], torch.optim.Optimizer]
Make = Callable[[], tuple[Any, ...]]
"""-> (module, optimizer) or (module, optimizer, scheduler), other objects with the same numbers at each call."""


@dataclass(frozen=True)
class Functions:
    """What is called in a step."""

    loss: Loss
    forward: Forward
    before_update: BeforeUpdate


@dataclass
class State:
    """Live copies, changed in place by every step; functions that have captured the originals see the copies.

    Attributes:
        module, optimizer, scheduler: those of this run.
        functions: the loss and the others.
        step: how many batches were trained on.
        evaluated: the batch and the loss of the gradients that were computed last, for an optimizer that evaluates again.
        beginning: the attributes of all objects before the first step.
    """

    module: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: Any
    functions: Functions
    step: int = 0
    evaluated: tuple[Batch, torch.Tensor] | None = None
    beginning: Beginning = field(default_factory=dict)

    def attributes(self) -> Attributes:
        """All that the objects keep in attributes."""
        return Attributes(self.module, self.optimizer, self.scheduler)


@dataclass(frozen=True)
class Copies:
    """Fresh states are copies of the user's objects.

    Attributes:
        name: of the trainer, for errors.
        start: the user's objects.
        make: what makes the optimizer of a module's parameters; None where the user gave one that was made already.
    """

    name: str
    start: State
    make: MakeOptimizer | None

    def fresh(self) -> State:
        """Another state that starts where the user's objects are.

        Raises:
            AdoptionError: they cannot be copied.
        """
        one = self.start
        optimizer = {"make": self.make} if self.make else {"optimizer": one.optimizer}
        parts = copied(
            self.name, {"module": one.module, **optimizer, "scheduler": one.scheduler, **vars(one.functions)}
        )
        module, make = parts["module"], parts.get("make")
        made = make(module.parameters()) if make else parts["optimizer"]
        return begun(State(module, made, parts["scheduler"], _functions(parts)))

    def aside(self, state: State) -> State:
        """A copy of a state's module and functions, to observe."""
        parts = copied(self.name, {"module": state.module, **vars(state.functions)})
        return State(parts["module"], state.optimizer, None, _functions(parts), state.step)


class Made:
    """Fresh states are made by a function of the user's.

    Args:
        name: of the trainer, for errors.
        make: the function; torch's generator is the same before each call.
        functions: the loss and the others.

    Raises:
        AdoptionError: it fails, or makes something else.
    """

    def __init__(self, name: str, make: Make, functions: Functions) -> None:
        self._name, self._make, self._functions = name, make, functions
        self._generator = torch.get_rng_state()
        self.start = self._made()

    def fresh(self) -> State:
        """Another state, made anew.

        Raises:
            AdoptionError: it has other parameters than the first, or the very same objects.
        """
        with torch.random.fork_rng():
            torch.set_rng_state(self._generator)
            one = self._made()
        old, new = named_tensors(self.start.module), named_tensors(one.module)
        odd = sorted(old.keys() ^ new.keys()) or [
            name
            for name, value in old.items()
            if value.shape != new[name].shape or not torch.equal(value, new[name])
        ]
        if odd:
            raise AdoptionError(
                f"{self._name}: what makes its module makes another at each call",
                f"other numbers, or none, in {odd[0]}{f' and {len(odd) - 1} others' if odd[1:] else ''}",
                "let it give the same names and numbers each time: set the seeds in it, and of Keras call "
                "keras.utils.clear_session() first",
            )
        if {id(value) for value in old.values()} & {id(value) for value in new.values()}:
            raise AdoptionError(
                f"{self._name}: what makes its module gives the same objects at each call",
                type(one.module).__name__,
                "build the module inside the function",
            )
        return one

    def aside(self, state: State) -> State:
        """Another state, to be written to."""
        return self.fresh()

    def _made(self) -> State:
        with failing(
            f"{self._name}: what makes its module failed", f"{FACTORY}; it is called without arguments"
        ):
            made = self._make()
        good = isinstance(made, tuple) and len(made) in (2, 3) and isinstance(made[0], nn.Module)
        check_kind(
            self._name,
            "what its function makes",
            made,
            good,
            "return (module, optimizer) or (module, optimizer, scheduler)",
        )
        check_optimizer_kind(self._name, made[1])
        return begun(State(made[0], made[1], made[2] if len(made) == 3 else None, self._functions))


Source = Copies | Made
"""Where fresh states come from."""


def check_optimizer_kind(name: str, optimizer: object) -> None:
    """Raise an AdoptionError unless it is a torch optimizer."""
    good = isinstance(optimizer, torch.optim.Optimizer)
    check_kind(
        name, "the optimizer", optimizer, good, "give a torch.optim.Optimizer, or a function that makes one"
    )


def _functions(parts: dict[str, Any]) -> Functions:
    return Functions(parts["loss"], parts["forward"], parts["before_update"])


def begun(state: Begun) -> Begun:
    """The state, that knows its attributes as they are now."""
    state.beginning = state.attributes().beginning()
    return state
