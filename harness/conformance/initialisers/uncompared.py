"""What could not be compared: parameters of other sizes, and those without a counterpart."""

from __future__ import annotations

import math
from collections.abc import Iterator

from lockstep.backends.protocol import Snapshot
from lockstep.harness.adopt.side import held
from lockstep.harness.conformance.initialisers.compare import InitialiserOutcome
from lockstep.harness.conformance.initialisers.linking import Linked
from lockstep.harness.core.verdict import Verdict


def uncompared(
    linked: Linked, names: tuple[str, str], build: tuple[Snapshot, Snapshot]
) -> Iterator[InitialiserOutcome]:
    """DIFFER for pairs of other shapes; INCONCLUSIVE for parameters that no link has.

    Args:
        linked: the links between the sides.
        names: of the sides.
        build: one of both.
    """
    left, right = map(held, build)
    for one in linked.misfits:
        reason = f"{names[1]} has shape {right[one.right].shape} where {names[0]} has {left[one.left].shape}"
        yield InitialiserOutcome(one.left, one.right, Verdict.DIFFER, reason, p=0.0, caught=math.inf)
    for place, candidates in linked.unlinked.items():
        side, _, name = place.partition(":")
        found = (
            f"candidates: {', '.join(candidates)}" if candidates else "the other side has none of its size"
        )
        reason = f"no counterpart is certain ({found}); give mapping="
        pair = (name, "") if side == "left" else ("", name)
        yield InitialiserOutcome(*pair, Verdict.INCONCLUSIVE, reason, caught=math.inf)
