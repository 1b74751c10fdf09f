"""Curves of a benchmark as inline SVG. Needs matplotlib; without it there are none, and the page says so."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from io import StringIO
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from lockstep.harness.benchmark import units
from lockstep.harness.report.html import svg, text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

Document = dict[str, Any]

INSTALL = 'pip install "lockstep-parity[report]"'
WIDTH, HEIGHT = 4.6, 2.6
"""Inches, at 72 units each."""
SERIES = 4
"""Colours that the style sheet has; further backends begin again with other dashes."""
NEAR = 4
"""Up to this ratio of the largest to the least, times are drawn on a linear scale."""
DECADES = 3
"""An axis of logarithms over fewer has ticks between the powers of ten."""
PARTS = ("import", "compile", "run")
MARKS = "osD^v"


class Plots:
    """Draws the plots of one page; ids are numbered through it."""

    def __init__(self) -> None:
        self.available = find_spec("matplotlib") is not None
        self.install = INSTALL
        self._drawn = 0

    def style(self) -> AbstractContextManager[None]:
        """The context in which everything is drawn, independent of the user's own settings."""
        if not self.available:
            return nullcontext()
        from matplotlib import style

        return style.context(["default", svg.SETTINGS])

    def scaling(self, sweep: Sequence[Document], limits: Sequence[tuple[float, float]]) -> Markup | None:
        """Time against one size of one problem, a curve a backend, with the limit of the machine below them.

        Args:
            sweep: rows of the document's ``growth`` that have problem, dtype and axis in common.
            limits: (size, seconds) that nothing can be faster than.
        """
        if not self.available or not sweep:
            return None
        axes, axis = _axes(sweep[0]["axis"], "seconds a run"), sweep[0]["axis"]
        for order, one in enumerate(sweep):
            points = sorted(one["points"])
            axes.plot(
                *zip(*points, strict=True),
                color=_colour(order),
                marker=MARKS[order % len(MARKS)],
                linewidth=1.6,
            )
        if limits:
            axes.plot(
                *zip(*sorted(limits), strict=True), color=svg.COLOURS["axis"], linestyle="dashed", linewidth=1
            )
        axes.set(xscale="log", yscale="log")
        words = f"Seconds against {axis}, both in logarithms; exponents: " + ", ".join(
            f"{one['backend']} {one['exponent']:.2f}" for one in sweep
        )
        words += ". Dashed: the machine's limit" if limits else ""
        title = f"{text.name(sweep[0]['problem'])} {sweep[0]['dtype']}: growth with {axis}"
        return self._figure(axes, title, words + ".", [one["backend"] for one in sweep])

    def split(self, entries: Sequence[Document]) -> Markup | None:
        """Where the time to the first result goes: import, compilation, one run."""
        timed = [one for one in entries if one["figures"]]
        if not self.available or not timed:
            return None
        axes, left = _axes("seconds", ""), [0.0] * len(timed)
        for order, key in enumerate(("imported", "compiled", "median")):
            widths = [one["figures"][key] for one in timed]
            axes.barh(range(len(timed)), widths, left=left, color=_colour(order), height=0.6)
            left = [total + width for total, width in zip(left, widths, strict=True)]
        _named(axes, timed)
        words = "; ".join(f"{one['backend']}: {_parts(one['figures'])}" for one in timed)
        return self._figure(axes, "Where the time goes", f"{words}.", PARTS)

    def distribution(self, entries: Sequence[Document]) -> Markup | None:
        """Every repetition's time, a row a backend, with the interval for the median."""
        timed = [one for one in entries if one["figures"]]
        if not self.available or not timed:
            return None
        axes = _axes("seconds a run", "")
        times = [[statistics.median(sample["runs"]) for sample in one["repetitions"]] for one in timed]
        for order, one in enumerate(timed):
            axes.plot(
                one["figures"]["interval"], [order] * 2, color=svg.COLOURS["band"], linewidth=9, zorder=1
            )
            axes.plot(
                times[order], [order] * len(times[order]), "o", color=_colour(order), markersize=4, zorder=2
            )
        _named(axes, timed)
        axes.set_xscale(_scale([value for own in times for value in own]))
        words = "; ".join(
            f"{one['backend']} {units.span(one['figures']['interval'])} ({one['figures']['coverage']:.0%})"
            for one in timed
            if one["figures"]["coverage"]
        )
        return self._figure(
            axes, "Repetitions", f"A mark is a process; the bar is the interval for the median: {words}.", []
        )

    def accuracy(self, entries: Sequence[Document]) -> Markup | None:
        """Each backend's own error against its time; only where a reference trajectory is proven."""
        known = [
            one for one in entries if one["figures"] and isinstance(one["verified"]["losses"], (int, float))
        ]
        if not self.available or not known:
            return None
        axes = _axes("seconds a run", "largest error of a loss, ULP")
        for order, one in enumerate(known):
            axes.plot(
                [one["figures"]["median"]], [one["verified"]["losses"]], MARKS[order % len(MARKS)],
                color=_colour(order), markersize=6,
            )  # fmt: skip
        axes.set_xscale(_scale([one["figures"]["median"] for one in known]))
        axes.set_ylim(0, 1.15 * max(one["verified"]["losses"] for one in known) or 1)
        words = "; ".join(
            f"{one['backend']} {one['verified']['losses']:.3g} ULP in {units.seconds(one['figures']['median'])}"
            for one in known
        )
        return self._figure(axes, "Accuracy and time", f"{words}.", [one["backend"] for one in known])

    def _figure(self, axes: Axes, title: str, words: str, names: Iterable[str]) -> Markup:
        self._drawn += 1
        drawn = svg.tidy(_written(axes), f"b{self._drawn}", axes)
        keys = "".join(
            f'<li class="s{order % SERIES + 1}">{escape(text.shown(text.name(name)))}</li>'
            for order, name in enumerate(names)
        )
        legend = f'<ul class="legend">{keys}</ul>' if keys else ""
        caption = f"<figcaption>{escape(text.shown(words))}</figcaption>"
        return Markup(
            f'<figure class="plot"><p class="title">{escape(text.shown(title))}</p>{drawn}{legend}{caption}</figure>'
        )


