"""Models that exist in the world, in two frameworks: ported right they agree, ported wrong the mistake is named."""

import importlib

import pytest

from harness.adopted import find_mapping, verify
from harness.verdict import Verdict

FOUND = {
    "mlp": ("step 0, in the output of 2", "gelu's default"),
    "convnet": ("in the buffer 1.running_var", "its own batch norm"),
    "transformer": ("step 0, in the output of norm1", "LayerNorm's default"),
    "lstm": ("step 0, in the output of output", "forget bias"),
}
"""Of each pair: where the wrong port parts first, and what it is called."""


@pytest.fixture(params=FOUND)
def pair(request):
    return request.param, importlib.import_module(f"examples.pairs.{request.param}")


def test_the_whole_mapping_is_found(pair):
    _, module = pair
    left, right = module.original(), module.port()
    mapping = find_mapping(left, right, module.batches())
    assert mapping.left_over == {}
    read = left.read(left.init())
    assert {link.left for link in mapping.links} == {*read.parameters, *read.buffers}


def test_a_right_port_agrees(pair):
    _, module = pair
    result = verify([module.original(), module.port()], module.batches())
    assert result.verdict is Verdict.AGREE, result.census()


def test_a_wrong_port_is_found_and_named(pair):
    """The mapping is that of the right port: where two biases do the same, only a right model tells which is which."""
    name, module = pair
    left = module.original()
    mapping = find_mapping(left, module.port(), module.batches())
    result = verify([left, module.wrong_port()], module.batches(), mapping=mapping)
    assert result.verdict is Verdict.DIFFER
    (diagnosis,) = result.cases[0].diagnoses
    where, who = FOUND[name]
    assert where in diagnosis.sentence
    assert who in diagnosis.sentence
