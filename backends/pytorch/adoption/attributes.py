"""The attributes of a user's own objects that training moves: ``self.calls += 1``, a group's learning rate, a scheduler's epoch.

Nobody lists them: those that are not as they were when the state began are carried in `lockstep.backends.protocol.Snapshot.extra`.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from lockstep.backends.problem import Array, Arrays
from lockstep.backends.pytorch.adoption.reachable import OPAQUE
from lockstep.backends.pytorch.adoption.values import NUMBERS, decoded, encoded, kind_of

Beginning = Mapping[str, Any]
"""Each attribute as it was when a state began: a number, or the arrays of anything else."""

OF_MODULES = frozenset(vars(nn.Module())) - {"training"}
"""Attributes that torch gives to every module."""

OF_OPTIMIZERS = frozenset(vars(torch.optim.SGD([torch.zeros(1)], lr=0.1))) - {"param_groups"}
"""Attributes that torch gives to every optimizer."""

SKIPPED = (*OPAQUE, types.FunctionType, types.MethodType, torch.Tensor, nn.Module)
"""What is not looked into: modules have names of their own."""


class Attribute(NamedTuple):
    """One attribute, and where it stands."""

    holder: Any
    key: Any
    value: Any


class Attributes:
    """All that a module, an optimizer and a scheduler hold in attributes, by path: ``1.calls``, ``optimizer/param_groups.0.lr``."""

    def __init__(self, module: nn.Module, optimizer: Any, scheduler: Any) -> None:
        self._holders: dict[str, Any] = {}
        self.found: dict[str, Attribute] = {}
        self._seen = {id(one) for one in module.buffers()}
        for name, one in module.named_modules():
            self._look(f"{name}." if name else "", vars(one), OF_MODULES)
        # Not of None, which is one and the same wherever it stands.
        self._seen |= {id(one) for one in (optimizer, scheduler) if one is not None}
        self._look_at("optimizer/", optimizer)
        if scheduler is not None:
            self._look_at("scheduler/", scheduler)

    def beginning(self) -> Beginning:
        """Each as it is now."""
        return {path: _kept(one.value) for path, one in self.found.items()}

    def moved(self, beginning: Beginning) -> dict[str, Array]:
        """Those that are no longer as they were in the beginning, and those that are new, as arrays."""
        return {
            key: array
            for path, one in sorted(self.found.items())
            if path not in beginning or not _is_same(_kept(one.value), beginning[path])
            for key, array in encoded(path, one.value).items()
        }

    def set(self, arrays: Arrays, beginning: Beginning, device: torch.device) -> None:
        """Let those that the arrays name be as they say, and all others as in the beginning."""
        wanted = decoded(arrays, device)
        for path, one in self.found.items():
            if path in wanted:
                _put(one, wanted.pop(path))
            elif path not in beginning:
                if isinstance(one.holder, dict):
                    del one.holder[one.key]
            elif not _is_same(_kept(one.value), beginning[path]):
                _put(one, _restored(beginning[path], device))
        for path, value in wanted.items():
            key = path.replace("/", ".").rpartition(".")[2]
            holder = self._holders.get(path[: len(path) - len(key)])
            if isinstance(holder, dict):
                holder[key] = value

    def _look_at(self, path: str, thing: Any) -> None:
        """An object, whatever it is."""
        if isinstance(thing, torch.optim.Optimizer):
            self._look(path, vars(thing), OF_OPTIMIZERS)
            self._look(f"{path}state.", thing.state)
        elif isinstance(thing, (dict, list)):
            self._look(path, thing)
        elif hasattr(thing, "__dict__") and not isinstance(thing, SKIPPED):
            self._look(path, vars(thing))

    def _look(self, path: str, holder: Any, without: frozenset[str] = frozenset({"params"})) -> None:
        self._holders[path] = holder
        for key, value in _items(holder):
            if key in without or id(value) in self._seen:
                continue
            if kind_of(value) is not None:
                self.found[f"{path}{key}"] = Attribute(holder, key, value)
            elif not isinstance(value, SKIPPED):
                self._seen.add(id(value))
                self._look_at(f"{path}{key}.", value)


def _items(holder: Any) -> Iterator[tuple[Any, Any]]:
    """Of a dict those of a name or a number: what an optimizer keeps of a parameter has names of its own."""
    if isinstance(holder, list):
        yield from enumerate(holder)
    else:
        yield from ((key, one) for key, one in list(holder.items()) if isinstance(key, (str, int)))


def _kept(value: Any) -> Any:
    """A value that no step changes any more: a number itself, or the arrays of anything else."""
    return value if type(value).__name__ in NUMBERS else encoded("", value)


def _restored(kept: Any, device: torch.device) -> Any:
    return decoded(kept, device)[""] if isinstance(kept, dict) else kept


def _is_same(one: Any, other: Any) -> bool:
    if one is other:
        return True
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(
            value.dtype == other[key].dtype
            and np.array_equal(value, other[key], equal_nan=value.dtype.kind == "f")
            for key, value in one.items()
        )
    return type(one) is type(other) and (one == other or (one != one and other != other))


@torch.no_grad()
def _put(attribute: Attribute, value: Any) -> None:
    """Set it; a tensor where it is, for others may hold it."""
    old = attribute.value
    if isinstance(old, torch.Tensor) and isinstance(value, torch.Tensor) and old.shape == value.shape:
        old.copy_(value)
    else:
        attribute.holder[attribute.key] = value
