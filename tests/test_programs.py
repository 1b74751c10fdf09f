"""Compiled programs that are kept between runs: whole ones, of this processor, and not without bound."""

import os
import subprocess
import sys

import pytest

from tests import programs


@pytest.fixture
def folders(tmp_path):
    own, kept = tmp_path / "own", tmp_path / "kept"
    own.mkdir()
    return own, kept


def write(folder, **entries):
    folder.mkdir(exist_ok=True)
    for name, text in entries.items():
        (folder / f"{name}-cache").write_text(text)


def names(folder):
    return sorted(one.name.removesuffix("-cache") for one in folder.iterdir())


def test_what_one_run_compiled_the_next_one_has(folders):
    own, kept = folders
    write(own, a="program")
    programs.give_back(own, kept)
    (own / "a-cache").unlink()
    programs.borrow(kept, own)
    assert (own / "a-cache").read_text() == "program"


def test_half_a_program_is_not_kept_and_what_is_kept_stays(folders):
    own, kept = folders
    write(kept, a="before")
    write(own, a="after", empty="")
    programs.give_back(own, kept)
    assert names(kept) == ["a"]
    assert (kept / "a-cache").read_text() == "before"


def test_the_oldest_go_where_there_are_too_many(folders):
    _, kept = folders
    write(kept, old="1234", new="1234", newest="1234")
    for age, name in enumerate(("newest", "new", "old")):
        os.utime(kept / f"{name}-cache", (1e9 - age, 1e9 - age))
    programs.prune(kept, 9)
    assert names(kept) == ["new", "newest"]


def test_only_a_run_that_came_to_its_end_keeps_its_programs(tmp_path, monkeypatch):
    for name in list(os.environ):
        if name.startswith("JAX_"):
            monkeypatch.setenv(name, os.environ[name])
    cleanups = []

    class Config:
        stash = pytest.Stash()
        add_cleanup = staticmethod(cleanups.append)

    programs.keep_programs(Config, tmp_path)
    own, _ = Config.stash[programs.OWN]
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == str(own)
    write(own, a="program")
    programs.keep_new_ones(Config, pytest.ExitCode.INTERRUPTED)
    assert not (tmp_path / programs.processor()).exists()
    programs.keep_new_ones(Config, pytest.ExitCode.TESTS_FAILED)
    assert names(tmp_path / programs.processor()) == ["a"]
    (cleanup,) = cleanups
    cleanup()
    assert not own.exists()


def compiled(folder):
    """The names of what a process of its own keeps in a folder."""
    program = "import jax; jax.jit(lambda x: x * 3 + 1)(1.0)"
    variables = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(folder)}
    subprocess.run([sys.executable, "-c", program], env=variables, check=True)
    return names(folder)


def test_the_key_of_a_program_does_not_know_its_folder(tmp_path):
    """XLA's own caches would be named in the options, which are part of the key: no run would find another's programs."""
    first, second = (compiled(tmp_path / name) for name in ("first", "second"))
    assert first == second != []
