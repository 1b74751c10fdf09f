"""A page as a browser reads it, for tests."""

import re

import html5lib

XHTML = "{http://www.w3.org/1999/xhtml}"
SVG = "{http://www.w3.org/2000/svg}"
ATTRIBUTES = [
    "align",
    "aria-hidden",
    "aria-label",
    "aria-labelledby",
    "charset",
    "class",
    "clip-path",
    "colspan",
    "content",
    "d",
    "data-axes",
    "data-open",
    "data-v",
    "height",
    "href",
    "http-equiv",
    "id",
    "lang",
    "name",
    "hidden",
    "open",
    "rel",
    "role",
    "scope",
    "style",
    "tabindex",
    "text-anchor",
    "transform",
    "type",
    "viewBox",
    "width",
    "x",
    "y",
    "{http://www.w3.org/1999/xlink}href",
]


def parsed(page):
    """The tree that a browser builds; every error of the page's syntax is one here."""
    return html5lib.HTMLParser(strict=True, namespaceHTMLElements=True).parse(page)


def is_harmless(tree):
    """Nothing in the tree that we did not put there, and nothing that asks for anything."""
    elements = [one for one in tree.iter() if isinstance(one.tag, str)]
    names = [one.tag for one in elements]
    assert names.count(f"{XHTML}script") == names.count(f"{XHTML}style") == 1
    assert names.count(f"{XHTML}link") == 1
    assert not {f"{XHTML}{name}" for name in ("img", "iframe", "object", "form", "base", "video")} & set(
        names
    )
    ids = [one.get("id") for one in elements if one.get("id")]
    assert len(ids) == len(set(ids))
    for one in elements:
        assert set(one.attrib) <= set(ATTRIBUTES), (one.tag, one.attrib)
        for key in ("href", "{http://www.w3.org/1999/xlink}href"):
            target = one.get(key)
            assert target in (None, "data:,") or target.removeprefix("#") in ids, target
        for address in re.findall(r"url\(([^)]*)\)", " ".join(one.attrib.values())):
            assert address.removeprefix("#") in ids
    return tree


def words(element):
    return " ".join(" ".join(element.itertext()).split())


def found(tree, tag, key="class", value=None):
    return [one for one in tree.iter(f"{XHTML}{tag}") if value is None or one.get(key) == value]
