"""Archives: zip files of stored members and their SHA-256, that give the same bytes for the same content.

What is read may come from anywhere. Nothing is compressed, so that no member is larger than the file that holds it; the
members fill the file without a gap, so that nothing is hidden between them; and how many there are is looked at before the
directory is read.
"""

from __future__ import annotations

import hashlib
import io
import re
import stat
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from lockstep.backends.errors import LockstepError
from lockstep.harness.documents.shortening import shortened

SUMS = "SHA256SUMS"
"""The member with the hashes of all others, in the form that ``sha256sum -c`` reads."""

MOST_MEMBERS = 10_000
LONGEST_NAME = 255
LARGEST = (1 << 32) - 1
"""Bytes that a zip without its 64-bit extension can hold."""

_END = struct.Struct("<4s4H2LH")
_ENTRY = 46
"""Bytes of a directory's entry before its name."""
_LOCAL = 30
"""Bytes before a member's name."""
_EPOCH = (1980, 1, 1, 0, 0, 0)
_NAME = re.compile(r"[A-Za-z0-9._~%-]+(/[A-Za-z0-9._~%-]+)*\Z")


class BundleError(LockstepError):
    """A bundle cannot be written, or what was read is none, is damaged, or is not to be trusted."""


def pack(members: Mapping[str, bytes]) -> bytes:
    """The archive of these members, in their order, and of their hashes.

    Raises:
        BundleError: there are too many, or a name or the whole is too long.
    """
    if len(members) >= MOST_MEMBERS:
        raise BundleError("too many arrays", str(len(members)), f"record less than {MOST_MEMBERS - 1}")
    sums = "".join(f"{_sha256(content)}  {name}\n" for name, content in members.items()).encode()
    if sum(map(len, members.values())) + 4 * len(sums) > LARGEST:
        raise BundleError("a bundle holds at most 4 GB", f"{len(members)} arrays", "record less")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for name, content in {**members, SUMS: sums}.items():
            _check_name(name)
            info = zipfile.ZipInfo(name, _EPOCH)
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            info.create_system = 3  # Unix, wherever it is written, for the bytes to be the same
            archive.writestr(info, content)
    return packed.getvalue()


