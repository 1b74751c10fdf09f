"""The devices that JAX trains on, and what it makes of precision there."""

from __future__ import annotations

import jax

from lockstep.backends.errors import DeviceUnavailableError

FULL = ("highest", "float32", "F32_F32_F32")
"""What JAX calls products of float32 that round to no less, on every device."""


def first(backend: str, platform: str) -> jax.Device:
    """The first device of a platform.

    Raises:
        DeviceUnavailableError: JAX has none here.
    """
    try:
        return jax.devices(platform)[0]
    except RuntimeError as error:
        raise DeviceUnavailableError(
            f"backend {backend!r} cannot run here",
            f"jax {jax.__version__}, no {platform.upper()} device: {error}",
            _fix(platform),
        ) from error


def _fix(platform: str) -> str:
    if platform == "cpu":
        return "name the CPU, too, where you set JAX's platforms: JAX_PLATFORMS=cuda,cpu"
    return (
        f'where there is a GPU: pip install "jax[{platform}]"; then look at nvidia-smi, CUDA_VISIBLE_DEVICES and '
        "JAX_PLATFORMS"
    )


def describe(device: jax.Device) -> dict[str, str | int | bool]:
    """What numbers that were computed on `device` depend on."""
    precision = jax.config.values["jax_default_matmul_precision"]
    return {
        "device": str(device.device_kind),
        "matmul_precision": str(precision),
        # On a CPU the precision setting changes nothing; on an accelerator the default may round to TF32 or bfloat16.
        "reduced_precision": device.platform != "cpu" and precision not in FULL,
        **({} if device.platform == "cpu" else _accelerator(device)),
    }


def _accelerator(device: jax.Device) -> dict[str, str | int | bool]:
    """What only an accelerator has, as far as its driver reports it."""
    facts: dict[str, str | int | bool] = {"driver": " ".join(str(device.client.platform_version).split())}
    if capability := getattr(device, "compute_capability", None):
        facts["capability"] = str(capability)
    if peak := (device.memory_stats() or {}).get("peak_bytes_in_use"):
        facts["device_peak_bytes"] = int(peak)
    return facts


def elsewhere(device: jax.Device) -> bool:
    """Whether JAX puts things on `device` only when asked: it puts them on its first device by itself."""
    return jax.config.values["jax_default_device"] is not None or jax.devices()[0] != device
