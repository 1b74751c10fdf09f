"""Models that exist in the world, in two frameworks: ported right they agree, ported wrong the mistake is named."""

import functools
import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from lockstep.harness.core.verdict import Verdict
from lockstep.harness.mapping.mapping import Mapping
from lockstep.harness.matching.find import find_mapping
from lockstep.harness.verification.adopted import verify
from tests.harness.adopted.conftest import one_thread  # noqa: F401

FOUND = {
    "mlp": ("forward/2", None),  # Haiku's gelu is no module: what it gives first shows in what is made of it
    "convnet": (
        "buffers/1.running_var",
        "1.running_var divides the squares of 180 numbers by n, not by n − 1 "
        "(a known convention: torch keeps the variance of n − 1, Flax and Haiku that of n)",
    ),
    "transformer": ("forward/norm1", None),
    "lstm": ("forward/lstm", None),
}
"""Of each pair: the stage at which the wrong port parts in the first step, and what it is said to do, where that is told."""


UNSHOWN = {"mlp": "does not show what stands between: 1"}
"""Where the mistake is in a module that the port has as a function: the place of it is told all the same."""


def _pieces(left, stop, rights, axis=0):
    """The links of a fused array of the left side: its equal parts, and where each stands on the right."""
    size = stop // len(rights)
    cuts = [((0, None),) * axis + ((at, at + size),) for at in range(0, stop, size)]
    return {(left, cut, *right) for cut, right in zip(cuts, rights, strict=True)}


def _gates(left, right, *before):
    """torch has i, f, g, o; the port has i, g, f, o."""
    places = (0, 5), (10, 15), (5, 10), (15, 20)
    return _pieces(left, 20, [(right, (*before, place)) for place in places])


MAPPED = {
    "mlp": {
        ("0.weight", (), "linear/w", ()),
        ("0.bias", (), "linear/b", ()),
        ("2.weight", (), "linear_1/w", ()),
        ("2.bias", (), "linear_1/b", ()),
    },
    "convnet": {
        ("0.weight", (), "Conv_0/kernel", ()),
        ("1.weight", (), "BatchNorm_0/scale", ()),
        ("1.bias", (), "BatchNorm_0/bias", ()),
        ("1.running_mean", (), "BatchNorm_0/mean", ()),
        ("1.running_var", (), "BatchNorm_0/var", ()),
        ("5.weight", (), "Dense_0/kernel", ()),
        ("5.bias", (), "Dense_0/bias", ()),
    },
    "transformer": {
        *_pieces(
            "attention.in_proj_weight",
            24,
            [(f"attention/{one}/kernel", ()) for one in ("query", "key", "value")],
        ),
        *_pieces(
            "attention.in_proj_bias", 24, [(f"attention/{one}/bias", ()) for one in ("query", "key", "value")]
        ),
        ("attention.out_proj.weight", (), "attention/out/kernel", ()),
        ("attention.out_proj.bias", (), "attention/out/bias", ()),
        *((f"{one}.weight", (), f"{one}/scale", ()) for one in ("norm1", "norm2")),
        *((f"{one}.weight", (), f"{one}/kernel", ()) for one in ("up", "down")),
        *((f"{one}.bias", (), f"{one}/bias", ()) for one in ("norm1", "norm2", "up", "down")),
    },
    "lstm": {
        *_gates("lstm.weight_ih_l0", "lstm/w_i", (0, 3)),
        *_gates("lstm.weight_hh_l0", "lstm/w_h", (0, 5)),
        *_gates("lstm.bias_ih_l0", "lstm/b_i"),
        *_gates("lstm.bias_hh_l0", "lstm/b_h"),
        ("head.weight", (), "head/w", ()),
        ("head.bias", (), "head/b", ()),
    },
}
"""Every link of each pair: (left, its slice, right, its slice)."""


@dataclass(frozen=True)
class Pair:
    """One pair's trainers and batches, which the tests share, and the mapping that was found."""

    name: str
    module: Any
    left: Any
    right: Any
    mapping: Mapping


def plain(*names):
    """Every pair; those that are not named where many alike are tested."""
    return [name if name in names else pytest.param(name, marks=pytest.mark.sweep) for name in FOUND]


@functools.cache
def pair_of(name):
    """Not a fixture of the module: in a random order that would be made anew at each change of its parameter."""
    module = importlib.import_module(f"examples.pairs.{name}")
    left, right = module.original(), module.port()
    return Pair(name, module, left, right, find_mapping(left, right, module.batches()))


@pytest.fixture
def pair(request, one_thread):  # noqa: F811
    return pair_of(request.param)


@pytest.mark.parametrize("pair", FOUND, indirect=True)
def test_the_whole_mapping_is_found_and_nothing_else(pair):
    assert pair.mapping.left_over == {}
    links = {(one.left, one.left_slice, one.right, one.right_slice) for one in pair.mapping.links}
    assert links == MAPPED[pair.name]


@pytest.mark.parametrize("pair", plain("mlp", "convnet", "lstm"), indirect=True)
def test_a_right_port_agrees(pair):
    result = verify([pair.left, pair.right], pair.module.batches(), mapping=pair.mapping, steps=5)
    assert result.verdict is Verdict.AGREE, result.census()
    assert not any(np.isnan(run.trace.losses).any() for run in result.cases[0].runs)


@pytest.mark.parametrize("pair", plain("mlp", "convnet"), indirect=True)
def test_a_wrong_port_is_found_and_named(pair):
    """The mapping is that of the right port."""
    sides = [pair.left, pair.module.wrong_port()]
    result = verify(sides, pair.module.batches(), mapping=pair.mapping, steps=3)
    assert result.verdict is Verdict.DIFFER
    (diagnosis,) = result.cases[0].diagnoses
    stage, does = FOUND[pair.name]
    assert (diagnosis.first.step, diagnosis.first.name) == (0, stage), diagnosis.sentence
    unshown = UNSHOWN.get(pair.name, "its inputs agree")
    assert unshown in diagnosis.sentence or stage.startswith("buffers"), diagnosis.sentence
    earlier = diagnosis.ledger.rows[: diagnosis.ledger.rows.index(diagnosis.first)]
    assert {row.verdict for row in earlier} <= {Verdict.AGREE, Verdict.SKIPPED}
    assert (diagnosis.explanation.description if does else diagnosis.explanation) == (
        f"keeps another running average: {does}" if does else None
    )
