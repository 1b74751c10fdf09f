"""An SVG of matplotlib, prepared for a page: colours by CSS, no clashing ids, few bytes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

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
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "axes.edgecolor": COLOURS["axis"],
    "axes.labelcolor": COLOURS["axis"],
    "xtick.color": COLOURS["axis"],
    "ytick.color": COLOURS["axis"],
    "grid.color": COLOURS["grid"],
    "grid.linewidth": 0.6,
    "text.parse_math": False,
}

SERIES = "series"
"""The gid of a curve whose values a pointer shows; its class in the page."""

_NUMBER = re.compile(r"-?\d+\.\d+")
_COLOUR = re.compile("|".join(COLOURS.values()))
_NAMES = {colour: name for name, colour in COLOURS.items()}
_ID = re.compile(r"url\(#([^)]*)\)")
_GRID = "fill:none;stroke:var(--grid);stroke-width:0.6"
_DRAWN_BY_NONE = ("metadata", "style")
_USELESS = {
    "stroke-linejoin",
    "stroke-linecap",
    "stroke-opacity",
    "fill-opacity",
    "stroke-dashoffset",
    "font",
    "font-family",
}


def tidy(drawn: str, prefix: str, axes: Axes) -> Markup:
    """The drawing without what a page does not need, its ids begun with `prefix`; the caption must state what it shows."""
    root = ElementTree.fromstring(drawn)
    used = set(re.findall(r'(?:href="#|url\(#)([^")]*)', drawn))
    view = root.attrib["viewBox"]
    for element in root.iter():
        _shorten(element, used, prefix)
    _unwrap(root)
    root.attrib = {"viewBox": view, "aria-hidden": "true", "data-axes": _where(axes)}
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _shorten(element: Element, used: set[str], prefix: str) -> None:
    element.tag = element.tag.rpartition("}")[2]
    short = {
        name.rpartition("}")[2]: _attribute(name, value, prefix)
        for name, value in element.attrib.items()
        if name != "id" or value in used
    }
    if element.attrib.get("id") == SERIES:
        short["class"] = SERIES
    if short.get("style") == _GRID:
        short = {"class": "grid", "d": short["d"]}
    element.attrib = {name: value for name, value in short.items() if value}
    if element.tag == "text":  # the style sheet says the rest
        style = element.attrib.pop("style", "")
        anchor = re.search(r"text-anchor:\s*(\w+)", style)
        element.attrib |= {"text-anchor": anchor[1]} if anchor else {}
    element.text = (element.text or "").strip() or None
    element.tail = None


def _unwrap(parent: Element) -> None:
    """Removes groups without attributes, and elements that draw nothing; the rest stays in its order."""
    children: list[Element] = []
    for child in parent:
        _unwrap(child)
        if child.tag == "g" and not child.attrib:
            children += list(child)
        elif (
            child.tag not in _DRAWN_BY_NONE
            and (child.tag != "defs" or len(child))
            and child.attrib.get("style") != "fill:none"
        ):
            children.append(child)
    parent[:] = children


def _attribute(name: str, value: str, prefix: str) -> str:
    if name == "id":
        return f"{prefix}-{value}"
    if name.endswith("href"):
        return f"#{prefix}-{value[1:]}"
    if name == "style":
        return _style(value)
    if value.startswith("rotate(-0 "):
        return ""
    short = _NUMBER.sub(lambda found: f"{float(found[0]):.1f}".removesuffix(".0"), value)
    if name == "d":
        return re.sub(r"\s*([A-Za-z])\s*", r"\1", " ".join(short.split()))
    return " ".join(_ID.sub(rf"url(#{prefix}-\1)", short).split())


def _style(value: str) -> str:
    pairs = [[part.strip() for part in one.split(":", 1)] for one in value.split(";") if one.strip()]
    useful = ";".join(f"{name}:{what}" for name, what in pairs if name not in _USELESS)
    return _COLOUR.sub(lambda found: f"var(--{_NAMES[found[0]]})", useful)


def _where(axes: Axes) -> str:
    """The position of the axes in the drawing and their ranges, for the values that a pointer shows."""
    box = axes.get_window_extent()
    height = axes.figure.bbox.height
    corners = (box.x0, height - box.y1, box.x1, height - box.y0)
    spans = (*axes.get_xlim(), *axes.get_ylim())
    scales = (axes.get_xscale(), axes.get_yscale())
    return " ".join([*(f"{one:.1f}" for one in corners), *(f"{one:.6g}" for one in spans), *scales])
