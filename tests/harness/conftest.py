"""What tests of commands on a user's own code share."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def mine(request, tmp_path, monkeypatch):
    """The folder in which the test module's SIDES are the user's module ``mine``."""
    (tmp_path / "mine.py").write_text(request.module.SIDES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # a process of its own imports `tests` too
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    return tmp_path
