"""What the tests of recorded trainers share."""

import pytest

from tests.harness.adopted.conftest import one_thread  # noqa: F401


@pytest.fixture
def path(tmp_path):
    return tmp_path / "it.lockstep.npz"
