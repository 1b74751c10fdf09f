"""What tests of commands on a user's own code share."""

import sys

import pytest


@pytest.fixture
def mine(request, tmp_path, monkeypatch):
    """The folder in which the test module's SIDES are the user's module ``mine``."""
    (tmp_path / "mine.py").write_text(request.module.SIDES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    return tmp_path
