"""The templates, and what each of them may use."""

from __future__ import annotations

from functools import cache

import jinja2
from markupsafe import Markup

from lockstep.harness.report import figures
from lockstep.harness.report.html import text


def template(name: str) -> jinja2.Template:
    """A template beside this file, in `templates/`."""
    return _templates().get_template(name)


@cache
def _templates() -> jinja2.Environment:
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("lockstep.harness.report.html", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=text.shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        "name": text.name,
        "distance": figures.distance,
        "share": figures.share,
        "ulps": figures.ulps,
        "tolerance": figures.tolerance,
    }
    found.globals |= {
        "place": figures.place,
        "style": _trusted(found, "style.css"),
        "script": _trusted(found, "script.js"),
    }
    return found


def _trusted(templates: jinja2.Environment, name: str) -> Markup:
    """A file of ours, as it is."""
    loader = templates.loader
    assert loader is not None
    return Markup(loader.get_source(templates, name)[0])
