"""One case, in the form that the page's template needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from lockstep.harness.documents import figures
from lockstep.harness.report import left_out
from lockstep.harness.report.html import values

Row = dict[str, Any]


@dataclass
class View:
    """One case, in the form that the template needs.

    Attributes:
        anchor: its id on the page.
        case, runs, comparisons: its rows of the document.
        trained: the runs that have losses.
        plots: the figures.
        losses, parameters, census, passing, places, diagnoses: the rows of its tables.
        own: each backend's largest own errors, of losses and of parameters.
        brief: whether only its verdict is shown, and the fields above are empty.
        open: whether it is unfolded at first.
    """

    anchor: str
    case: Row
    runs: list[Row]
    comparisons: list[Row]
    trained: list[Row]
    plots: list[Markup] = field(default_factory=list)
    losses: list[list[str]] = field(default_factory=list)
    parameters: values.Parameters = values.NONE
    census: list[Row] = field(default_factory=list)
    passing: list[Row] = field(default_factory=list)
    places: list[tuple[Row, Row]] = field(default_factory=list)
    diagnoses: list[Row] = field(default_factory=list)
    own: dict[str, tuple[str, str]] = field(default_factory=dict)
    brief: bool = False
    open: bool = False

    @property
    def problem(self) -> str:
        return str(self.case["problem"])

    @property
    def dtype(self) -> str:
        return str(self.case["dtype"])

    @property
    def verdict(self) -> str:
        return str(self.case["verdict"])

    @property
    def left_out(self) -> list[str]:
        """What was compared with no other side's, in sentences."""
        return left_out.sentences(self.case)

    @property
    def columns(self) -> list[str]:
        """Titles of the columns, one for each backend that trained; they hold numbers."""
        return [f"#{run['backend']}" for run in self.trained]

    @property
    def reasons(self) -> bool:
        """Whether a row of the census says why."""
        return any(one["reason"] for one in self.census)

    @property
    def nearest(self) -> Row | None:
        """The comparison that used most of its limit; None where none has one that is finite."""
        return max(
            (one for one in self.comparisons if isinstance(one["used"], (int, float))),
            key=lambda one: float(one["used"]),
            default=None,
        )

    @property
    def step(self) -> str:
        """The unit of an index of the losses."""
        return figures.step(self.case)