def unpack(path: Path) -> dict[str, bytes]:
    """The members of an archive but its hashes, each as it was when it was written.

    Raises:
        BundleError: it cannot be read, or is not what `pack` writes.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise BundleError("the bundle is not a file", "a folder, a pipe or a device", "name a file")
        with path.open("rb") as file:
            return _unpack(file)
    except OSError as error:
        raise BundleError(
            "the bundle cannot be read", f"{path}: {error.strerror or error}", "check the path"
        ) from error
    except BundleError as error:
        raise BundleError(f"{path}: {error.what}", error.got, error.fix) from error


def _unpack(file: BinaryIO) -> dict[str, bytes]:
    size = file.seek(0, io.SEEK_END)
    directory = _check_end(file, size)
    try:
        archive = zipfile.ZipFile(file)
    except Exception as error:  # BadZipFile, struct.error, UnicodeDecodeError, and more
        raise _damaged(str(error)) from error
    with archive:
        _check_entries(archive.infolist(), directory)
        members = {one.filename: _content(archive, one) for one in archive.infolist()}
    _check_sums(members)
    return members


def _check_end(file: BinaryIO, size: int) -> int:
    """Where the directory begins, once the end of the file says that it can be read."""
    file.seek(0)
    if file.read(4) != b"PK\x03\x04":
        raise BundleError("it is not a bundle", "another kind of file", "name what `lockstep record` wrote")
    if size > LARGEST:
        raise BundleError("it is larger than a bundle can be", f"{size} bytes", "record less")
    if size < 2 * _END.size:
        raise _truncated(f"{size} bytes")
    file.seek(size - 2 * _END.size)
    tail = file.read()
    magic, disk, first_disk, here, count, length, start, comment = _END.unpack(tail[-_END.size :])
    if magic != b"PK\x05\x06" or comment:
        raise _truncated("no directory at its end")
    if (disk, first_disk) != (0, 0) or here != count or b"PK\x06\x07" in tail[: _END.size]:
        raise BundleError(
            "it is no plain zip", "one of several volumes, or of 64 bits", "record it with `lockstep record`"
        )
    if count > MOST_MEMBERS or length > count * (_ENTRY + LONGEST_NAME):
        raise BundleError(
            "it has more members, or longer names, than a bundle can have",
            f"{count} members, {length} bytes of names",
            f"at most {MOST_MEMBERS} members of {LONGEST_NAME} characters are read",
        )
    if start + length != size - _END.size:
        raise _truncated(f"{size} bytes where its directory says {start + length + _END.size}")
    return int(start)


def _check_entries(entries: list[zipfile.ZipInfo], directory: int) -> None:
    """Every entry is a plain, stored file of its own, and the next begins where it ends."""
    if SUMS not in (one.filename for one in entries):
        raise BundleError("it is not a bundle", f"a zip without {SUMS}", "name what `lockstep record` wrote")
    names = set()
    position = 0
    for one in entries:
        _check_entry(one)
        if one.filename in names:
            raise BundleError("it has two members of one name", repr(one.filename), "record it again")
        if one.header_offset != position:
            raise BundleError(
                "its members overlap, or leave a gap", shortened(one.filename), "record it again"
            )
        names.add(one.filename)
        position += _LOCAL + len(one.filename) + one.file_size
    if position != directory:
        raise BundleError("its members do not fill it", f"{position} of {directory} bytes", "record it again")


def _check_entry(one: zipfile.ZipInfo) -> None:
    _check_name(one.orig_filename)
    kind = stat.S_IFMT(one.external_attr >> 16)
    for fault, what in (
        (one.flag_bits & 0x1, "encrypted"),
        (one.compress_type != zipfile.ZIP_STORED or one.compress_size != one.file_size, "compressed"),
        (one.flag_bits, "streamed, or in another encoding"),
        (kind != stat.S_IFREG, "not a plain file, but a link or a folder"),
        (one.extra or one.comment, "annotated"),
    ):
        if fault:
            raise BundleError(
                f"a member is {what}", shortened(one.filename), "leave the file as `lockstep record` wrote it"
            )


def _check_name(name: str) -> None:
    if len(name) > LONGEST_NAME:
        raise BundleError("a member's name is too long", shortened(name), f"use {LONGEST_NAME} characters")
    if not _NAME.match(name) or {".", ".."} & set(name.split("/")):
        raise BundleError(
            "a member's name leads out of the bundle, or is no name",
            shortened(name),
            "use letters, digits and . _ ~ % - between slashes",
        )


def _content(archive: zipfile.ZipFile, one: zipfile.ZipInfo) -> bytes:
    try:
        return archive.read(one)
    except Exception as error:  # BadZipFile of a wrong checksum or header, EOFError, and more
        raise _damaged(f"{one.filename}: {error}") from error


def _check_sums(members: dict[str, bytes]) -> None:
    """Every member is what its hash says; the hashes are taken out."""
    written = members.pop(SUMS)
    expected = "".join(f"{_sha256(content)}  {name}\n" for name, content in members.items()).encode()
    if written != expected:
        pairs = zip(written.splitlines(), expected.splitlines(), strict=False)
        wrong = next((ours.decode()[66:] for theirs, ours in pairs if theirs != ours), "its list of members")
        raise BundleError(
            "a member was altered since it was recorded",
            f"{wrong}: another SHA-256 than {SUMS} says",
            "fetch the bundle again, or record it again",
        )


def _truncated(got: str) -> BundleError:
    return BundleError("it is truncated, or was added to", got, "fetch the bundle again")


def _damaged(got: str) -> BundleError:
    return BundleError("it is damaged", shortened(got), "fetch the bundle again")


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
