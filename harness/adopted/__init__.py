"""Your own training code, two or more of it, on the same batches: whether it trains the same, and where it parts.

``verify`` trains and judges, ``diagnose`` finds the first step and stage that differ, ``find_mapping`` finds which
parameter of one side is which of the other. The trainers come from ``backends.pytorch.adopt``, ``backends.jax_haiku.adopt``
and ``backends.numpy_vjp.adopt``.
"""

from harness.adopted.diagnosis import diagnose
from harness.adopted.mapping import Link, Mapping, MappingError
from harness.adopted.matching import find_mapping
from harness.adopted.verification import assert_parity, verify

__all__ = ["Link", "Mapping", "MappingError", "assert_parity", "diagnose", "find_mapping", "verify"]
