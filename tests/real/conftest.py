"""Packages that people use, in tiny configurations: `make real` installs and runs them."""

import jax
import pytest


def pytest_collection_modifyitems(items):
    for item in items:
        if "tests/real/" in item.path.as_posix():
            item.add_marker(pytest.mark.real)
            item.add_marker(pytest.mark.filterwarnings("ignore"))  # their warnings are not ours to mend


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield
