"""Whether a backend keeps the protocol: every rule as a check with a name, a reason and a remedy.

``check_backend`` runs them all and gives a `Report`; ``cases`` gives them one by one, for a test suite. A backend is
checked for what it claims: what needs a capability that it does not have is skipped, and so is a problem that it refuses.

``check_optimizer`` and ``optimizer_cases`` do the same for an optimizer alone, against another one, ``check_initialisers`` for what
a model's parameters start from.
"""

from lockstep.harness.conformance.backend import Case, cases, check_backend
from lockstep.harness.conformance.check import Check
from lockstep.harness.conformance.checks import CHECKS
from lockstep.harness.conformance.initialisers import InitialiserReport, check_initialisers
from lockstep.harness.conformance.optimizers import check_optimizer, optimizer_cases
from lockstep.harness.conformance.outcome import Outcome, Report
from lockstep.harness.core.nonconformity import Nonconformity

__all__ = [
    "CHECKS",
    "Case",
    "Check",
    "InitialiserReport",
    "Nonconformity",
    "Outcome",
    "Report",
    "cases",
    "check_backend",
    "check_initialisers",
    "check_optimizer",
    "optimizer_cases",
]
