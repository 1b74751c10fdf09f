"""The backends that can run here, with versions, threads, BLAS and devices, and the commands that install the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lockstep import backends
from lockstep.backends.errors import DeviceUnavailableError, LockstepError


@dataclass(frozen=True)
class Finding:
    """One backend: its environment if it loads, else why it does not and what to do.

    Attributes:
        backend: its name.
        environment: the facts that it reports; empty unless it loads.
        problem: why it does not load; empty if it does.
        fix: the command that fixes it.
        absent: whether it lacks a device: a finding, not a fault of the installation.
    """

    backend: str
    environment: Mapping[str, str | int | bool] = field(default_factory=dict)
    problem: str = ""
    fix: str = ""
    absent: bool = False


def examine() -> list[Finding]:
    """Every registered backend, imported and asked."""
    return [_examine(name) for name in backends.known()]


def _examine(name: str) -> Finding:
    try:
        return Finding(name, backends.load(name).environment())
    except DeviceUnavailableError as error:
        return Finding(name, problem=error.got, fix=error.fix, absent=True)
    except LockstepError as error:
        return Finding(name, problem=error.got, fix=error.fix)
    except Exception as error:  # a third party's backend may fail in any way
        return Finding(name, problem=f"{type(error).__name__}: {error}", fix="report it to its author")
