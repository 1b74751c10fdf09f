"""The layout that is the likeliest where no gradient confirms one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from lockstep.harness.mapping.link import Link
from lockstep.harness.mapping.names import last_part
from lockstep.harness.matching.search import Search
from lockstep.harness.matching.signals import Signals

ALIKE = 0.5
"""The least cosine of two gradients that are those of counterparts, but for a fault of the port.

Measured on 4,800 pairs each of square weights of 4, 16 and 64, in ports with one of twelve faults: with these two numbers
the right layout was taken in 70, 74 and 59 of 100, and the wrong one once, of width 4. From 0.3 on it would be ten times.
"""

OTHERWISE = 2.0
"""Another layout's cosine must be so many times smaller. Measured likewise: at 1.3 times, the wrong one five times."""

Kind = tuple[str, str, int, int]


def likeliest(signals: Signals, layouts: Sequence[Link]) -> Link | None:
    """The layout in which the gradients point in one direction; None if there is none, or another is nearly as good.

    Args:
        signals: gradients under which the sides would compute the same in any of the layouts.
        layouts: of one pair.
    """
    likeness = sorted(((signals.likeness(one), at) for at, one in enumerate(layouts)), reverse=True)
    if len(likeness) > 1 and likeness[0][0] >= max(ALIKE, OTHERWISE * likeness[1][0]):
        return layouts[likeness[0][1]]
    return None


def usual(search: Search, layouts: Sequence[Link]) -> Link | None:
    """The layout of the other links of such names and axes; where there are none, of two names with one last part, no other layout."""
    if not layouts:
        return None
    kind = _kind(search, layouts[0])
    counts = Counter((one.reshape, one.transpose) for one in search.links if _kind(search, one) == kind)
    if not counts and kind[0] == kind[1]:
        counts[None, None] = 1
    chosen = [
        one
        for layout, _ in counts.most_common(1)
        for one in layouts
        if (one.reshape, one.transpose) == layout
    ]
    return chosen[0] if chosen else None


def _kind(search: Search, link: Link) -> Kind:
    """The last parts of both names without their numbers, and how many axes they have: weights of torch and kernels of Flax, say."""
    ours, theirs = (last_part(name).rstrip("0123456789_") for name in (link.left, link.right))
    return (ours, theirs, len(search.axes(0, link.left)), len(search.axes(1, link.right)))
