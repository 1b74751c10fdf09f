"""The templates, with the filters and values that each may use."""

from __future__ import annotations

from functools import cache

import jinja2
from markupsafe import Markup

from lockstep.harness.documents import (
    figures,
)
from lockstep.harness.report.html import text


def template(name: str) -> jinja2.Template:
    """A template of the folder `templates/` here."""
    return _templates().get_template(name)


@cache
def _templates() -> jinja2.Environment:
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("lockstep.harness.report.html", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=text.shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {
        "name": text.name,
        "distance": figures.distance,
        "share": figures.share,
        "ulps": figures.ulps,
        "tolerance": figures.tolerance,
    }
    templates.globals |= {
        "place": figures.place,
        "style": _trusted(templates, "style.css"),
        "script": _trusted(templates, "script.js"),
    }
    return templates


def _trusted(templates: jinja2.Environment, name: str) -> Markup:
    """A file of ours, as it is."""
    loader = templates.loader
    assert loader is not None
    return Markup(loader.get_source(templates, name)[0])
