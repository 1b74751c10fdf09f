"""Copies of a user's module, optimizer and what belongs to them, which share among each other what the originals share.

`copy.deepcopy` alone loses of an optimizer all but its groups and state, of a parameter its attributes and hooks, and leaves
functions bound to the originals that they have captured. A module that rebuilds itself shares nothing with its optimizer's copy.
"""

from __future__ import annotations

import copy
import itertools
import types
import weakref
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from lockstep.backends.adoption import AdoptionError
from lockstep.backends.pytorch.adoption.parts import optimizers_in
from lockstep.backends.pytorch.adoption.reachable import HOOKS, walked

FACTORY = (
    "give adopt() a function without arguments in place of the module, which makes (module, optimizer) or "
    "(module, optimizer, scheduler) anew at each call"
)
"""The remedy of whatever cannot be copied."""


class Remedy(NamedTuple):
    """What to do about a part that cannot be copied.

    Attributes:
        factory: give a function that makes it.
        passed: what is called with the copies, so that it need not hold any of the originals.
    """

    factory: str
    passed: str


Memo = dict[int, Any]
"""As `copy.deepcopy` keeps it: the id of an original -> its copy."""


def copied(name: str, parts: Mapping[str, Any], remedy: Remedy | None = None) -> dict[str, Any]:
    """Copies of the parts, of which ``module`` is a module; None stays None.

    A part that is neither a module nor holds any of what is copied, a plain loss function say, is taken as it is.

    Args:
        name: of the trainer, for errors.
        parts: by what errors call them.
        remedy: of what cannot be copied; by default that of `adopt`.

    Raises:
        AdoptionError: one cannot be copied, or the copies do not share what the originals share.
    """
    remedy = remedy or Remedy(FACTORY, f"{' and '.join(PASSED)} are called with the module")
    made = {part: value for part, value in parts.items() if part in MADE}
    owned = {id(one.value) for one in walked(made, with_globals=False) if isinstance(one.value, OWNED)}
    followed = {part: value for part, value in parts.items() if part in MADE or _holds(value, owned)}
    try:
        things = [one.value for one in walked(followed, with_globals=False)]
        memo = _copies(name, followed["module"], things, owned, remedy)
        copies = {**parts, **{part: copy.deepcopy(value, memo) for part, value in followed.items()}}
        _restore_attributes(things, memo)
    except AdoptionError:
        raise
    except Exception as error:
        raise AdoptionError(
            f"{name}: it cannot be copied, and each run needs a copy of its own",
            f"{type(error).__name__}: {str(error)[:500]}",
            remedy.factory,
        ) from error
    _check(name, followed, copies, owned, remedy)
    return copies


OWNED = (nn.Module, torch.optim.Optimizer, torch.Tensor, torch.optim.lr_scheduler.LRScheduler)
"""What a copy must not have in common with its original."""

MADE = ("module", "optimizer", "scheduler")
"""The parts that are copied in any case."""


def _holds(thing: Any, owned: set[int]) -> bool:
    """Whether it has captured any of the originals."""
    return any(id(one.value) in owned for one in walked({"": thing}))


def _copies(name: str, module: nn.Module, things: Sequence[Any], owned: set[int], remedy: Remedy) -> Memo:
    """The module copied, and a copy of everything for which `copy.deepcopy` has none that is right."""
    memo: Memo = {}
    for one in things:
        if isinstance(one, torch.Tensor) and not one.is_leaf:  # an activation that was stored for the reader
            memo[id(one)] = one.detach().clone()
    optimizers = [
        one for one in things if isinstance(one, torch.optim.Optimizer) and not hasattr(one, "__deepcopy__")
    ]
    memo |= {id(one): one.__class__.__new__(one.__class__) for one in optimizers}
    functions = [one for one in things if isinstance(one, types.FunctionType) and _captures(one, owned)]
    memo |= {id(one): _with_empty_cells(one) for one in functions}
    for method in (one for one in things if isinstance(one, types.MethodType)):
        if id(method.__func__) in memo and id(method.__self__) in memo:
            memo[id(method)] = types.MethodType(memo[id(method.__func__)], memo[id(method.__self__)])
    memo[id(module)] = copy.deepcopy(module, memo)
    _pair(name, module, memo[id(module)], memo, remedy)
    for one in optimizers:
        memo[id(one)].__dict__.update(copy.deepcopy(vars(one), memo))
    for one in functions:
        _fill(one, memo)
    return memo


def _captures(function: types.FunctionType, owned: set[int]) -> bool:
    return bool(function.__closure__ or function.__defaults__ or function.__kwdefaults__) and _holds(
        function, owned
    )


def _with_empty_cells(function: types.FunctionType) -> types.FunctionType:
    cells = tuple(types.CellType() for _ in function.__closure__ or ())
    return types.FunctionType(function.__code__, function.__globals__, function.__name__, None, cells)