def _parts(figures: Document) -> str:
    parts = zip(PARTS, (figures["imported"], figures["compiled"], figures["median"]), strict=True)
    return ", ".join(f"{name} {units.seconds(value)}" for name, value in parts)


def _scale(values: Sequence[float]) -> str:
    """Logarithms where the values differ by a large factor: near ones would have no tick between them."""
    return "log" if max(values) > NEAR * min(values) else "linear"


def _colour(order: int) -> str:
    return svg.COLOURS[f"series-{order % SERIES + 1}"]


def _named(axes: Axes, entries: Sequence[Document]) -> None:
    """A row a backend, the first on top."""
    axes.set_yticks(range(len(entries)), [text.shown(text.name(one["backend"])) for one in entries])
    axes.set_ylim(len(entries) - 0.4, -0.6)


def _axes(across: str, up: str) -> Axes:
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, HEIGHT))
    FigureCanvasSVG(figure)
    figure.subplots_adjust(left=0.2, right=0.97, top=0.96, bottom=0.18)
    axes: Axes = figure.add_subplot()
    axes.set_axisbelow(True)
    axes.set_xlabel(across, parse_math=False)
    axes.set_ylabel(up, parse_math=False)
    return axes


def _written(axes: Axes) -> str:
    """The figure as matplotlib writes it, with plain words for its ticks."""
    for axis, scale, title in (
        (axes.xaxis, axes.get_xscale(), axes.get_xlabel()),
        (axes.yaxis, axes.get_yscale(), axes.get_ylabel()),
    ):
        _ticks(axis, scale, units.seconds if title.startswith("seconds") else units.count)
    words = StringIO()
    axes.figure.savefig(words, format="svg", metadata={"Date": None})  # type: ignore[union-attr]
    return words.getvalue()


def _ticks(axis: Axis, scale: str, word: Callable[[float], str]) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

    if isinstance(axis.get_major_locator(), FixedLocator):  # which has words
        return
    if scale == "log":
        low, high = axis.get_view_interval()
        few = math.log10(high / low) < DECADES
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,), numticks=8 if few else 6))
        axis.set_minor_locator(NullLocator())
    else:
        axis.set_major_locator(MaxNLocator(4))
    axis.set_major_formatter(FuncFormatter(lambda value, _: word(value) if value > 0 else "0"))
