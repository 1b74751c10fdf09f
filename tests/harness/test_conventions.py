"""The table of conventions: what it measures, that its arguments do bring defaults together, and the page."""

import json
import re

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from lockstep.backends.ops import OPTIMIZERS
from lockstep.backends.problem import Clip, Layer, Optimizer
from lockstep.harness.documents.schema import load
from lockstep.harness.environment import (
    conventions,
)


@pytest.fixture(scope="module")
def content():
    return conventions.conventions()


def row(content, kind, name):
    (found,) = [one for one in content["conventions"] if (one["kind"], one["name"]) == (kind, name)]
    return found


def test_it_is_valid_and_json(content):
    Draft202012Validator(load("conventions")).validate(json.loads(json.dumps(content)))


def test_every_optimizer_and_every_convention_in_words_has_a_row(content):
    found = {(one["kind"], one["name"]) for one in content["conventions"]}
    assert {("optimizer", name) for name in OPTIMIZERS if name != "lion"} < found
    for kind, (table, _, _) in conventions.KINDS.items():
        for name, rule in table.items():
            assert ((kind, name) in found) == bool(rule.conventions or len(rule.presets) > 1)


def test_what_is_known_to_part_parts_and_what_agrees_is_0(content):
    """AdamW: 100 steps of η λ w with λ = 1e-2 against 1e-4; SGD: one and the same."""
    one = row(content, "optimizer", "adamw")
    assert one["differ"] == [{"argument": "weight_decay", "values": [1e-2, 1e-4]}]
    assert 0.5 < one["after"]["100"] / (100 * 1e-3 * (1e-2 - 1e-4)) < 2
    for name in ("sgd", "adam", "adamax", "adadelta"):
        assert set(row(content, "optimizer", name)["after"].values()) == {0.0}
    assert 1e-7 < row(content, "optimizer", "radam")["after"]["100"] < 1e-6
    assert row(content, "clip", "norm")["after"]["10"] > 0
    assert row(content, "function", "gelu")["differ"] == [
        {"argument": "approximate", "values": ["none", "tanh"]}
    ]
    assert row(content, "function", "abs")["after"] == {"10": None, "100": None}


def test_the_arguments_named_bring_them_together(content):
    """One framework's preset with the other's values of what differs is the other's preset."""
    makers = {"optimizer": Optimizer, "clip": Clip, "function": Layer}
    compared = 0
    for one in content["conventions"]:
        if one["differ"]:
            left, right = (
                conventions._members(one["kind"], one["name"], *one["frameworks"])[side] for side in (0, 1)
            )
            changes = {item["argument"]: item["values"][1] for item in one["differ"]}
            assert makers[one["kind"]](one["name"], **{**left.args, **changes}) == right
            compared += 1
    assert compared >= 8


def test_a_rate_is_that_of_the_first_framework():
    left, right = conventions._members("optimizer", "adafactor", "torch", "optax")
    assert left.args["learning_rate"] == right.args["learning_rate"] == 1e-2


FIGURE = re.compile(r"\b\d\.\de[+-]\d\d\b")


def test_the_page_is_up_to_date(content):
    """Word for word; figures to their two digits, the last of which may be the machine's."""
    page, now = conventions.PAGE.read_text(encoding="utf-8"), conventions.markdown(content)
    assert FIGURE.sub("#", page) == FIGURE.sub("#", now), "run `make conventions`"
    shown, measured = ([float(one) for one in FIGURE.findall(text)] for text in (page, now))
    np.testing.assert_allclose(shown, measured, rtol=0.1)
    assert len(shown) >= 18
