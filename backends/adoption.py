"""Adopted training code: what a user's own model, loss and optimizer look like to the harness, together or the optimizer alone.

An adopted trainer keeps the names and layouts of its own code; `lockstep.harness.adopt` maps those of one side to those of the
other. It is a `Trainer` without ``fit`` and ``twins``: the harness takes its steps one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from lockstep.backends.errors import LockstepError, raised_in
from lockstep.backends.problem import DTYPES, Array, Arrays, Batch, Batches
from lockstep.backends.protocol import Backend, Grads, Recording, Snapshot, State, Trace, Trainer

Tree = Any
"""An array, or lists, tuples and dicts of trees: what a batch's x and y may be."""


class AdoptionError(LockstepError):
    """A user's training code cannot be adopted as it is."""


@dataclass(frozen=True)
class Draw:
    """A mask that the user's code draws: one Bernoulli trial for each element, as dropout makes them.

    Attributes:
        place: where it is drawn, for the reader.
        rate: how probable 0 is.
        shape: of the mask.
    """

    place: str
    rate: float
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Narrow:
    """Where code of float64 computes in a narrower float.

    Attributes:
        place: ``model.py:12``: the user's line, or a package's.
        dtype: the narrower one.
    """

    place: str
    dtype: str


class Adopted(Trainer, Protocol):
    """A trainer made of a user's own code.

    A batch's `x` and `y` may be trees of arrays; its masks ``0``, ``1``, ... take the place of the `draws` of a step, in order.
    ``forward/<module>`` among the stages of `observe` has the name of the user's own module, ``forward/output`` is what
    the model gives.
    """

    @property
    def name(self) -> str:
        """What reports call it."""

    @property
    def dtype(self) -> str:
        """That of its parameters: ``float64`` or ``float32``."""

    @property
    def generator(self) -> str:
        """Whose random numbers its code draws, and from which seed; empty where it was given none."""

    def environment(self) -> Mapping[str, str | int | bool]:
        """As `lockstep.backends.protocol.Backend.environment`."""

    def draws(self, batch: Batch) -> tuple[Draw, ...]:
        """The masks that a step on this batch draws where they can be given instead, in the order in which it does."""

    def redrawn(self) -> Adopted | None:
        """The same trainer with other random numbers; None where it was given none."""

    def narrowed(self, batch: Batch) -> tuple[Narrow, ...]:
        """Where a step on this batch computes in less than the parameters' float64."""

    def widened(self) -> Adopted:
        """The same trainer with all of that computed in float64; itself where it cannot."""


@runtime_checkable
class OptimizerSide(Protocol):
    """A user's own optimizer, alone: what makes updates of gradients, in its framework.

    A state holds the parameters and all that the optimizer keeps; a method may use up the state that it is given.
    Arrays that are given are copied, and those that are returned are copies.
    """

    @property
    def name(self) -> str:
        """What reports call it."""

    def begin(self, parameters: Arrays) -> State:
        """A fresh optimizer of these parameters, in their dtype."""

    def update(self, state: State, grads: Grads) -> State:
        """One update, as training makes it; `grads` are those of `write_grads`, and handed over without a copy."""

    def resumed(self, state: State) -> State:
        """The state, saved as the framework saves it and loaded into a fresh optimizer."""

    def read(self, state: State) -> Snapshot:
        """The parameters, what the optimizer keeps in arrays, and the number of updates."""

    def write(self, state: State, parameters: Arrays) -> State:
        """The same state with other parameters."""

    def write_grads(self, arrays: Arrays) -> Grads:
        """Gradients in the framework's own form."""

    def read_grads(self, grads: Grads) -> Arrays:
        """What they are now."""


class OptimizerBackend(Backend, Protocol):
    """A backend that knows its framework's optimizers when it sees them."""

    def optimizer_side(self, given: object) -> OptimizerSide | None:
        """What a user calls an optimizer, alone; None where it is not of this framework.

        Raises:
            AdoptionError: it is of this framework, but not in a form from which fresh ones can be made.
        """


class InitialisingBackend(Backend, Protocol):
    """A backend that knows its framework's models when it sees them, and can make their initial numbers repeat."""

    def initial(self, given: object) -> Snapshot | None:
        """Parameters and buffers of a freshly built model, or of a trainer adopted from one; None where it is not of this framework.

        Arrays share memory with the model where its numbers can be changed in place, so that two models that share it are found.
        """

    def seeded(self, seed: int) -> AbstractContextManager[object]:
        """With the framework's global generator seeded, and afterwards as it was before."""

    def fans(self, name: str, shape: tuple[int, ...]) -> tuple[int, int] | None:
        """Fan in and fan out of a weight of 2 axes or more, in the framework's own layout; None where it has none."""


