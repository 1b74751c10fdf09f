"""Curves as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cache
from io import StringIO
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup, escape

from lockstep.backends.problem import Array
from lockstep.harness.documents import (
    figures,
)
from lockstep.harness.report.html import svg, text
from lockstep.harness.report.thin import STRETCHES, extremes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from lockstep.harness.report.html.view import View

WIDTH, HEIGHT = 4.6, 2.3
"""Inches, at 72 units each."""
DRAWABLE = 1e300
"""Larger values are drawn here: an axis has to be able to hold its own margins."""
LOG = 20
"""Positive values of which the largest is so many times the least are drawn on a log scale."""
DASHES = ("solid", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1, 2)))
MARKS = 12
"""Crosses on a curve that is beyond its limit."""
WIDTHS = (3.2, 2.0, 1.4, 1.2)
"""Line widths of the first, second, ... backend: a wide line shows under the narrow ones that cover it."""


def plotting() -> AbstractContextManager[None]:
    """The context in which everything is drawn, independent of the user's own settings."""
    from matplotlib import style

    return style.context(["default", svg.SETTINGS])


class Plots:
    """Draws the plots of one page; ids are numbered through it."""

    def __init__(self) -> None:
        self._drawn = 0

    def losses(self, view: View) -> Markup | None:
        """The losses of all backends over each other."""
        curves = [(run["backend"], numbers(run["losses"])) for run in view.trained]
        if not _drawable(curves):
            return None
        axes = _axes(view.step, "loss")
        log = _wants_log([curve for _, curve in curves])
        for order, (_, curve) in enumerate(curves):
            _line(axes, curve, order, log)
        last = (f"{name} ends at {figures.loss(value, view.dtype)}" for name, value in _last(view))
        words = (
            f"Losses of {_names(curves)} per {view.step}{', log scale' if log else ''}. {'; '.join(last)}."
            f"{_left_out([curve for _, curve in curves])}"
        )
        return self._figure(axes, "Losses", words, [name for name, _ in curves])

    def distances(self, view: View) -> Markup | None:
        """The distance between the backends, over the band of allowed distances."""
        distance, limit = numbers(view.case["distances"]), numbers(view.case["limits"])
        if not _drawable([("", distance)]):
            return None
        axes = _axes(view.step, "distance / scale")
        least = _floor(distance, limit)
        _band(axes, limit, least)
        drawn = extremes(distance)
        axes.plot(
            drawn, _held(distance[drawn], least), color=svg.COLOURS["series-1"], linewidth=1.6, gid=svg.SERIES
        )
        over = _over(distance, limit)
        axes.plot(over, _held(distance[over], least), "x", color=svg.COLOURS["bad"], markersize=5, mew=1.6)
        axes.set_yscale("log")
        axes.set_ylim(bottom=least)
        words = (
            f"Largest distance of two losses per {view.step}, log scale, against the band that passes: "
            f"{_beyond(distance, limit)}. Zeros are drawn on the lower edge.{_left_out([distance])}"
        )
        return self._figure(axes, "Distance and budget", words, ["distance"], "band that passes")

    def errors(self, view: View) -> Markup | None:
        """Each backend's error against the certified trajectory."""
        curves = [(run["backend"], numbers(run["errors"]["losses"])) for run in view.trained if run["errors"]]
        if not _drawable(curves):
            return None
        axes = _axes(view.step, "error in ULPs")
        log = _wants_log([curve[curve > 0] for _, curve in curves])
        least = _floor(*(curve for _, curve in curves))
        for order, (_, curve) in enumerate(curves):
            _line(axes, _held(curve, least) if log else curve, order, log)
        largest = (f"{name} {figures.own_error(run['errors'])[0]}" for name, run in _with_errors(view))
        words = (
            f"Error of each loss against the certified trajectory in ULPs; the largest: {'; '.join(largest)}."
            f"{_left_out([curve for _, curve in curves])}"
        )
        return self._figure(axes, "Own errors", words, [name for name, _ in curves])

    def detection(self, points: list[dict[str, Any]]) -> Markup | None:
        """Which relative changes of the learning rate were found."""
        shown = [one for one in points if one["change"] > 0]
        if not shown:
            return None
        axes = _axes("relative change of the learning rate", "")
        for verdict, height, colour, mark in _VERDICTS:
            at = [one["change"] for one in shown if one["verdict"] == verdict]
            axes.plot(at, [height] * len(at), mark, color=svg.COLOURS[colour], markersize=6)
        axes.set_xscale("log")
        axes.set_yticks([one[1] for one in _VERDICTS], _WORDS)
        axes.set_ylim(-0.5, len(_VERDICTS) - 0.5)
        detected = [one["change"] for one in shown if one["verdict"] == "DIFFER"]
        least = f"the smallest that is found is {min(detected):.0e}" if detected else "none is found"
        return self._figure(axes, "Detection", f"Relative changes of the learning rate: {least}.", [])

    def _figure(
        self, axes: Axes, title: str, words: str, names: Sequence[str], band: str | None = None
    ) -> Markup:
        self._drawn += 1
        drawn = svg.tidy(_written(axes), f"p{self._drawn}", axes)
        keys = "".join(
            f'<li class="s{order % len(DASHES) + 1}">{escape(text.shown(text.name(name)))}</li>'
            for order, name in enumerate(names)
        )
        keys += f'<li class="band">{escape(band)}</li>' if band else ""
        legend = f'<ul class="legend">{keys}</ul>' if keys else ""
        caption = f"<figcaption>{escape(text.shown(words))}</figcaption>"
        return Markup(
            f'<figure class="plot"><p class="title">{escape(title)}</p>{drawn}{legend}{caption}</figure>'
        )


