"""The devices that torch trains on, and what it makes of precision there."""

from __future__ import annotations

import os
from typing import Any

import torch

from lockstep.backends.errors import DeviceUnavailableError

TF32_SINCE = (8, 0)
"""The compute capability from which on NVIDIA's GPUs have TF32."""

REDUCED = ("high", "medium", "tf32", "bf16")
"""What torch calls products of float32 that may round to less, by its older switch and by its newer one."""


cudnn: Any = torch.backends.cudnn
"""Not typed as far as we use it."""


def require(backend: str, device: str) -> None:
    """Nothing, where torch has such a device here.

    Raises:
        DeviceUnavailableError: it has none.
    """
    if device == "cpu" or torch.cuda.is_available():
        return
    built = torch.version.cuda or torch.version.hip
    raise DeviceUnavailableError(
        f"backend {backend!r} cannot run here",
        f"torch {torch.__version__}, no CUDA device{'' if built else ': it was built without CUDA'}",
        "look at nvidia-smi, the driver and CUDA_VISIBLE_DEVICES"
        if built
        else "where there is a GPU, install a build for CUDA: https://pytorch.org/get-started/locally/",
    )


def describe(device: torch.device) -> dict[str, str | int | bool]:
    """What numbers that were computed on `device` depend on."""
    return _gpu(device) if device.type == "cuda" else _cpu(device)


def _cpu(device: torch.device) -> dict[str, str | int | bool]:
    precision = _products(torch.backends.mkldnn)  # 'medium' changes the bits of a CPU's float32 products
    return {
        "device": str(device),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "matmul_precision": precision,
        "reduced_precision": precision in REDUCED,
    }


def _gpu(device: torch.device) -> dict[str, str | int | bool]:
    major, minor = torch.cuda.get_device_capability(device)
    return {
        "device": torch.cuda.get_device_name(device),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "capability": f"{major}.{minor}",
        "cuda": str(torch.version.cuda or torch.version.hip),
        "cudnn": str(cudnn.version()),
        "cudnn_deterministic": cudnn.deterministic,
        "matmul_precision": _products(torch.backends.cuda),
        "convolution_precision": _convolutions(),
        "reduced_precision": (major, minor) >= TF32_SINCE and may_use_tf32(),
        "device_peak_bytes": torch.cuda.max_memory_allocated(device),
    }


def may_use_tf32() -> bool:
    """Whether float32 products or convolutions may round to TF32 on a GPU that has it; by torch's defaults the latter may.

    NVIDIA's libraries obey the variable, whatever torch sets.
    """
    if os.environ.get("NVIDIA_TF32_OVERRIDE") == "0":
        return False
    return _products(torch.backends.cuda) in REDUCED or _convolutions() in REDUCED


def _products(place: Any) -> str:
    """The precision of matrix products of float32: `highest`, or what torch calls less."""
    try:
        return torch.get_float32_matmul_precision()
    except (
        RuntimeError
    ):  # set by the newer switch, of each library its own; the older one does not answer then
        return str(place.matmul.fp32_precision)


def _convolutions() -> str:
    """The same of convolutions on a GPU."""
    try:
        allowed = cudnn.allow_tf32
    except RuntimeError:
        return str(cudnn.conv.fp32_precision)
    return "tf32" if allowed else "highest"
