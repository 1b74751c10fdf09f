"""Train one problem in several frameworks and decide whether they agree.

The names below are the public interface; everything else is private. Each is imported on first use, so that
``import lockstep`` costs nothing and imports no framework.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lockstep.harness.benchmark.bench import bench
    from lockstep.harness.benchmark.result import Benchmark
    from lockstep.harness.bundle.adopted.recording import record_adopted
    from lockstep.harness.bundle.adopted.replaying import replay_adopted
    from lockstep.harness.bundle.recording import record
    from lockstep.harness.bundle.replaying import Replayed, replay
    from lockstep.harness.core.verdict import Verdict
    from lockstep.harness.diagnose.diagnosis import Diagnosis, diagnose
    from lockstep.harness.verification.parity import ParityError, Result, assert_parity, verify

_HOMES = {
    "Benchmark": "harness.benchmark.result",
    "Diagnosis": "harness.diagnose.diagnosis",
    "ParityError": "harness.verification.parity",
    "Replayed": "harness.bundle.replaying",
    "Result": "harness.verification.parity",
    "Verdict": "harness.core.verdict",
    "assert_parity": "harness.verification.parity",
    "bench": "harness.benchmark.bench",
    "diagnose": "harness.diagnose.diagnosis",
    "record": "harness.bundle.recording",
    "record_adopted": "harness.bundle.adopted.recording",
    "replay": "harness.bundle.replaying",
    "replay_adopted": "harness.bundle.adopted.replaying",
    "verify": "harness.verification.parity",
}
"""The module of each public name."""

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


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"lockstep.{_HOMES[name]}"), name)
