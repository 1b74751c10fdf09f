"""Whether an optimizer does what another one does: both alone, on the same gradients, update by update.

``check_optimizer`` makes all checks and gives an `OptimizerReport`; ``optimizer_cases`` gives them one by one, for a test suite.
"""

from lockstep.harness.conformance.optimizers.case import OptimizerCase, optimizer_cases
from lockstep.harness.conformance.optimizers.checks import OPTIMIZER_CHECKS, OptimizerCheck
from lockstep.harness.conformance.optimizers.report import (
    OptimizerOutcome,
    OptimizerReport,
    check_optimizer,
)

__all__ = [
    "OPTIMIZER_CHECKS",
    "OptimizerCase",
    "OptimizerCheck",
    "OptimizerOutcome",
    "OptimizerReport",
    "check_optimizer",
    "optimizer_cases",
]
