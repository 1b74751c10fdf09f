"""The page: well-formed, self-contained, in a reader's order, the same bytes each time, and small."""

import copy
import hashlib
import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lockstep.harness.core.distance import ulps_between
from lockstep.harness.publish import (
    folder,
)
from lockstep.harness.report import (
    html,
)
from lockstep.harness.report.html import cases, matrix, plots, values
from lockstep.harness.report.html.page import parts
from tests.documents import EXAMPLE, example, small
from tests.pages import SVG, XHTML, found, is_harmless, parsed, words


@pytest.fixture(scope="module")
def page():
    return html.render(small())


@pytest.fixture(scope="module")
def tree(page):
    return is_harmless(parsed(page))


def test_the_sections_stand_in_the_order_in_which_a_reader_asks(tree):
    assert [one.get("id") for one in found(tree, "section")] == list(parts(small()))
    titles = [words(one) for one in found(tree, "h4") if one is not None]
    order = ["Losses", "Parameters", "Census", "The worst places", "The smallest tolerance that passes"]
    assert titles[:7] == [
        *order,
        "First divergence of torch from numpy",
        "First divergence of ported from numpy",
    ]
    levels = [int(one.tag[-1]) for one in tree.iter() if re.fullmatch(rf"{XHTML}h\d", str(one.tag))]
    assert all(below - above <= 1 for above, below in itertools.pairwise(levels))


def test_a_cell_of_the_matrix_has_its_verdict_in_words_and_leads_to_its_evidence(tree):
    (section,) = found(tree, "section", "id", "matrix")
    rows = [list(row)[3:-1] for row in next(section.iter(f"{XHTML}tbody"))]
    content = [[(one.get("class"), words(one), one[0].get("href")) for one in row] for row in rows]
    assert content == [
        [
            ("agree", "AGREE with 1 of 2", "#case-1-census"),
            ("agree", "AGREE with 1 of 2", "#case-1-census"),
            ("differ", "DIFFER with 0 of 2; blamed", "#case-1-diagnosis-2"),
        ],
        [
            ("agree", "AGREE with 1 of 1", "#case-2-census"),
            ("agree", "AGREE with 1 of 1", "#case-2-census"),
            (None, "not requested", None),
        ],
        [
            ("inconclusive", "INCONCLUSIVE alone", "#case-3"),
            ("skipped", "SKIPPED did not train", "#case-3-runs"),
            (None, "not requested", None),
        ],
    ]


def test_what_could_not_be_judged_says_why_and_what_to_do(tree):
    (section,) = found(tree, "section", "id", "unjudged")
    content = words(section)
    assert "backend torch SKIPPED no module named torch" in content
    assert 'pip install "torch>=2.6"' in content


def test_every_number_of_the_smallest_case_is_there(tree):
    content = words(tree)
    for words_ in (
        "0.3984273184",
        "ported adds epsilon inside the root",
        "place of epsilon, confirmed by training",
        "88 kinds of planted bugs, float32: missed 40 of 160",
        "lockstep verify adam --dtype=float64 --certify",
        "32 spreads of 32 disturbed twins",
        "backends / torch / version",
    ):
        assert words_ in content, words_


def test_every_case_has_its_three_plots_and_a_caption_that_tells_them(tree):
    for case in found(tree, "details"):
        figures = list(case.iter(f"{XHTML}figure"))
        assert len(figures) == 3
        for one in figures:
            (drawing,) = one.iter(f"{SVG}svg")
            assert drawing.get("aria-hidden") == "true"
            assert list(drawing.iter(f"{SVG}path"))
            assert len(words(one.find(f"{XHTML}figcaption"))) > 50


def test_the_curves_of_a_plot_are_those_of_the_document(tree):
    """Read off the drawing, as the script on the page does, within what a tenth of a unit is."""
    drawing = next(tree.iter(f"{SVG}svg"))
    _, top, _, bottom, _, _, low, high = map(float, drawing.get("data-axes").split()[:8])
    curves = [one for one in drawing.iter(f"{SVG}g") if one.get("class") == "series"]
    runs = [run for run in small()["runs"] if run["problem"] == "adam"]
    assert len(curves) == len(runs)
    for curve, run in zip(curves, runs, strict=True):
        heights = [float(one) for one in re.findall(r"[\d.]+ ([\d.]+)", curve[0].get("d"))]
        drawn = low + (bottom - np.array(heights)) / (bottom - top) * (high - low)
        np.testing.assert_allclose(drawn, run["losses"], atol=0.1 * (high - low) / (bottom - top))


def test_the_page_asks_for_nothing(page):
    policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
    assert policy in page
    assert re.findall(r"https?://[^\s\"'<]*", page) == []
    assert not re.search(r"\b(fetch|import|XMLHttpRequest|WebSocket|@import)\b", page)


def test_a_disagreement_is_open_and_an_agreement_is_folded_up(tree):
    assert [one.get("open") is not None for one in found(tree, "details")] == [True, False, True]


def test_no_document_is_changed_by_rendering_it():
    content = small()
    before = copy.deepcopy(content)
    html.render(content)
    assert content == before


def test_the_same_document_gives_the_same_bytes_in_any_process(tmp_path):
    """Whatever the hash seed, the time zone, the locale and the user's own settings of matplotlib."""
    (tmp_path / "matplotlibrc").write_text("lines.linewidth: 9\naxes.facecolor: red\nfont.size: 30\n")
    code = (
        "import sys, hashlib; from tests.documents import small; from lockstep.harness.report import html\n"
        "html.render(small())\n"
        "print(hashlib.sha256(html.render(small()).encode()).hexdigest())"
    )
    root = Path(__file__).parents[2]
    own = {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "MATPLOTLIBRC": str(tmp_path), "LC_ALL": "C"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **own},
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == hashlib.sha256(html.render(small()).encode()).hexdigest()


