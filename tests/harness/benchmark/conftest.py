"""No test here asserts a time."""

import pytest


@pytest.fixture(autouse=True)
def alone(beside_others):
    pass
