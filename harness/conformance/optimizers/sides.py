"""Which backend an optimizer belongs to: each says whether it knows what the user gave."""

from __future__ import annotations

from lockstep import backends
from lockstep.backends.adoption import AdoptionError, OptimizerSide
from lockstep.backends.errors import BackendUnavailableError, LockstepError
from lockstep.harness.adopt.candidates import candidates


def side_of(given: object) -> OptimizerSide:
    """An optimizer alone, freshly made of what the user gave.

    Raises:
        AdoptionError: no backend knows it.
    """
    if isinstance(given, OptimizerSide):
        return given
    refusals: list[LockstepError] = []
    for name in candidates():
        try:
            ask = getattr(backends.load(name), "optimizer_side", _knows_none)
            side: OptimizerSide | None = ask(given)
        except (AdoptionError, BackendUnavailableError) as error:
            refusals.append(error)
        else:
            if side is not None:
                return side
    if len(refusals) == 1:
        raise refusals[0]
    raise AdoptionError(
        "no backend knows this as an optimizer",
        f"{type(given).__name__}: {given!r}"[:200],
        "give an Optax transform; a torch class with its arguments, functools.partial(torch.optim.Adam, lr=0.1); "
        'one of the catalogue, lockstep.backends.problem.Optimizer("adam", learning_rate=0.1); or an object with the methods '
        "of lockstep.backends.adoption.OptimizerSide",
    )


def _knows_none(given: object) -> None:
    """The answer of a backend that adopts no optimizers."""