def _fill(function: types.FunctionType, memo: Memo) -> None:
    """Give a function's copy the copies of what the function has captured."""
    made = memo[id(function)]
    made.__qualname__ = function.__qualname__
    for old, new in zip(function.__closure__ or (), made.__closure__ or (), strict=True):
        try:
            new.cell_contents = _followed(old.cell_contents, memo)
        except ValueError:  # empty: a name that is not bound yet
            continue
    made.__defaults__ = copy.deepcopy(function.__defaults__, memo)
    made.__kwdefaults__ = copy.deepcopy(function.__kwdefaults__, memo)
    made.__dict__.update(vars(function))


def _followed(value: Any, memo: Memo) -> Any:
    """A copy; of a weak reference, one to the copy: a scheduler has one to its optimizer in the optimizer's step."""
    if isinstance(value, weakref.ref) and id(value()) in memo:
        return weakref.ref(memo[id(value())])
    return copy.deepcopy(value, memo)


def _pair(name: str, module: nn.Module, made: nn.Module, memo: Memo, remedy: Remedy) -> None:
    """Let whatever else is copied hold the tensors and modules of the module's copy, though it has rebuilt them.

    Raises:
        AdoptionError: those are others than the module's.
    """
    old, new = named_tensors(module), named_tensors(made)
    odd = sorted(old.keys() ^ new.keys()) or [
        key for key, one in old.items() if memo.get(id(one)) is not new[key] and not _is_same(one, new[key])
    ]
    if odd:
        raise AdoptionError(
            f"{name}: the copy that its module makes of itself has other parameters or buffers than the module",
            f"{odd[0]}{f' and {len(odd) - 1} others' if odd[1:] else ''}",
            remedy.factory,
        )
    memo |= {id(one): new[key] for key, one in old.items()}
    modules = dict(made.named_modules(remove_duplicate=False))
    memo |= {
        id(one): modules[key] for key, one in module.named_modules(remove_duplicate=False) if key in modules
    }


def _is_same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """To the bit; NaN is NaN."""
    alike = one.shape == other.shape and one.dtype == other.dtype and one.requires_grad == other.requires_grad
    return alike and torch.equal(one.detach().nan_to_num(), other.detach().nan_to_num())


def named_tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and buffers, under each of their names."""
    return {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }


def _restore_attributes(things: Iterable[Any], memo: Memo) -> None:
    """Attributes and hooks of parameters: the deep copy of one is its numbers alone."""
    for one in things:
        if not isinstance(one, nn.Parameter) or id(one) not in memo:
            continue
        made = memo[id(one)]
        made.__dict__.update(copy.deepcopy(vars(one), memo))
        registers = made.register_hook, made.register_post_accumulate_grad_hook
        for register, place in zip(registers, HOOKS, strict=True):
            for hook in (getattr(one, place, None) or {}).values():
                register(copy.deepcopy(hook, memo))


def _check(
    name: str, parts: Mapping[str, Any], copies: Mapping[str, Any], owned: set[int], remedy: Remedy
) -> None:
    """Raise an AdoptionError where the copies share with the originals, or not among each other what those share."""
    for one in walked({key: copies[key] for key in parts}):
        if id(one.value) in owned:
            raise AdoptionError(
                f"{name}: a copy of it would still hold a part of yours",
                f"{one.place}, a {type(one.value).__name__}",
                f"take it from an argument ({remedy.passed}); or {remedy.factory}",
            )
    if _shared(parts) != _shared(copies):
        raise AdoptionError(
            f"{name}: a copy of it does not share the parameters that its module and its optimizer share",
            f"{type(parts['module']).__name__}, {type(parts.get('optimizer')).__name__}",
            remedy.factory,
        )


PASSED = ("forward", "before_update")
"""The parts that are called with the module."""


def _shared(parts: Mapping[str, Any]) -> Any:
    """Which names are one tensor, which tensors overlap in memory, and what the optimizer's groups hold, by name."""
    tensors = named_tensors(parts["module"])
    names: dict[int, str] = {}
    for name, one in tensors.items():
        names.setdefault(id(one), name)
    optimizers = [] if parts.get("optimizer") is None else optimizers_in(parts["optimizer"])
    return (
        {name: names[id(one)] for name, one in tensors.items()},
        _overlapping({name: tensors[name] for name in names.values()}),
        [
            [names.get(id(one)) for one in group["params"]]
            for each in optimizers
            for group in each.param_groups
        ],
    )


def _overlapping(tensors: Mapping[str, torch.Tensor]) -> set[frozenset[str]]:
    """Neighbours in memory that have numbers in common."""
    spans = sorted(
        (one.data_ptr(), one.data_ptr() + _extent(one), name)
        for name, one in tensors.items()
        if one.layout is torch.strided and one.numel() and one.data_ptr()
    )
    return {frozenset((one[2], two[2])) for one, two in itertools.pairwise(spans) if two[0] < one[1]}


def _extent(tensor: torch.Tensor) -> int:
    """Bytes from the first number to behind the last."""
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    return tensor.itemsize * (1 + sum((length - 1) * stride for length, stride in steps))
