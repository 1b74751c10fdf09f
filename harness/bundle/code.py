"""Adopted code that repeats a recorded run: its stages are compared with recorded ones, and nothing is carried between them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from lockstep.backends.problem import Array, Arrays, Batch
from lockstep.backends.protocol import NOTHING
from lockstep.harness.adopt.implementation import AdoptedCode
from lockstep.harness.adopt.renamed import UNLINKED, Renamed, RenamedState
from lockstep.harness.adopt.side import Side, held
from lockstep.harness.adopt.task import Task
from lockstep.harness.bundle import Recorded
from lockstep.harness.bundle.hashes import hash_of
from lockstep.harness.mapping.modules import Modules, modules_of
from lockstep.harness.runs.lockstep_run import UNSHOWN
from lockstep.harness.runs.stages import OPTIMISED

BATCH = "batch"
"""The stage that holds the hash of the step's batch: the bundle does not hold the batch."""

OTHER_FORM = "the recorded optimizer's state has another form than that here"

FORWARD = "forward/"

_NOT_SENT = f"state/optimizer/{UNLINKED}/"


class ReplayedTrainer(Renamed):
    """The trainer under the recorded names; of a batch it shows the hash."""

    def observe(
        self, state: RenamedState, batch: Batch, wanted: Collection[str], inject: Arrays = NOTHING
    ) -> Arrays:
        observed = super().observe(state, batch, wanted, inject)
        return {BATCH: hash_of(batch), **observed} if BATCH in wanted else observed

    def align(self, left: Arrays, right: Arrays) -> tuple[Arrays, Arrays, Mapping[str, str]]:
        """As of a `Renamed`; what one side alone shows is not compared, nor what another form of state keeps from being."""
        right = {name: value for name, value in right.items() if not name.startswith(_NOT_SENT)}
        left, right, reasons = super().align(self._in_order(left, right), right)
        alone = {
            name: UNSHOWN if name in left else "it was not recorded" for name in left.keys() ^ right.keys()
        }
        late = int(left["state/count"]) > 0  # before the first step an optimizer keeps nothing yet
        optimised = dict.fromkeys(OPTIMISED, OTHER_FORM) if late and "optimizer" in reasons else {}
        return left, right, {**alone, **reasons, **optimised}

    def _in_order(self, left: Arrays, right: Arrays) -> Arrays:
        """The recorded outputs of modules in the order in which they are computed here; an archive is in that of names."""
        places = {name: place for place, name in enumerate(right)}
        outputs = [name for name in left if name.startswith(FORWARD)]
        outputs.sort(key=lambda name: places.get(own_stage(self._modules, name), len(places)))
        ordered = iter(outputs)
        return {
            one: left[one] for name in left for one in [next(ordered) if name.startswith(FORWARD) else name]
        }


def own_stage(modules: Modules, name: str) -> str:
    """What the code here calls the recorded output of a module."""
    module = name.removeprefix(FORWARD)
    return f"{FORWARD}{modules.pairs.get(module, module)}"


@dataclass(frozen=True)
class ReplayedCode(AdoptedCode):
    """One side, under the recorded names."""

    def trainer(self, spec: Task, /) -> ReplayedTrainer:
        """A trainer at the recorded start; the user's code is one and the same."""
        return ReplayedTrainer(self.side, self.parameters, self.shared, self.modules)


@dataclass(frozen=True)
class SameNames(Modules):
    """Every module is the one of its name."""

    def paired(self, left: Arrays, right: Arrays) -> dict[str, tuple[Array, Array]]:
        """Both sides' values by name."""
        return {name: (value, right[name]) for name, value in left.items() if name in right}


def code_of(side: Side, run: Recorded) -> ReplayedCode:
    """The side of `lockstep.harness.bundle.side.side_of`, as it is compared: in what was recorded and is here, too."""
    assert run.run.trace is not None
    last = run.run.trace.final
    shared = frozenset(held(last)) & side.canonical(held(side.start)).keys()
    modules = SameNames({}) if side.mapping is None else modules_of(side.mapping, last.parameters)
    return ReplayedCode(side, frozenset(last.parameters) & shared, shared, modules)
