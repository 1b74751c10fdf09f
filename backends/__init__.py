"""The registry of backends: names to the modules that implement them.

Importing this package imports no framework and not even NumPy. A backend's module is imported by `load`,
and third parties add theirs through the entry point group ``lockstep.backends``.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import TYPE_CHECKING

from lockstep.backends.errors import BackendUnavailableError, UnknownNameError, did_you_mean

if TYPE_CHECKING:
    from lockstep.backends.protocol import Backend

__all__ = [
    "CERTIFIED",
    "ENTRY_POINT_GROUP",
    "REFERENCE",
    "Entry",
    "entries",
    "entry",
    "known",
    "load",
    "missing_modules",
]

ENTRY_POINT_GROUP = "lockstep.backends"


@dataclass(frozen=True)
class Entry:
    """One line of the registry.

    Attributes:
        name: what a user calls the backend.
        target: ``module:attribute`` of a class or function that, called without arguments, gives a Backend.
        summary: what trains, in a few words.
        imports: the top-level modules that the backend needs.
        requirements: the distributions that provide them, as pip writes them.
        default: whether it trains where no backend is named; a reference is asked for by name.
    """

    name: str
    target: str
    summary: str
    imports: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ()
    default: bool = True

    @property
    def install_command(self) -> str:
        """The exact command that installs what the backend needs."""
        return "pip install " + " ".join(f'"{requirement}"' for requirement in self.requirements)


REFERENCE = "numpy"
"""The backend whose disturbed runs measure what rounding can do."""

CERTIFIED = "exact"
"""The backend that knows the true trajectory."""

NUMPY = Entry("numpy", "lockstep.backends.numpy_vjp.backend:NumPyBackend", "hand-written VJPs in NumPy")

JAX = Entry(
    "jax",
    "lockstep.backends.jax_haiku.backend:JaxBackend",
    "Haiku modules, Optax optimizers, jit and lax.scan",
    ("jax", "haiku", "optax"),
    ("jax>=0.8", "dm-haiku>=0.0.16", "optax>=0.2.8"),
)

TORCH = Entry(
    "torch",
    "lockstep.backends.pytorch.backend:TorchBackend",
    "torch.nn modules and torch.optim optimizers",
    ("torch",),
    ("torch>=2.6",),
)

EXACT = Entry(
    "exact",
    "lockstep.backends.exact.backend:ExactBackend",
    "the NumPy chain over ball arithmetic: the true trajectory, enclosed",
    ("flint",),
    ("python-flint>=0.7",),
    default=False,
)


def _mode(of: Entry, mode: str, target: str, summary: str) -> Entry:
    """Another way to run the same framework; it trains where it is named."""
    name, home = f"{of.name}:{mode}", f"lockstep.backends.{target}"
    return replace(of, name=name, target=home, summary=summary, default=False)


BUILT_IN = (
    NUMPY,
    JAX,
    TORCH,
    _mode(JAX, "step", "jax_haiku.modes:JaxStepBackend", "jax, one jitted call a step"),
    _mode(JAX, "eager", "jax_haiku.modes:JaxEagerBackend", "jax, one operation at a time"),
    _mode(JAX, "cuda", "jax_haiku.modes:JaxCudaBackend", "jax on an NVIDIA GPU"),
    _mode(TORCH, "compile", "pytorch.modes:TorchCompileBackend", "torch, the model compiled"),
    _mode(TORCH, "foreach", "pytorch.modes:TorchForeachBackend", "torch, the optimizer's foreach form"),
    _mode(TORCH, "fused", "pytorch.modes:TorchFusedBackend", "torch, the optimizer's fused form"),
    _mode(TORCH, "cuda", "pytorch.modes:TorchCudaBackend", "torch on an NVIDIA GPU"),
    EXACT,
)


def entries() -> dict[str, Entry]:
    """The backends that train where none is named."""
    return {name: line for name, line in known().items() if line.default}


@cache
def known() -> dict[str, Entry]:
    """All backends by name: ours first, then those of installed third parties."""
    entries = {item.name: item for item in BUILT_IN}
    for point in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda point: point.name):
        package = point.dist.name if point.dist is not None else point.value
        entries.setdefault(point.name, Entry(point.name, point.value, f"installed by {package}"))
    return entries


def entry(name: str) -> Entry:
    """The registry's line for one backend.

    Raises:
        UnknownNameError: no backend has that name.
    """
    lines = known()
    if name in lines:
        return lines[name]
    hint = did_you_mean(name, lines)
    raise UnknownNameError("unknown backend", repr(name), f"{hint}known backends: {', '.join(lines)}")


def missing_modules(name: str) -> list[str]:
    """The modules that backend `name` needs and that cannot be found; imports nothing."""
    return [module for module in entry(name).imports if find_spec(module) is None]


def load(name: str) -> Backend:
    """Import and construct one backend.

    Raises:
        UnknownNameError: no backend has that name.
        BackendUnavailableError: its framework is not installed or fails to import, or has not its device here.
    """
    line = entry(name)
    if missing := missing_modules(name):
        raise BackendUnavailableError(
            f"backend {name!r} cannot run here",
            f"no module named {', '.join(missing)}",
            line.install_command,
        )
    module, _, attribute = line.target.partition(":")
    try:
        make = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        fix = f"reinstall it: {line.install_command}" if line.requirements else f"repair {line.target}"
        raise BackendUnavailableError(
            f"backend {name!r} fails to import", f"{type(error).__name__}: {error}", fix
        ) from error
    backend: Backend = make()
    return backend
