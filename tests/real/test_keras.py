"""Keras 3 on torch and on JAX, each in a process of its own: Keras has one backend a process."""

from importlib.util import find_spec

import pytest

import lockstep
from lockstep import Verdict
from lockstep.harness.adopt.remote import isolated
from tests.real import keras_model

pytestmark = pytest.mark.skipif(find_spec("keras") is None, reason="`make real` installs Keras")


def side(factory):
    return isolated(f"tests.real.keras_model:{factory}").trainer


def test_a_right_pair_agrees_and_is_mapped_by_itself():
    result = lockstep.verify_adopted([side("on_torch"), side("on_jax")], keras_model.batches())
    assert result.verdict is Verdict.AGREE, result.census()


def test_another_rate_is_named():
    result = lockstep.verify_adopted([side("on_jax"), side("wrong_rate")], keras_model.batches())
    assert result.verdict is Verdict.DIFFER
    assert result.cases[0].diagnoses[0].explanation.name == "learning rate"
