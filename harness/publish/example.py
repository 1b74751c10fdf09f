"""A report of a disagreement, stored in docs/example/ as an example: a port of Adam that adds epsilon inside the root.

``make example`` trains it and writes the report anew; the snapshots of the tests are of it, too.
"""

from __future__ import annotations

import platform
import sys
from pathlib import Path
from typing import Any

from lockstep import backends
from lockstep.backends.problem import Optimizer, Problem
from lockstep.harness.environment.manifest import manifest
from lockstep.harness.problems import find
from lockstep.harness.publish.folder import (
    sentence,
    write_report,
)
from lockstep.harness.report.document import to_document
from lockstep.harness.runs.intervention import Intervention
from lockstep.harness.selftest.mutated import Mutated
from lockstep.harness.verification.parity import verify

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "example"

EPOCHS = 4


class Ported(Mutated):
    """The reference under another name, with √(v̂ + ε) where the problem has √v̂ + ε."""

    name = "ported"

    def __init__(self) -> None:
        reference = backends.load(backends.REFERENCE)
        super().__init__(reference, lambda problem: Intervention(spec=epsilon_inside(problem)))


def epsilon_inside(problem: Problem) -> Problem:
    """The problem with Adam's ε moved under the root; the ε outside becomes too small to add anything."""
    epsilon = problem.optimizer.args["epsilon"]
    moved = {**problem.optimizer.args, "epsilon_root": epsilon, "epsilon": sys.float_info.min}
    return problem.replace(optimizer=Optimizer(problem.optimizer.name, **moved))


def document() -> dict[str, Any]:
    """The document of the example, with only those facts of the machine that affect the figures."""
    adam = find("adam").replace(epochs=EPOCHS)
    result = verify(
        adam, backends=["numpy", "torch", Ported()], dtypes=["float64"], certify=True, diagnose="differing"
    )
    where = {"git_commit": None, "platform": platform.system(), "cpu": platform.machine()}
    return to_document(result, {**manifest(), **where})


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    print(sentence(write_report(FOLDER, document())))
