"""What several builds of one side draw for one parameter: a sample of its numbers, and what no seed changes."""

from __future__ import annotations

import numpy as np

from lockstep.backends.problem import Array
from lockstep.harness.conformance.initialisers.structure import bits, copied_axes, gain

MOST_NUMBERS = 1 << 17
"""The most numbers of one parameter that are kept of all builds of a side: 1 MiB in float64."""


class Sample:
    """One parameter over the builds of one side, in the left side's layout.

    Args:
        builds: how many there will be.
        size: of the parameter.

    Attributes:
        first: its numbers in the first build.
        fixed: which of them no build changes; (shape).
        finite: whether all numbers of all builds are.
        bits: of what precision its numbers in view are; see `structure.bits`.
        copied: the axes along which each build repeats one slice.
        gain: c of a matrix with M Mᵀ = c² I or Mᵀ M = c² I; None where some build has none.
    """

    def __init__(self, builds: int, size: int) -> None:
        kept = max(1, MOST_NUMBERS // builds)
        # The same for both sides, so that both have the same numbers in view.
        self._places = (
            np.sort(np.random.default_rng(0).choice(size, kept, replace=False))
            if size > kept
            else np.arange(size)
        )
        self._rows: list[Array] = []

    def add(self, values: Array) -> None:
        """The numbers of one build."""
        finite = bool(np.isfinite(values.astype(np.float64)).all())
        row = values.ravel()[self._places].astype(np.float64)
        if not self._rows:
            self.first, self.fixed, self.finite = values.copy(), np.ones(values.shape, bool), finite
            self.bits, self.copied, self.gain = bits(row), copied_axes(values), gain(values)
        else:
            self.fixed &= values == self.first
            self.finite &= finite
            self.bits = max(self.bits, bits(row))
            self.copied &= copied_axes(values)
            self.gain = self.gain and gain(values)
        self._rows.append(row)

    def drawn(self, fixed: Array) -> Array:
        """The numbers in view that are not `fixed`; (builds, numbers)."""
        return np.stack(self._rows)[:, ~fixed.ravel()[self._places]]

    @property
    def is_fixed(self) -> bool:
        """Whether no seed changes any number."""
        return bool(self.fixed.all())
