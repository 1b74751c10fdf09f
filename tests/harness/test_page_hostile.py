"""The page of hostile names, of figures that are not finite, of very long runs and of very many problems."""

import re

import jsonschema
import numpy as np
import pytest

from lockstep.harness.documents.schema import load as schema
from lockstep.harness.publish.folder import (
    write_report,
)
from lockstep.harness.report import html
from lockstep.harness.report.html import cases
from lockstep.harness.report.html.page import parts
from lockstep.harness.report.stored import load
from tests.documents import HOSTILE, add, example, not_finite, renamed, small
from tests.pages import SVG, found, is_harmless, parsed, words


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_names_stay_text(kind):
    content = small()
    hostile = HOSTILE[kind]
    for old in ("adam", "numpy", "0.linear/w", "agrees", "loss", "update/0.linear/w"):
        content = renamed(content, old, f"{old}{hostile}")
    for row in (*content["cases"], *content["runs"], *content["comparisons"]):
        row["reason"] = row["reason"] and hostile
    for found_ in content["cases"][0]["diagnoses"]:
        found_.update(sentence=hostile)
    content["command"] = content["environment"]["cpu"] = content["environment"]["thread_variables"]["A"] = (
        hostile
    )
    text = html.render(content)
    tree = is_harmless(parsed(text))
    assert [one.get("id") for one in found(tree, "section")] == list(parts(content))
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", text)
    if hostile.isprintable() and len(hostile) < 80:
        assert words(found(tree, "h3")[0]) == " ".join(f"adam{hostile} float64".split())
    assert len(text.encode()) < 1e6


@pytest.mark.parametrize("kind", HOSTILE)
def test_every_form_is_written_and_the_figures_are_read_again_with_the_same_names(kind, tmp_path):
    content = renamed(renamed(small(), "adam", f"adam{HOSTILE[kind]}"), "0.linear/w", HOSTILE[kind])
    content["cases"][0]["reason"] = HOSTILE[kind]
    for path in write_report(tmp_path, content):
        assert (
            not re.search("[\x00-\x08\x0b-\x1f\u202e\u2066]", path.read_text(encoding="utf-8"))
            or path.suffix == ".json"
        )
    assert load(tmp_path / "parity.json") == content


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_what_is_not_finite_is_a_word_in_every_figure(word):
    content = not_finite(small(), word)
    jsonschema.Draft202012Validator(schema("report")).validate(content)
    tree = is_harmless(parsed(html.render(content)))
    assert word in words(tree)
    assert "nan" not in words(tree).split()


def test_some_that_is_not_finite_leaves_gaps_and_is_counted():
    content = small()
    content["runs"][0]["losses"][1:3] = ["NaN", "Infinity"]
    assert "2 that are not finite are left out" in words(parsed(html.render(content)))


def test_a_long_run_keeps_its_extremes_and_stays_small():
    content = example()
    steps = 100_000
    for run in content["runs"]:
        run["losses"] = np.linspace(2.0, 1.0, steps).tolist()
        run["errors"]["losses"] = [1.0] * steps
    content["runs"][0]["losses"][54_321] = 1.9
    content["cases"][0].update(epochs=steps, steps=steps, distances=[1e-16] * steps, limits=[1e-12] * steps)
    text = html.render(content)
    told_by_caption = "Of each 100th part of the 100000 points the least and the largest are drawn."
    assert text.count(told_by_caption) == 3
    assert len(text) < 200_000
    drawing = next(parsed(text).iter(f"{SVG}svg"))
    left, top, right, bottom, x0, x1, y0, y1 = map(float, drawing.get("data-axes").split()[:8])
    x, y = left + (54_321 - x0) / (x1 - x0) * (right - left), bottom - (1.9 - y0) / (y1 - y0) * (bottom - top)
    assert f"{x:.1f}".removesuffix(".0") + " " + f"{y:.1f}".removesuffix(".0") in text


def many(problems):
    content = small()
    for number in range(problems):
        add(content, f"problem {number}")
    return content


def test_of_many_problems_the_first_are_shown_in_full(monkeypatch):
    monkeypatch.setattr(cases, "DETAILED", 5)
    text = html.render(many(500))
    tree = is_harmless(parsed(text))
    assert len(found(tree, "details")) == 5
    assert len([one for one in found(tree, "div") if (one.get("class") or "").startswith("case")]) == 498
    assert "This page holds 5 cases in full, those that do not agree first" in words(tree)
    assert [words(one).split()[0] for one in found(tree, "details")] == [
        "adam",
        "agrees",
        "skipped",
        "problem",
        "problem",
    ]
    assert len(text) < 2e6


@pytest.mark.sweep
def test_a_page_of_five_hundred_problems_is_bounded():
    assert len(html.render(many(500))) < 8e6
