"""What an adopted torch module and optimizer hold, by name, and as NumPy."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from lockstep.backends.problem import Array, Arrays
from lockstep.backends.pytorch.adoption.reachable import walked
from lockstep.backends.pytorch.adoption.values import TENSOR, decoded, encoded, kind_of
from lockstep.backends.pytorch.arrays import as_array

HALVES = (torch.float16, torch.bfloat16)


def trained(module: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that have gradients, by name; frozen parameters are treated as buffers."""
    return {name: one for name, one in sorted(module.named_parameters()) if one.requires_grad}


def untrained(module: nn.Module) -> dict[str, torch.Tensor]:
    """Frozen parameters and buffers, by name."""
    frozen = {name: one for name, one in module.named_parameters() if not one.requires_grad}
    return dict(sorted({**frozen, **dict(module.named_buffers())}.items()))


def buffers(module: nn.Module) -> dict[str, Array]:
    """Those of floating point; one in half precision in the dtype of the parameters, in which it is compared."""
    return {
        name: array(comparable(one, module))
        for name, one in untrained(module).items()
        if one.is_floating_point()
    }


def comparable(tensor: torch.Tensor, module: nn.Module) -> torch.Tensor:
    """One in half precision in the dtype of the parameters, any other as it is."""
    if tensor.dtype not in HALVES:
        return tensor
    return tensor.to(next(iter(trained(module).values())).dtype)


def counts(module: nn.Module) -> dict[str, Array]:
    """Those of integers and booleans."""
    return {name: array(one) for name, one in untrained(module).items() if not one.is_floating_point()}


@torch.no_grad()
def set_untrained(module: nn.Module, name: str, value: torch.Tensor) -> None:
    """Set a frozen parameter or a buffer; one that the module does not have, or has in another shape, is made."""
    place, _, key = name.rpartition(".")
    holder = module.get_submodule(place)
    old = holder._parameters.get(key) if key in holder._parameters else holder._buffers.get(key)
    if old is not None and old.shape == value.shape:
        old.copy_(value)
    elif key in holder._buffers:
        holder._buffers[key] = value if old is None else value.to(old.dtype)


def optimizers_in(held: Any) -> list[torch.optim.Optimizer]:
    """An optimizer, or several that stand under names in one namespace."""
    return [held] if isinstance(held, torch.optim.Optimizer) else list(vars(held).values())


def slots(optimizer: torch.optim.Optimizer) -> dict[str, dict[Any, Any]]:
    """Where an optimizer, and those that it wraps, keep what they remember of parameters; by the prefix of its name."""
    states: dict[int, tuple[str, dict[Any, Any]]] = {}
    for one in walked({"": optimizer}, with_globals=False):
        if isinstance(one.value, torch.optim.Optimizer):
            place = f"{one.place.removeprefix('.')}." if one.place else ""
            states.setdefault(id(one.value.state), (place, one.value.state))
    return dict(states.values())


def copies_of_parameters(
    module: nn.Module, optimizer: torch.optim.Optimizer
) -> list[tuple[torch.Tensor, nn.Parameter]]:
    """The tensors in which an optimizer has stored what parameters are, each with its parameter; zeros say nothing."""
    parameters = [one for one in trained(module).values() if one.detach().any()]
    known = {id(one) for one in module.parameters()}
    pairs: list[tuple[torch.Tensor, nn.Parameter]] = []
    for one in walked({"": optimizer}, with_globals=False):
        if isinstance(one.value, torch.Tensor) and id(one.value) not in known:
            same = [
                each for each in parameters if each.shape == one.value.shape and torch.equal(each, one.value)
            ]
            pairs += [(one.value, each) for each in same[:1]]
    return pairs


def read_slots(module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Array]:
    """What an optimizer remembers of each parameter: ``momentum_buffer/0.weight``, a number ``step:int/0.weight``."""
    return {
        f"{prefix}{key.removesuffix(f':{TENSOR}')}/{name}": value
        for prefix, state in slots(optimizer).items()
        for name, one in sorted(module.named_parameters())
        if isinstance(state.get(one), dict)
        for key, value in _slots_of(state[one]).items()
    }


def _slots_of(remembered: dict[str, Any]) -> dict[str, Array]:
    return {
        key: value
        for slot, one in sorted(remembered.items())
        if kind_of(one) is not None
        for key, value in encoded(slot, one).items()
    }


def write_slots(
    module: nn.Module, optimizer: torch.optim.Optimizer, arrays: Arrays, device: torch.device
) -> None:
    """Let an optimizer remember what the arrays say; what is not among them it makes anew."""
    parameters, states = dict(module.named_parameters()), slots(optimizer)
    for state in states.values():
        for one in [key for key in state if isinstance(key, torch.Tensor)]:
            del state[one]
    remembered: dict[tuple[str, str], dict[str, Array]] = {}
    for key, value in arrays.items():
        slot, _, name = key.partition("/")
        prefix = slot[: slot.rfind(".") + 1]
        slot = slot.removeprefix(prefix)
        remembered.setdefault((prefix, name), {})[slot if ":" in slot else f"{slot}:{TENSOR}"] = value
    for (prefix, name), own in remembered.items():
        values = decoded(own, device)
        if isinstance(values.get("step"), torch.Tensor):  # a count stands on the CPU, as torch keeps it
            values["step"] = values["step"].cpu()
        states[prefix][parameters[name]] = values


def array(tensor: torch.Tensor) -> Array:
    """A copy; the gradient of a sparse embedding is expanded."""
    return as_array(tensor.to_dense())


def dtype(tensor: torch.Tensor) -> str:
    """Its name: ``float32``."""
    return str(tensor.dtype).removeprefix("torch.")


def coarsest(outputs: Iterable[torch.Tensor]) -> float:
    """The eps of the coarsest output in half precision; 0 where there is none."""
    return max((torch.finfo(one.dtype).eps for one in outputs if one.dtype in HALVES), default=0.0)
