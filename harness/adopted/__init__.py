"""Your own training code, two or more of it, on the same batches: whether it trains the same, and where it parts.

``verify`` trains and judges, ``assert_parity`` raises unless all agree, ``diagnose`` finds the first step and stage that
differ, ``find_mapping`` finds which parameter of one side is which of the other. The trainers come from
``backends.pytorch.adopt``, ``backends.jax_haiku.adopt`` and ``backends.numpy_vjp.adopt``. All are imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.adopted.diagnosis import diagnose
    from harness.adopted.link import Link, MappingError
    from harness.adopted.mapping import Mapping
    from harness.adopted.matching import find_mapping
    from harness.adopted.verification import assert_parity, verify

__all__ = ["Link", "Mapping", "MappingError", "assert_parity", "diagnose", "find_mapping", "verify"]

_HOMES = {
    "Link": "link",
    "Mapping": "mapping",
    "MappingError": "link",
    "assert_parity": "verification",
    "diagnose": "diagnosis",
    "find_mapping": "matching",
    "verify": "verification",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"harness.adopted.{_HOMES[name]}"), name)
