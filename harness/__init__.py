"""What to train, whether it agrees, and how it is told.

``verify`` trains and judges; ``assert_parity`` raises `ParityError` unless everything agrees; ``diagnose`` says where
two backends first part, and which of them is wrong; ``record`` keeps runs in a file, and ``replay`` compares them with runs
that are made elsewhere (``record_adopted``, ``replay_adopted``: runs of your own code); ``bench`` times those that agree. They
are imported on first use, so that importing this package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.adopted_bundle.recording import record_adopted
    from harness.adopted_bundle.replaying import replay_adopted
    from harness.benchmark.bench import bench
    from harness.benchmark.result import Benchmark
    from harness.diagnosis import Diagnosis, diagnose
    from harness.parity import ParityError, Result, assert_parity, verify
    from harness.recording import record
    from harness.replaying import Replayed, replay
    from harness.verdict import Verdict

__all__ = [
    "Benchmark",
    "Diagnosis",
    "ParityError",
    "Replayed",
    "Result",
    "Verdict",
    "assert_parity",
    "bench",
    "diagnose",
    "record",
    "record_adopted",
    "replay",
    "replay_adopted",
    "verify",
]

_HOMES = {
    "Benchmark": "harness.benchmark.result",
    "Diagnosis": "harness.diagnosis",
    "ParityError": "harness.parity",
    "Replayed": "harness.replaying",
    "Result": "harness.parity",
    "Verdict": "harness.verdict",
    "assert_parity": "harness.parity",
    "bench": "harness.benchmark.bench",
    "diagnose": "harness.diagnosis",
    "record": "harness.recording",
    "record_adopted": "harness.adopted_bundle.recording",
    "replay": "harness.replaying",
    "replay_adopted": "harness.adopted_bundle.replaying",
    "verify": "harness.parity",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
