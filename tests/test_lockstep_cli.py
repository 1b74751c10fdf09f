"""The entry point, and packages of other people that have our names."""

import os
import subprocess
import sys
from pathlib import Path

import lockstep_cli

ROOT = Path(lockstep_cli.__file__).parent


def test_our_own_packages_shadow_nothing():
    assert lockstep_cli.shadows() == []


def test_a_package_named_backends_elsewhere_is_said_with_both_paths(tmp_path):
    for name in lockstep_cli.PACKAGES:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('not ours')")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, ROOT / "lockstep_cli.py", "doctor"],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
    )
    # A script's own folder comes first on the path, so here ours is found; as a module the other one is.
    assert done.returncode == 0, done.stderr
    done = subprocess.run(
        [sys.executable, "-m", "lockstep_cli", "doctor"],
        capture_output=True,
        text=True,
        env={**environment, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert "another package shadows Lockstep's" in done.stderr
    for name in lockstep_cli.PACKAGES:
        assert f"{name}: Python finds {(tmp_path / name).resolve()}, ours is {ROOT / name}" in done.stderr
    assert "fix: run from another folder" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_module_says_it_too_where_only_one_is_shadowed(tmp_path):
    (tmp_path / "backends").mkdir()
    (tmp_path / "backends" / "__init__.py").write_text("raise RuntimeError('not ours')")
    done = subprocess.run(
        [sys.executable, "-m", "harness", "list"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "another package shadows Lockstep's\n  got: backends: Python finds" in done.stderr
    assert "harness: Python finds" not in done.stderr


def test_a_folder_without_code_is_told_apart(monkeypatch):
    monkeypatch.setattr(lockstep_cli, "find_spec", lambda name: None)
    assert "a folder without code" in lockstep_cli.shadows()[0]
