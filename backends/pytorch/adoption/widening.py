"""torch code in which nothing is computed in less than float64: what asks for a narrower float gets float64.

It is seen where torch dispatches each operation, forward, backward and in the optimizer. What the user's code has stored in a
narrower float before, a buffer say, keeps its rounding.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import dropwhile, takewhile
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from lockstep.backends.adoption import Narrow
from lockstep.backends.errors import OWN, line_of

WIDE = torch.float64

BACKWARD = Path(torch.autograd.graph.__file__)
"""The file that runs a backward pass."""

INNER = re.compile(r"/torch/(_|utils/)")
"""Files of torch through which it calls what it dispatches."""


@contextmanager
def widened() -> Iterator[None]:
    """With all arithmetic in float64, and new tensors too."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(WIDE)
    try:
        with _Widening():  # type: ignore[no-untyped-call]
            yield
    finally:
        torch.set_default_dtype(before)


class _Widening(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Every operation that is asked for a narrower float gives float64."""

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        asked = kwargs or {}
        return function(*args, **{name: WIDE if _is_narrow(one) else one for name, one in asked.items()})


class Narrowed(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Keeps where an operation without a narrower float among its operands gives one."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._places: dict[Narrow, None] = {}

    @property
    def places(self) -> tuple[Narrow, ...]:
        """The lines so far, in their order."""
        return tuple(self._places)

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = _narrow_in((args, kwargs))  # before an operation in place changes them
        result = function(*args, **(kwargs or {}))
        made = [] if given else _narrow_in(result)
        place = _place() if made else None
        if place is not None:
            self._places.setdefault(Narrow(place, str(made[0]).removeprefix("torch.")))
        return result


def _place() -> str | None:
    """The line of what the trainer has called; None in a backward pass, which follows a forward one."""
    frames = [(one.f_code.co_filename, line) for one, line in traceback.walk_stack(None)]
    beyond = dropwhile(lambda one: one[0].startswith(OWN), frames)
    called = list(takewhile(lambda one: not one[0].startswith(OWN), beyond))
    if any(Path(file) == BACKWARD for file, _ in called):
        return None
    return line_of([one for one in called if not INNER.search(Path(one[0]).as_posix())])


def _narrow_in(tree: Any) -> list[torch.dtype]:
    """The dtypes of the tensors of narrower floats in a tree; of those that count, as an optimizer's step does, none."""
    leaves, _ = tree_flatten(tree)
    narrow = [one for one in leaves if isinstance(one, torch.Tensor) and _is_narrow(one.dtype)]
    return [one.dtype for one in narrow if not _holds_whole_numbers(one)]


def _holds_whole_numbers(tensor: torch.Tensor) -> bool:
    plain = tensor.detach()
    return bool((plain == plain.round()).all())


def _is_narrow(one: object) -> bool:
    return isinstance(one, torch.dtype) and one.is_floating_point and one.itemsize < WIDE.itemsize
