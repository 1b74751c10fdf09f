"""A bundle: what was trained, where, and what it left behind, in one file that goes to other machines and versions.

The file is an archive (`lockstep.harness.bundle.archive`) of ``bundle.json``, according to the published schema ``bundle.schema.json``, and of
arrays, one .npy file each:

``problems/<n>/x``, ``y`` and ``initial/<parameter>``, in float64, unless they were left out;
``task/batches``, one SHA-256 a step, and ``task/start/<field>`` where a user's own code was trained, which is not in the bundle;
``runs/<n>/losses``; ``runs/<n>/final/<field>``, the state after the last step; ``runs/<n>/evaluation`` where the model has two
modes; ``runs/<n>/parameters/<k>/<parameter>`` after k steps; ``runs/<n>/stages/<k>/<stage>`` of step k, counted from 0, with the
whole state that it started from. Characters of a name that are not letters, digits or ``_.-~/`` are percent-encoded.
"""

from __future__ import annotations

from pathlib import Path

from lockstep.backends.errors import LockstepError
from lockstep.harness.bundle.archive import LARGEST, BundleError, unpack
from lockstep.harness.bundle.content import Bundle, Recorded, RecordedProblem, RecordedTask
from lockstep.harness.bundle.reading import loaded
from lockstep.harness.bundle.writing import to_bytes
from lockstep.harness.documents.files import write_bytes

__all__ = [
    "Bundle",
    "BundleError",
    "Recorded",
    "RecordedProblem",
    "RecordedTask",
    "load",
    "save",
    "to_bytes",
]


def save(path: Path | str, bundle: Bundle, max_size: int = LARGEST) -> int:
    """Write a bundle, whole or not at all; the bytes that it takes.

    Raises:
        BundleError: it would be larger than `max_size`, or holds what a bundle cannot.
        FileError: it cannot be written.
    """
    packed = to_bytes(bundle)
    if len(packed) > max_size:
        raise BundleError(
            "the bundle is larger than was allowed",
            f"{len(packed)} of {max_size} bytes",
            "record less, or allow more with --max-size",
        )
    write_bytes(Path(path), packed)
    return len(packed)


def load(path: Path | str) -> Bundle:
    """Read a bundle, from wherever it comes: nothing in it is executed, and nothing larger than the file is allocated.

    Raises:
        BundleError: it cannot be read, is none, is damaged, was altered, or is of a newer format.
    """
    members = unpack(Path(path))
    try:
        return loaded(members)
    except LockstepError as error:
        raise BundleError(f"{path}: {error.what}", error.got, error.fix) from error
