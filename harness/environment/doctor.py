"""What can run here: versions, threads, BLAS, devices, and the command that installs what cannot."""

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
        environment: what it says of itself; empty unless it loads.
        problem: why it does not load; empty if it does.
        fix: the command that mends it.
        absent: whether what it lacks is a device: a finding, and no fault of what is installed.
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