_VERDICTS = (("AGREE", 0, "axis", "x"), ("INCONCLUSIVE", 1, "axis", "s"), ("DIFFER", 2, "series-1", "o"))
"""Verdict on a change, its height in the plot, its colour and its mark."""
_WORDS = ("not found", "undecided", "found")


def _drawable(curves: Sequence[tuple[str, Array]]) -> bool:
    return any(np.isfinite(curve).any() for _, curve in curves)


def numbers(values: Sequence[float | str]) -> Array:
    """Floats; words for values that are not finite become NaN, which is not drawn."""
    return np.array([np.nan if isinstance(one, str) else one for one in values], dtype=np.float64).clip(
        -DRAWABLE, DRAWABLE
    )


@cache
def _canvas() -> Any:
    """The one pair of axes of all plots: to make new ones, with their ticks, costs more than to draw."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, HEIGHT))
    figure.subplots_adjust(left=0.15, right=0.98, top=0.97, bottom=0.19)
    figure.add_subplot()
    return FigureCanvasSVG(figure)


def _axes(across: str, up: str) -> Axes:
    """The axes as if they were new: empty, linear, without limits."""
    axes: Axes = _canvas().figure.axes[0]
    for drawn in (*axes.lines, *axes.collections):
        drawn.remove()
    axes.set_xscale("linear")
    axes.set_yscale("linear")
    axes.relim()
    axes.autoscale(True)
    axes.set_xlabel(across, parse_math=False)
    axes.set_ylabel(up, parse_math=False)
    return axes


def _line(axes: Axes, curve: Array, order: int, log: bool) -> None:
    drawn = extremes(curve)
    style = order % len(DASHES)
    colour = svg.COLOURS[f"series-{style + 1}"]
    mark = "o" if len(curve) == 1 else None
    dashes, width = DASHES[style], WIDTHS[style]
    axes.plot(
        drawn, curve[drawn], color=colour, linestyle=dashes, linewidth=width, marker=mark, gid=svg.SERIES
    )
    axes.set_yscale("log" if log else "linear")


def _band(axes: Axes, limit: Array, least: float) -> None:
    drawn = extremes(limit)
    if len(drawn):
        axes.fill_between(drawn, least, _held(limit[drawn], least), color=svg.COLOURS["band"], linewidth=0)
        axes.plot(
            drawn, _held(limit[drawn], least), color=svg.COLOURS["axis"], linewidth=1, linestyle="dashed"
        )


def _floor(*curves: Array) -> float:
    """Somewhat under the least positive value: where a log scale begins, and a zero is drawn."""
    positive = np.concatenate([curve[curve > 0] for curve in curves])
    return max(float(positive.min()) / 3, 1e-300) if positive.size else 1e-17


def _held(curve: Array, least: float) -> Array:
    return np.maximum(curve, least)


def _over(distance: Array, limit: Array) -> Array:
    """The points that are marked as beyond the limit: all of them, or evenly spread ones."""
    length = min(len(distance), len(limit))
    over = np.flatnonzero(distance[:length] > limit[:length])
    return over if len(over) <= MARKS else over[np.linspace(0, len(over) - 1, MARKS).astype(int)]


def _beyond(distance: Array, limit: Array) -> str:
    if not len(limit):
        return "no band is known"
    length = min(len(distance), len(limit))
    over = int((distance[:length] > limit[:length]).sum())
    return f"{over} of {length} are beyond it"


def _left_out(curves: Sequence[Array]) -> str:
    """The points that a curve leaves out: those that were thinned out, and those that are not finite."""
    words = ""
    if (most := max(map(len, curves))) > 2 * STRETCHES:
        words += f" Of each {STRETCHES}th part of the {most} points the least and the largest are drawn."
    if lost := sum(int(np.isnan(curve).sum()) for curve in curves):
        words += f" {lost} that are not finite are left out."
    return words


def _wants_log(curves: Sequence[Array]) -> bool:
    finite = np.concatenate([curve[np.isfinite(curve)] for curve in curves])
    return bool(finite.size) and bool(finite.min() > 0) and float(finite.max() / finite.min()) > LOG


def _names(curves: Sequence[tuple[str, Array]]) -> str:
    return ", ".join(text.name(name) for name, _ in curves)


def _last(view: View) -> list[tuple[str, Any]]:
    return [(text.name(run["backend"]), run["losses"][-1]) for run in view.trained]


def _with_errors(view: View) -> list[tuple[str, Any]]:
    return [(text.name(run["backend"]), run) for run in view.trained if run["errors"]]


def _written(axes: Axes) -> str:
    """The figure as matplotlib writes it, with plain words for its ticks."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

    for axis, scale in ((axes.xaxis, axes.get_xscale()), (axes.yaxis, axes.get_yscale())):
        if scale == "log":
            axis.set_major_locator(LogLocator(numticks=6))
            axis.set_minor_locator(NullLocator())
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0e}"))
        elif not isinstance(axis.get_major_locator(), FixedLocator):  # which has words
            axis.set_major_locator(MaxNLocator(5, integer=axis is axes.xaxis))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.6g}"))
    words = StringIO()
    _canvas().print_svg(words, metadata={"Date": None})
    return words.getvalue()
