"""How an optimizer's state reads on the reference's side: ``0/mu/fc/kernel`` is ``0/mu/linear/w`` where the mapping links the two."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping as AnyMapping
from collections.abc import Sequence
from dataclasses import dataclass, field

from lockstep.backends.problem import Array, Arrays
from lockstep.harness.mapping.link import Link
from lockstep.harness.mapping.mapping import Mapping, Shapes

Forms = AnyMapping[str, tuple[tuple[int, ...], str]]
"""Name -> (shape, dtype)."""


@dataclass(frozen=True)
class StateNames:
    """Renames the part of a state's name that is a parameter's, and changes the layout of what has the parameter's shape.

    A parameter that is linked in pieces is left as it is: its state may be counted by piece.

    Attributes:
        links: a side's own parameter -> the only link of both its ends.
        shapes: of the reference's parameters.
        own_shapes: of the side's.
    """

    links: AnyMapping[str, Link] = field(default_factory=dict)
    shapes: Shapes = field(default_factory=dict)
    own_shapes: Shapes = field(default_factory=dict)

    @classmethod
    def of(cls, mapping: Mapping | None, shapes: Shapes, own_shapes: Shapes) -> StateNames:
        """Of a mapping; of the reference itself, which has none, the names stay."""
        links = () if mapping is None else mapping.links
        lefts, rights = Counter(one.left for one in links), Counter(one.right for one in links)
        whole = [one for one in links if lefts[one.left] == rights[one.right] == 1]
        return cls({one.right: one for one in whole}, shapes, own_shapes)

    def canonical(self, state: Arrays) -> dict[str, Array]:
        """A side's own state under the reference's names and in its layouts."""
        renamed = {}
        for name, value in state.items():
            link = self._link(name)
            if link is not None and value.shape == self.own_shapes[link.right]:
                value = link.to_left(value, self.shapes[link.left])
            renamed[self._canonical(name)] = value
        return renamed

    def own(self, state: Arrays, form: Forms) -> dict[str, Array]:
        """The state under the side's own names and in its layouts.

        Args:
            state: under the reference's names.
            form: of the side's own state.
        """
        names = {self._canonical(name): name for name in form}
        renamed = {}
        for name, value in state.items():
            own = names.get(name, name)
            link = self._link(own)
            if link is not None and value.shape == self.shapes[link.left]:
                value = link.to_right(value, self.own_shapes[link.right])
            renamed[own] = value
        return renamed

    def _canonical(self, name: str) -> str:
        link = self._link(name)
        return name if link is None else name.removesuffix(link.right) + link.left

    def _link(self, name: str) -> Link | None:
        """That of the longest parameter whose name is the end of this one."""
        return next((self.links[end] for end in ends(name) if end in self.links), None)


def ends(name: str) -> Sequence[str]:
    """The name, and what follows each of its slashes."""
    parts = name.split("/")
    return ["/".join(parts[place:]) for place in range(len(parts))]
