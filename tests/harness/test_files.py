"""Files are written whole or not at all."""

import os
import threading

import pytest

from lockstep.harness.documents.files import (
    FileError,
    writable_file,
    writable_folder,
    write_text,
)


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_a_file_is_replaced_with_ordinary_permissions(tmp_path, mask):
    path = tmp_path / "report.json"
    path.write_text("old")
    before = os.umask(mask)
    try:
        write_text(path, "new ∑\n")
    finally:
        left = os.umask(before)
    assert path.read_text(encoding="utf-8") == "new ∑\n"
    assert [item.name for item in tmp_path.iterdir()] == ["report.json"]
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask
    assert left == mask


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch):
    path = tmp_path / "report.json"
    path.write_text("old")

    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(FileError, match="No space left on device"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["report.json"]


def test_an_interrupted_write_leaves_nothing_beside_it(tmp_path, monkeypatch):
    def interrupted(self, mode):
        raise KeyboardInterrupt

    monkeypatch.setattr("pathlib.Path.chmod", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_text(tmp_path / "report.json", "new")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_one(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="the output folder cannot be written"):
        writable_folder(tmp_path / "file" / "below")
    with pytest.raises(FileError, match="name another path"):
        write_text(tmp_path / "none" / "report.json", "")


def test_folders_are_created(tmp_path):
    assert writable_folder(tmp_path / "a" / "b").is_dir()
    assert not list((tmp_path / "a" / "b").iterdir())


def test_a_folder_is_no_file_to_write(tmp_path):
    with pytest.raises(FileError, match="the output is a folder"):
        writable_file(tmp_path)
    writable_file(tmp_path / "new" / "report.json")
    assert not list((tmp_path / "new").iterdir())


def test_a_pipe_is_written_to_and_stays_one(tmp_path):
    """As /dev/null would be replaced by a file for everybody."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    read = []
    reader = threading.Thread(target=lambda: read.append(path.read_text()))
    reader.start()
    writable_file(path)
    write_text(path, "all of it")
    reader.join()
    assert read == ["all of it"]
    assert path.is_fifo()
