"""What a user's torch objects hold: attributes, containers, what their functions have captured."""

from __future__ import annotations

import dis
import functools
import types
import weakref
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import nn


class Reached(NamedTuple):
    """An object, and where it was found first: ``optimizer.inner.param_groups[0]['params'][0]``."""

    place: str
    value: Any


HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")
"""Where a tensor keeps the hooks of its gradient."""

OPAQUE = (type, types.ModuleType, types.BuiltinFunctionType, types.CodeType, str, bytes, int, float, complex)
"""Objects whose contents are not the user's training state."""


def walked(roots: Mapping[str, Any], with_globals: bool = True) -> Iterator[Reached]:
    """Every object that the roots hold, once each, those that are nearest to the roots first.

    Args:
        roots: by what errors call them.
        with_globals: whether what a function looks up among its module's names counts.
    """
    waiting = [Reached(place, value) for place, value in roots.items()]
    seen: set[int] = set()
    while waiting:
        following: list[Reached] = []
        for one in waiting:
            if id(one.value) in seen or isinstance(one.value, OPAQUE) or one.value is None:
                continue
            seen.add(id(one.value))
            yield one
            following += [Reached(one.place + place, value) for place, value in contents(one.value)]
            if with_globals and isinstance(one.value, types.FunctionType):
                following += [Reached(one.place + place, value) for place, value in named(one.value)]
        waiting = following


def contents(thing: Any) -> Iterator[tuple[str, Any]]:
    """What an object holds directly, each with its place in it."""
    if isinstance(thing, Mapping):
        yield from ((f"[{key!r}]" if isinstance(key, str) else "[...]", one) for key, one in thing.items())
        yield from ((" key", key) for key in thing)
    elif isinstance(thing, (list, tuple, set, frozenset)):
        yield from ((f"[{index}]", one) for index, one in enumerate(thing))
    elif isinstance(thing, types.FunctionType):
        yield from captured(thing)
    elif isinstance(thing, types.MethodType):
        yield from ((".__self__", thing.__self__), (".__func__", thing.__func__))
    elif isinstance(thing, functools.partial):
        yield from ((".func", thing.func), (".args", thing.args), (".keywords", thing.keywords))
    elif isinstance(thing, weakref.ref):
        yield "()", thing()
    elif isinstance(thing, torch.Tensor):
        yield from ((f".{name}", getattr(thing, name, None)) for name in HOOKS)
    yield from ((f".{name}", one) for name, one in attributes(thing).items())


def attributes(thing: Any) -> dict[str, Any]:
    """An object's own attributes, those in slots too."""
    own = dict(vars(thing)) if hasattr(thing, "__dict__") else {}
    for cls in type(thing).__mro__:
        slots = vars(cls).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if not name.startswith("__") and hasattr(thing, name):
                own[name] = getattr(thing, name)
    return own


def captured(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """What a function holds: its closure and its defaults."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        if not _is_empty(cell):
            yield f" ({name})", cell.cell_contents
    yield from ((".__defaults__", one) for one in function.__defaults__ or ())
    yield from ((f".__kwdefaults__[{name!r}]", one) for name, one in (function.__kwdefaults__ or {}).items())


def named(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """The modules, optimizers and parameters that a function looks up by a global name."""
    for name in globals_of(function.__code__):
        value = function.__globals__.get(name)
        if isinstance(value, (nn.Module, torch.optim.Optimizer, nn.Parameter)):
            yield f" (global {name})", value


@functools.lru_cache(maxsize=4096)
def globals_of(code: types.CodeType) -> frozenset[str]:
    """The names that a function and those inside of it look up among its module's."""
    own = {one.argval for one in dis.get_instructions(code) if one.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    inner: Iterable[Any] = (one for one in code.co_consts if isinstance(one, types.CodeType))
    return frozenset(own).union(*(globals_of(one) for one in inner))


def _is_empty(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - a cell says that it is empty by raising
    except ValueError:
        return True
    return False
