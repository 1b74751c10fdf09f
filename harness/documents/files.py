"""Files written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from lockstep.backends.errors import LockstepError


class FileError(LockstepError):
    """A file or folder cannot be read or written."""


def writable_folder(folder: Path) -> Path:
    """The folder, created if need be, once a file could be written in it.

    Raises:
        FileError: it is not a folder, or cannot be created or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise FileError(
            "the output folder cannot be written", f"{folder}: {error.strerror}", "name another folder"
        ) from error
    return folder


def writable_file(path: Path) -> None:
    """Refuses a path that cannot be written as a file; creates its folder.

    Raises:
        FileError: it is a folder, or its folder cannot be created or written.
    """
    if path.is_dir():
        raise FileError("the output is a folder", str(path), "name a file in it")
    if not _is_device(path):
        writable_folder(path.absolute().parent)


def write_text(path: Path, text: str) -> None:
    """Write a text file, in UTF-8, as `write_bytes` does."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Write a file under a temporary name in its folder, then rename it, so that a reader never sees half of it. A pipe or a device is written to.

    Raises:
        FileError: it cannot be written; what was there before is untouched.
    """
    temporary = None
    try:
        if _is_device(path):
            path.write_bytes(content)
            return
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            file.write(content)
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        raise FileError(
            "the file cannot be written", f"{path}: {error.strerror}", "name another path"
        ) from error
    finally:  # after an interrupt too; once renamed it is no longer there
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def append_text(path: Path, text: str) -> None:
    """Add to the end of a text file.

    Raises:
        FileError: it cannot be written.
    """
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise FileError(
            "the file cannot be written", f"{path}: {error.strerror}", "name another path"
        ) from error


def _is_device(path: Path) -> bool:
    """Whether something is there that is neither a file nor a folder: /dev/null, a named pipe, a shell's >(...)."""
    return path.exists() and not path.is_file() and not path.is_dir()


def _umask() -> int:
    """The process's umask; it can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
