"""Your own training code, two or more of it, on the same batches: whether it trains the same, and where it parts.

``verify`` trains and judges, ``assert_parity`` raises unless all agree, ``diagnose`` finds the first step and stage that
differ, ``find_mapping`` finds which parameter of one side is which of the other. The trainers come from
``lockstep.backends.pytorch.adopt``, ``lockstep.backends.jax_haiku.adopt`` and ``lockstep.backends.numpy_vjp.adopt``. All are imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lockstep.harness.adopt.diagnosis import diagnose
    from lockstep.harness.adopt.verification import assert_parity, verify
    from lockstep.harness.mapping.link import Link, MappingError
    from lockstep.harness.mapping.mapping import Mapping
    from lockstep.harness.mapping.matching import find_mapping

__all__ = ["Link", "Mapping", "MappingError", "assert_parity", "diagnose", "find_mapping", "verify"]

_HOMES = {
    "Link": "mapping.link",
    "Mapping": "mapping.mapping",
    "MappingError": "mapping.link",
    "assert_parity": "adopt.verification",
    "diagnose": "adopt.diagnosis",
    "find_mapping": "mapping.matching",
    "verify": "adopt.verification",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"lockstep.harness.{_HOMES[name]}"), name)
