"""Whether two sides draw the same initial parameters: each builds itself from several seeds, and the numbers are compared.

``check_initialisers`` gives an `InitialiserReport`. What no seed changes is compared exactly, what is drawn by distribution.
"""

from lockstep.harness.conformance.initialisers.check import check_initialisers
from lockstep.harness.conformance.initialisers.compare import InitialiserOutcome
from lockstep.harness.conformance.initialisers.report import InitialiserReport

__all__ = ["InitialiserOutcome", "InitialiserReport", "check_initialisers"]