class AdoptedTrainer:
    """What all adopted trainers share: what they start from, and what a user's own code does not have."""

    capabilities = frozenset({"stages", "optimizer_state"})

    coarsest = 0.0
    """The eps of the coarsest output of a module in half precision (float16, bfloat16) when it was last observed; 0 where there is none."""

    def init(self) -> State:
        raise NotImplementedError

    def read(self, state: State) -> Snapshot:
        raise NotImplementedError

    def given(self) -> Arrays:
        return {f"initial/{name}": value for name, value in self.read(self.init()).parameters.items()}

    def draws(self, batch: Batch) -> tuple[Draw, ...]:
        return ()

    def narrowed(self, batch: Batch) -> tuple[Narrow, ...]:
        return ()

    def widened(self) -> Any:
        return self

    def clipped(self, state: State, grads: Grads) -> Arrays:
        return {}

    def fit(self, state: State, batches: Batches, recording: Recording) -> Trace:
        raise NotImplementedError("it has no capability 'fit'")


class Given:
    """The masks of one step, handed out in order, each where one of its shape is drawn."""

    def __init__(self, name: str, masks: Arrays) -> None:
        self._name, self._count = name, len(masks)
        self._left: Iterator[Array] = iter([masks[key] for key in sorted(masks, key=int)])

    def next(self, shape: tuple[int, ...]) -> Array:
        """The next mask.

        Raises:
            AdoptionError: there is none, or it has another shape.
        """
        mask = next(self._left, None)
        if mask is None or mask.shape != shape:
            raise other_draws(
                self._name, f"one of shape {shape}, where {'none' if mask is None else mask.shape} was"
            )
        return mask

    def end(self) -> None:
        """Raise an AdoptionError unless all were handed out."""
        if next(self._left, None) is not None:
            raise other_draws(self._name, f"fewer than {self._count}")


def other_draws(name: str, got: str) -> AdoptionError:
    """The error of a trainer that draws other masks than those that it was given."""
    return AdoptionError(
        f"{name}: a step draws other masks than the same code drew on a batch of these shapes",
        got,
        "let each step draw as many masks as any other; what decides otherwise, layer drop say, set to 0",
    )


def mapped(change: Callable[[Any], Any], tree: Tree) -> Tree:
    """The tree with `change` made of every leaf."""
    if isinstance(tree, Mapping):
        return {key: mapped(change, one) for key, one in tree.items()}
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(mapped(change, one) for one in tree))
    if isinstance(tree, (list, tuple)):
        return type(tree)(mapped(change, one) for one in tree)
    return change(tree)


def leaves(tree: Tree, name: str = "") -> dict[str, Any]:
    """Every leaf of a tree by its place: ``1/mask`` of ``(x, {"mask": m})``."""
    if isinstance(tree, Mapping):
        parts: Iterable[tuple[Any, Any]] = tree.items()
    elif isinstance(tree, (list, tuple)):
        parts = enumerate(tree)
    else:
        return {name: tree}
    return {
        key: leaf
        for part, one in parts
        for key, leaf in leaves(one, f"{name}/{part}" if name else str(part)).items()
    }


@contextmanager
def failing(what: str, fix: str) -> Iterator[None]:
    """Report what the user's code raises meanwhile as an AdoptionError; our own errors pass."""
    try:
        yield
    except LockstepError:
        raise
    except Exception as error:
        raise AdoptionError(
            what, f"{type(error).__name__}: {str(error)[:500]}{raised_in(error)}", fix
        ) from error


def check_kind(name: str, what: str, given: object, good: bool, fix: str) -> None:
    """Raise an AdoptionError unless what `adopt` was given is `good`."""
    if not good:
        raise AdoptionError(
            f"{name}: {what} is not valid", f"{type(given).__name__}: {str(given)[:100]}", fix
        )


def called(model: Callable[..., Any], x: Tree) -> Any:
    """``model(x)``; a tuple is given as arguments, a dict by name."""
    if isinstance(x, Mapping):
        return model(**x)
    return model(*x) if isinstance(x, tuple) else model(x)


def common_dtype(name: str, dtypes: Mapping[str, str]) -> str:
    """The one dtype of all parameters.

    Args:
        name: of the trainer.
        dtypes: by parameter.

    Raises:
        AdoptionError: there is no parameter, they have several dtypes, or one that is neither float64 nor float32.
    """
    distinct = sorted(set(dtypes.values()))
    if len(distinct) != 1 or distinct[0] not in DTYPES:
        raise AdoptionError(
            f"{name}: its parameters are not all of one dtype that can be compared",
            ", ".join(f"{one} ({next(key for key in dtypes if dtypes[key] == one)})" for one in distinct)
            or "no parameters",
            "adopt a model whose parameters are all float64, or all float32; what is not trained is no parameter",
        )
    return distinct[0]


def check_names(name: str, given: Collection[str], own: Collection[str]) -> None:
    """Raise an AdoptionError unless a snapshot has the parameters of the trainer `name`, all of them and no others."""
    if set(given) != set(own):
        odd = sorted(set(given) ^ set(own))
        raise AdoptionError(
            f"{name}: these are not its parameters",
            ", ".join(odd),
            "write a snapshot that it gave, or map the names",
        )
