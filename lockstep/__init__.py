"""Train one problem in several frameworks and decide whether they agree.

The names in ``__all__`` are the public interface, and so are the modules that a package with a backend of its own builds on:
`lockstep.backends.problem`, `lockstep.backends.protocol`, `lockstep.backends.ops`, `lockstep.backends.adoption`, and what
`lockstep.backends.numpy_vjp` and `lockstep.harness.conformance` list in their ``__all__``. Everything else is private
and may change without notice. Each name is imported on first use: ``import lockstep`` imports neither a framework nor NumPy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lockstep.backends.errors import LockstepError
    from lockstep.backends.jax_haiku.adoption.trainer import adopt as adopt_jax
    from lockstep.backends.numpy_vjp.adoption.trainer import adopt as adopt_numpy
    from lockstep.backends.problem import (
        Average,
        Batching,
        Clip,
        Layer,
        Loss,
        Optimizer,
        Penalty,
        Problem,
        Schedule,
    )
    from lockstep.backends.pytorch.adoption.trainer import adopt as adopt_torch
    from lockstep.harness.adopt.step import adopt_step
    from lockstep.harness.benchmark.bench import bench
    from lockstep.harness.benchmark.result import Benchmark
    from lockstep.harness.bundle.recording import record, record_adopted
    from lockstep.harness.bundle.replaying import Replayed, replay, replay_adopted
    from lockstep.harness.conformance.backend import check_backend
    from lockstep.harness.conformance.initialisers import check_initialisers
    from lockstep.harness.conformance.optimizers import check_optimizer
    from lockstep.harness.core.verdict import Verdict
    from lockstep.harness.diagnose.diagnosis import Diagnosis, diagnose
    from lockstep.harness.mapping.mapping import Mapping
    from lockstep.harness.matching.find import find_mapping
    from lockstep.harness.problems import find as find_problem
    from lockstep.harness.verification.adopted import assert_parity as assert_parity_adopted
    from lockstep.harness.verification.adopted import diagnose as diagnose_adopted
    from lockstep.harness.verification.adopted import verify as verify_adopted
    from lockstep.harness.verification.parity import assert_parity, verify
    from lockstep.harness.verification.result import ParityError, Result

_HOMES = {
    "Average": "backends.problem",
    "Batching": "backends.problem",
    "Benchmark": "harness.benchmark.result",
    "Clip": "backends.problem",
    "Diagnosis": "harness.diagnose.diagnosis",
    "Layer": "backends.problem",
    "LockstepError": "backends.errors",
    "Loss": "backends.problem",
    "Mapping": "harness.mapping.mapping",
    "Optimizer": "backends.problem",
    "ParityError": "harness.verification.result",
    "Penalty": "backends.problem",
    "Problem": "backends.problem",
    "Replayed": "harness.bundle.replaying",
    "Result": "harness.verification.result",
    "Schedule": "backends.problem",
    "Verdict": "harness.core.verdict",
    "adopt_jax": "backends.jax_haiku.adoption.trainer:adopt",
    "adopt_numpy": "backends.numpy_vjp.adoption.trainer:adopt",
    "adopt_step": "harness.adopt.step",
    "adopt_torch": "backends.pytorch.adoption.trainer:adopt",
    "assert_parity": "harness.verification.parity",
    "assert_parity_adopted": "harness.verification.adopted:assert_parity",
    "bench": "harness.benchmark.bench",
    "check_backend": "harness.conformance.backend",
    "check_initialisers": "harness.conformance.initialisers",
    "check_optimizer": "harness.conformance.optimizers",
    "diagnose": "harness.diagnose.diagnosis",
    "diagnose_adopted": "harness.verification.adopted:diagnose",
    "find_mapping": "harness.matching.find",
    "find_problem": "harness.problems:find",
    "record": "harness.bundle.recording",
    "record_adopted": "harness.bundle.recording",
    "replay": "harness.bundle.replaying",
    "replay_adopted": "harness.bundle.replaying",
    "verify": "harness.verification.parity",
    "verify_adopted": "harness.verification.adopted:verify",
}
"""The module of each public name, and behind a colon its name there where that is another one."""

__all__ = [
    "Average",
    "Batching",
    "Benchmark",
    "Clip",
    "Diagnosis",
    "Layer",
    "LockstepError",
    "Loss",
    "Mapping",
    "Optimizer",
    "ParityError",
    "Penalty",
    "Problem",
    "Replayed",
    "Result",
    "Schedule",
    "Verdict",
    "adopt_jax",
    "adopt_numpy",
    "adopt_step",
    "adopt_torch",
    "assert_parity",
    "assert_parity_adopted",
    "bench",
    "check_backend",
    "check_initialisers",
    "check_optimizer",
    "diagnose",
    "diagnose_adopted",
    "find_mapping",
    "find_problem",
    "record",
    "record_adopted",
    "replay",
    "replay_adopted",
    "verify",
    "verify_adopted",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home, _, other = _HOMES[name].partition(":")
    return getattr(importlib.import_module(f"{__name__}.{home}"), other or name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
