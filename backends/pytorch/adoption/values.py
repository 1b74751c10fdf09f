"""Values of Python and torch as named arrays, and back: a number, a text, a tensor, lists and dicts of them."""

from __future__ import annotations

import ast
from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from lockstep.backends.problem import Array, Arrays
from lockstep.backends.pytorch.arrays import as_array

NUMBERS = {"bool": bool, "int": int, "float": float}
"""Kinds that are one number; `lockstep.backends.protocol.Snapshot` knows them by the suffix of a name."""

TENSOR, BFLOAT16, TEXT = "tensor", "bfloat16", "text"
"""The other kinds: a tensor, one of a dtype that NumPy lacks, and an expression in which ``Tensor(0)`` stands for the first of the
tensors next to it, ``BFloat16(0)`` where it is of that dtype."""

LARGEST = 1 << 62
"""A whole number beyond is a text: an array does not hold it."""

NAMES = {"inf": float("inf"), "nan": float("nan")}
"""What an expression may name."""


def kind_of(value: Any) -> str | None:
    """The kind of a value; None where it is, or holds, an object that is not known here."""
    if isinstance(value, torch.Tensor):
        return (BFLOAT16 if value.dtype is torch.bfloat16 else TENSOR) if _is_plain(value) else None
    for kind, cls in NUMBERS.items():
        if type(value) is cls and not (isinstance(value, int) and abs(value) > LARGEST):
            return kind
    return TEXT if expression(value, []) is not None else None


def encoded(name: str, value: Any) -> dict[str, Array]:
    """A value of a known kind: ``name:kind``, and of a text with tensors ``name:0``, ``name:1``, ..."""
    kind = kind_of(value)
    assert kind is not None
    if kind in (TENSOR, BFLOAT16):
        return {f"{name}:{kind}": as_array(value.to_dense())}
    if kind in NUMBERS:
        return {f"{name}:{kind}": np.array(value)}
    tensors: list[torch.Tensor] = []
    text = expression(value, tensors)
    assert text is not None
    letters = np.frombuffer(text.encode(), dtype=np.uint8).copy()
    return {
        f"{name}:{kind}": letters,
        **{f"{name}:{index}": as_array(one.to_dense()) for index, one in enumerate(tensors)},
    }


def decoded(arrays: Arrays, device: torch.device) -> dict[str, Any]:
    """The values by name, of arrays that `encoded` made; tensors on `device`."""
    values: dict[str, Any] = {}
    for key, array in arrays.items():
        name, _, kind = key.rpartition(":")
        if kind in NUMBERS:
            values[name] = NUMBERS[kind](array.item())
        elif kind in (TENSOR, BFLOAT16):
            values[name] = _tensor(array, kind == BFLOAT16, device)
        elif kind == TEXT:
            tree = ast.parse(array.tobytes().decode(), mode="eval").body
            values[name] = _evaluated(tree, name, arrays, device)
    return values


def expression(value: Any, tensors: list[torch.Tensor]) -> str | None:
    """A value as Python writes it, its tensors appended to `tensors`; None where it holds something else."""
    if isinstance(value, torch.Tensor):
        if not _is_plain(value):
            return None
        tensors.append(value)
        word = "BFloat16" if value.dtype is torch.bfloat16 else "Tensor"
        return f"{word}({len(tensors) - 1})"
    if value is None or type(value) in (bool, int, float, str, bytes):
        return repr(value)
    if type(value) is dict:
        keys = [expression(key, tensors) for key in value]
        parts = [expression(one, tensors) for one in value.values()]
        if None in keys or None in parts:
            return None
        return "{" + ", ".join(f"{key}: {one}" for key, one in zip(keys, parts, strict=True)) + "}"
    if type(value) not in (list, tuple, deque):
        return None
    parts = [expression(one, tensors) for one in value]
    if None in parts:
        return None
    inner = ", ".join(one for one in parts if one is not None)
    if type(value) is deque:
        return f"deque([{inner}], {value.maxlen})"
    return f"[{inner}]" if type(value) is list else f"({inner}{',' if len(value) == 1 else ''})"


def _evaluated(node: ast.expr, name: str, arrays: Arrays, device: torch.device) -> Any:
    """The value of an expression that `expression` wrote; nothing else is evaluated."""
    inner = (_evaluated(one, name, arrays, device) for one in _elements(node))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        first, *rest = inner
        if node.func.id == "deque":
            return deque(first, *rest)
        return _tensor(arrays[f"{name}:{first}"], node.func.id == "BFloat16", device)
    if isinstance(node, ast.List):
        return list(inner)
    if isinstance(node, ast.Tuple):
        return tuple(inner)
    if isinstance(node, ast.Dict):
        keys = [_evaluated(key, name, arrays, device) for key in node.keys if key is not None]
        return dict(zip(keys, inner, strict=True))
    if isinstance(node, ast.Name):
        return NAMES[node.id]
    if isinstance(node, ast.UnaryOp) and isinstance(node.operand, ast.Name):
        return -NAMES[node.operand.id]
    return ast.literal_eval(node)


def _elements(node: ast.expr) -> Iterator[ast.expr]:
    if isinstance(node, ast.Call):
        yield from node.args
    elif isinstance(node, (ast.List, ast.Tuple)):
        yield from node.elts
    elif isinstance(node, ast.Dict):
        yield from node.values


def _is_plain(tensor: torch.Tensor) -> bool:
    """Whether it is numbers alone: no parameter, nothing with a graph behind it."""
    return not (isinstance(tensor, nn.Parameter) or tensor.requires_grad or tensor.is_quantized)


def _tensor(array: Array, rounded: bool, device: torch.device) -> torch.Tensor:
    return torch.tensor(array, device=device, dtype=torch.bfloat16 if rounded else None)