def test_without_the_extra_the_page_is_not_written_and_a_line_says_how_to_get_it(tmp_path, monkeypatch):
    written = folder.write_report(tmp_path, small())
    assert [path.name for path in written] == ["parity.html", "parity.md", "parity.json"]
    assert folder.sentence(written) == f"report: {tmp_path}/parity.html; the same in parity.md, parity.json"
    monkeypatch.setattr(folder, "NEEDED", ("jinja2", "not_installed"))
    written = folder.write_report(tmp_path, small())
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "parity.json",
        "parity.md",
    ]  # no page of an earlier report
    assert folder.sentence(written) == (
        'no parity.html: it needs not_installed; pip install "lockstep-parity[report]"\n'
        f"report: {tmp_path}/parity.md; the same in parity.json"
    )


def test_a_command_that_writes_no_page_imports_none_of_what_it_needs():
    code = "import sys, lockstep.cli, lockstep.harness.publish.folder, lockstep.harness.suite.merged; print(sorted({'jinja2', 'matplotlib'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout.strip() == "[]"


def test_the_kept_example_is_what_its_figures_give():
    assert (EXAMPLE / "parity.md").read_text(encoding="utf-8") == dict(folder._forms())["parity.md"](
        example()
    )
    kept = (EXAMPLE / "parity.html").read_text(encoding="utf-8")
    assert undrawn(kept) == undrawn(html.render(example()))
    assert len(kept) < 100_000


def undrawn(page):
    """Without the drawings, which another version of matplotlib may draw otherwise."""
    return re.sub(r"<svg.*?</svg>", "", page, flags=re.DOTALL)


def test_the_kept_example_is_found_again():
    """The port is still caught, at the same stage and with the same explanation."""
    from lockstep.harness.publish.example import (
        document,
    )

    before, after = (content["cases"][0] for content in (example(), document()))
    assert before["verdict"] == after["verdict"] == "DIFFER"
    assert before["reason"] == after["reason"]
    for old, new in zip(before["diagnoses"], after["diagnoses"], strict=True):
        assert [old[key] for key in ("backend", "verdict", "culprit", "explanation")] == [
            new[key] for key in ("backend", "verdict", "culprit", "explanation")
        ]
        assert (old["first"] and old["first"]["stage"]) == (new["first"] and new["first"]["stage"])


def run(losses=(1.0,), **parameters):
    return {"backend": "one", "losses": list(losses), "parameters": parameters, "errors": None}


def test_parameters_stand_side_by_side_with_their_ulps():
    above = float(np.nextafter(1.0, 2.0))
    content = values.parameters("float64", [run(w=[[1.0, 2.0]]), run(w=[[above, 2.0]])])
    assert [(one.index, one.values, one.ulps) for one in content.elements] == [
        ([0, 0], [1.0, above], 1),
        ([0, 1], [2.0, 2.0], 0),
    ]


def test_of_many_parameters_the_furthest_apart_are_shown():
    rng = np.random.default_rng(3)
    left = rng.standard_normal((40, 50)).astype(np.float32)
    right = left.copy()
    right[7, 3] += 0.5
    right[30, 49] = np.nextafter(right[30, 49], np.float32(9))
    given = [[[float(one) for one in row] for row in side] for side in (left, right)]
    given[1][12][13] = "NaN"
    content = values.parameters("float32", [run(w=side, b=[1.0]) for side in given])
    assert content.total == 2001
    assert len(content.elements) == values.SHOWN
    assert [one.index for one in content.elements[:3]] == [[12, 13], [7, 3], [30, 49]]
    assert [one.ulps for one in content.elements[:3]] == [None, ulps_between(left[7, 3], right[7, 3]), 1]


def test_a_parameter_that_a_backend_lacks_or_shapes_otherwise_has_no_ulps():
    content = values.parameters("float64", [run(w=[1.0, 2.0]), run(w=[[1.0, 2.0]]), run()])
    assert [one.ulps for one in content.elements] == [None, None]
    assert [one.values for one in content.elements] in (
        [[1.0, None, None], [2.0, None, None]],
        [[None, 1.0, None], [None, 2.0, None]],
    )


def test_the_verdict_names_the_backends_and_the_quantity_that_differ(tree):
    (section,) = found(tree, "section", "id", "verdict")
    assert "numpy and ported differ in loss , adam float64: beyond tolerance first at epoch 1." in words(
        section
    )


def test_the_largest_distance_leads_to_its_case():
    content = small()
    views = cases.views(content, plots.Plots())
    nearest = matrix.nearest(views)
    assert nearest["anchor"] == "case-1"
    assert nearest["one"]["used"] == max(one["used"] for one in content["comparisons"] if one["used"])
    content["comparisons"] = []
    assert matrix.nearest(cases.views(content, plots.Plots())) is None


def test_a_report_of_nothing_is_a_page():
    content = {
        **small(),
        "cases": [],
        "runs": [],
        "comparisons": [],
        "alarm": None,
        "verdict": "INCONCLUSIVE",
        "command": "",
    }
    shown = words(is_harmless(parsed(html.render(content))))
    for told_ in ("There are no cases.", "No figures of a self-test", "no command reproduces it"):
        assert told_ in shown
