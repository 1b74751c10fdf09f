"""A Keras model's `train_on_batch` as a whole step, on torch and on JAX, each in a process of its own."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(importlib.util.find_spec("keras") is None, reason="Keras is not installed")


@pytest.fixture(scope="module", params=["torch", "jax"])
def found(request):
    environment = {**os.environ, "KERAS_BACKEND": request.param, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.harness.adopted.keras_steps"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_model_trains_as_the_bare_loop_resumes_and_stays_as_it_is(found):
    assert found["alone"] == {"losses": True, "weights": True, "untouched": True, "kinds": ["momentum"]}


def test_a_model_agrees_with_itself_with_and_without_dropout(found):
    assert found["same"]["verdict"] == "AGREE"
    assert found["dropout"]["verdict"] == "AGREE"


def test_another_learning_rate_and_another_average_are_located_and_named(found):
    assert found["rate"]["verdict"] == found["average"]["verdict"] == "DIFFER"
    assert found["rate"]["explanation"] == "learning rate"
    assert found["rate"]["first"][0] == 0
    assert found["average"]["explanation"] == "running average"
    assert found["average"]["first"][1].startswith("buffers/")
