"""Building one side from a seed, and reading the parameters that it starts from."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from lockstep import backends
from lockstep.backends.adoption import AdoptedTrainer, AdoptionError, check_kind, failing
from lockstep.backends.protocol import Snapshot
from lockstep.harness.adopt.candidates import candidates
from lockstep.harness.adopt.names import numbered
from lockstep.harness.adopt.side import held, shapes_of
from lockstep.harness.documents.shortening import shortened
from lockstep.harness.mapping.mapping import Shapes

Fans = Callable[[str, tuple[int, ...]], tuple[int, int] | None]
"""Name and shape of a weight -> its fan in and fan out; None where that is not known."""

SPACING, OTHER_SIDE = 1_009, 1_000_003
"""How far seeds of one side, and of both, are apart: code that adds a layer's number to its seed draws nothing twice."""


class Builder:
    """One side: builds its model from a seed.

    Args:
        factory: takes the seed, or nothing; returns a module, a tree of arrays or an adopted trainer.
        place: `left` or `right`, for errors.

    Attributes:
        name: what it builds is called: of a trainer its name, else its backend's; empty before the first build.
        fans: how its framework counts them.
    """

    def __init__(self, factory: Callable[..., Any], place: str) -> None:
        check_kind(place, "what builds this side", factory, callable(factory), "give a function of a seed")
        self._factory, self._place, self._seed = factory, place, _seed_argument(factory)
        self.name = ""
        self.fans: Fans = _unknown
        self._shapes: Shapes = {}

    def build(self, seed: int) -> Snapshot:
        """Parameters and buffers of a fresh model; arrays may be the model's own memory.

        Raises:
            AdoptionError: the factory fails, or no backend knows what it returns.
        """
        known = list(candidates())
        built = self._called(seed)
        if list(candidates()) != known:  # the factory imported a framework, whose generator was not seeded
            built = self._called(seed)
        return self._read(built)

    def _called(self, seed: int) -> Any:
        with ExitStack() as stack:
            for name in candidates():
                seeded = getattr(backends.load(name), "seeded", None)
                if seeded is not None:
                    stack.enter_context(seeded(seed))
            with failing(
                f"the {self._place} side cannot be built",
                "give a function of a seed, or one without arguments",
            ):
                return self._factory(*self._seed[0] * (seed,), **dict.fromkeys(self._seed[1], seed))

    def _read(self, built: Any) -> Snapshot:
        for name in candidates():
            backend: Any = backends.load(name)
            if hasattr(backend, "initial") and (snapshot := backend.initial(built)) is not None:
                self.name = getattr(built, "name", name) if isinstance(built, AdoptedTrainer) else name
                self.fans = backend.fans
                return self._checked(snapshot)
        if isinstance(built, AdoptedTrainer):
            self.name = getattr(built, "name", "adopted")
            return self._checked(built.read(built.init()))
        raise AdoptionError(
            f"no backend knows what the {self._place} side builds",
            f"{type(built).__name__}: {shortened(built)}",
            "return a torch module, a tree of JAX or NumPy arrays, or an adopted trainer",
        )

    def _checked(self, snapshot: Snapshot) -> Snapshot:
        if not snapshot.parameters:
            raise AdoptionError(
                f"the {self._place} side has no parameters", self.name, "return a model that has some"
            )
        shapes = shapes_of(held(snapshot))
        if self._shapes and shapes != self._shapes:
            raise AdoptionError(
                f"the {self._place} side has other parameters for another seed",
                ", ".join(sorted(name for name, _ in self._shapes.items() ^ shapes.items())),
                "build the same model from each seed: one argument without a default is given the seed",
            )
        self._shapes = shapes
        return snapshot


class Sides:
    """Both sides, each with seeds of its own: their draws are then independent, even of the same code.

    Args:
        left, right: their factories.
        first_seed: where the seeds begin.
    """

    def __init__(self, left: Callable[..., Any], right: Callable[..., Any], first_seed: int) -> None:
        self.builders = Builder(left, "left"), Builder(right, "right")
        self._first = first_seed

    def build(self, at: int) -> tuple[Snapshot, Snapshot]:
        """Both sides' builds of one number, from 0."""
        seed = self._first + SPACING * at
        left, right = self.builders
        return left.build(seed), right.build(seed + OTHER_SIDE)

    @property
    def names(self) -> tuple[str, str]:
        """What reports call them, once they are built."""
        left, right = numbered(one.name for one in self.builders)
        return left, right


def _unknown(name: str, shape: tuple[int, ...]) -> None:
    """The fans where no framework's layout is known."""


def _seed_argument(factory: Callable[..., Any]) -> tuple[int, tuple[str, ...]]:
    """How the seed is given: how many positional arguments, and under which name."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):  # a class written in C
        return 0, ()
    if any(one.name == "seed" and one.kind is not one.POSITIONAL_ONLY for one in parameters):
        return 0, ("seed",)
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [one for one in parameters if one.kind in positional and one.default is one.empty]
    return (1, ()) if len(needed) == 1 else (0, ())
