"""These tests time nothing that is asserted, so they may run beside others, which a benchmark refuses."""

import pytest


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
