"""An SVG of matplotlib made fit for a page: colours by CSS, no names of others' ids, few bytes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from markupsafe import Markup

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {
    name: f"#0000{number:02x}"
    for number, name in enumerate(
        ("axis", "grid", "band", "bad", "series-1", "series-2", "series-3", "series-4"), 1
    )
}
"""Custom property of the style sheet -> the colour that stands for it while it is drawn."""

SETTINGS: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "lockstep",
    "path.simplify": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.edgecolor": COLOURS["axis"],
    "axes.labelcolor": COLOURS["axis"],
    "xtick.color": COLOURS["axis"],
    "ytick.color": COLOURS["axis"],
    "grid.color": COLOURS["grid"],
    "grid.linewidth": 0.6,
    "text.parse_math": False,
}

_NUMBER = re.compile(r"-?\d+\.\d+")
_COLOUR = re.compile("|".join(COLOURS.values()))
_NAMES = {colour: name for name, colour in COLOURS.items()}
_ID = re.compile(r"url\(#([^)]*)\)")
_USELESS = {"stroke-linejoin", "stroke-linecap", "stroke-opacity", "fill-opacity", "font", "font-family"}


def tidy(drawn: str, prefix: str, told: str, axes: Axes) -> Markup:
    """The drawing without its metadata and sizes, its ids begun with `prefix`, with `told` as its text alternative."""
    root = ElementTree.fromstring(drawn)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.rpartition("}")[2] in ("metadata", "style"):
                parent.remove(child)
    used = set(re.findall(r'(?:href="#|url\(#)([^")]*)', drawn))
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = {
            name.rpartition("}")[2]: _attribute(name, value, prefix)
            for name, value in element.attrib.items()
            if name != "id" or value in used
        }
        element.text = (element.text or "").strip() or None
        element.tail = None
    root.attrib = {
        "viewBox": root.attrib["viewBox"],
        "role": "img",
        "aria-label": told,
        "data-axes": _where(axes),
    }
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _attribute(name: str, value: str, prefix: str) -> str:
    if name == "id":
        return f"{prefix}-{value}"
    if name.endswith("href"):
        return f"#{prefix}-{value[1:]}"
    if name == "style":
        return _style(value)
    short = _NUMBER.sub(lambda found: f"{float(found[0]):.1f}".removesuffix(".0"), value)
    return " ".join(_ID.sub(rf"url(#{prefix}-\1)", short).split())


def _style(value: str) -> str:
    kept = [one.strip() for one in value.split(";") if one.strip()]
    kept = [one for one in kept if one.partition(":")[0] not in _USELESS]
    return _COLOUR.sub(lambda found: f"var(--{_NAMES[found[0]]})", ";".join(kept))


def _where(axes: Axes) -> str:
    """Where the axes lie in the drawing and what they span, for the values that a pointer shows."""
    box = axes.get_window_extent()
    height = axes.figure.bbox.height
    corners = (box.x0, height - box.y1, box.x1, height - box.y0)
    spans = (*axes.get_xlim(), *axes.get_ylim())
    scales = (axes.get_xscale(), axes.get_yscale())
    return " ".join([*(f"{one:.1f}" for one in corners), *(f"{one:.6g}" for one in spans), *scales])
