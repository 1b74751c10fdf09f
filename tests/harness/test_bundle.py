"""Bundles on disk: what goes in comes out, and whatever else is refused with its reason, before anything is made of it."""

import dataclasses
import hashlib
import io
import json
import math
import os
import pickle
import stat
import struct
import tempfile
import time
import tracemalloc
import warnings
import zipfile
from contextlib import suppress
from functools import cache
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from lockstep import record_adopted, replay_adopted
from lockstep.backends import numpy_vjp
from lockstep.backends.errors import LockstepError
from lockstep.backends.problem import Batching, Layer
from lockstep.harness import bundle
from lockstep.harness.bundle import BundleError, archive, npy
from lockstep.harness.bundle.content import DOCUMENT
from lockstep.harness.bundle.recording import record
from lockstep.harness.bundle.replaying import replay
from lockstep.harness.documents import strict_json
from lockstep.harness.documents.schema import load as schema
from lockstep.harness.environment.manifest import manifest
from lockstep.harness.problems import catalogue
from lockstep.harness.problems.document import build, describe
from lockstep.harness.report import document as report
from lockstep.harness.report import junit, markdown
from tests.conftest import square_problem

# A failing file is shown, and is long.
pytestmark = pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisWarning")

TOUCHED = Path(tempfile.gettempdir()) / "lockstep-bundle-was-executed"


class Hostile:
    """A pickle of it would make a file."""

    def __reduce__(self):
        return os.mkdir, (str(TOUCHED),)


@cache
def valid():
    """The bytes of a small bundle that has everything."""
    problem = square_problem(
        name="odd / näme ..",
        batching=Batching(5, shuffle=1),
        model=(
            Layer("linear", size=3),
            Layer("dropout", rate=0.2, seed=1),
            Layer("dot", size=2),
            Layer("add"),
        ),
        initial={
            "0.linear/w": np.eye(3),
            "0.linear/b": np.ones(3),
            "2.dot/w": np.ones((3, 2)),
            "3.add/b": np.zeros(2),
        },
        epochs=2,
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "one.lockstep.npz"
        record(path, problem, backends=["numpy"], parameters_at=[0, 3, "last"], stages_at=[2])
        return path.read_bytes()


def side():
    """A trainer of somebody's own, and its batches."""
    chain = [(numpy_vjp.dot, "w"), (numpy_vjp.add, "b ä")]
    params = {"w": np.ones((2, 1)), "b ä": np.zeros(1)}
    trainer = numpy_vjp.adopt(chain, numpy_vjp.mean_squared_loss, numpy_vjp.sgd(0.1), params)
    return trainer, [(np.full((3, 2), float(one)), np.ones((3, 1))) for one in range(4)]


@cache
def taken():
    """The bytes of a bundle of that trainer, which has everything."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "one.lockstep.npz"
        record_adopted(path, *side(), parameters_at=[0, 2, "last"], stages_at=[1])
        return path.read_bytes()


@pytest.fixture
def write(tmp_path):
    """Writes bytes to a file and gives its path."""

    def write(content):
        path = tmp_path / "it.lockstep.npz"
        path.write_bytes(content)
        return path

    return write


def members(content=None):
    """What a bundle's archive holds but for its hashes."""
    with zipfile.ZipFile(io.BytesIO(content or valid())) as zipped:
        return {name: zipped.read(name) for name in zipped.namelist() if name != archive.SUMS}


def with_document(change, content=None):
    """The bundle with `change` made of its document, and its hashes made anew."""
    answer = json.loads(members(content)[DOCUMENT])
    change(answer)
    return archive.pack({**members(content), DOCUMENT: json.dumps(answer).encode()})


def with_member(name, array, content=None):
    return archive.pack({**members(content), name: array})


def zipped(entries, **changes):
    """A zip of (name, content) pairs that no check of ours has seen; `changes` are made of each entry."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as out, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that are there already
        for name, content in entries:
            info = zipfile.ZipInfo(name)
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            for key, value in changes.items():
                setattr(info, key, value)
            out.writestr(info, content)
    return file.getvalue()


def all_of(content=None):
    """The pairs of a bundle, its hashes among them."""
    with zipfile.ZipFile(io.BytesIO(content or valid())) as out:
        return [(name, out.read(name)) for name in out.namelist()]


def header(text, data=b""):
    """A .npy file of this header."""
    padded = text.encode() + b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(padded)) + padded + data


def saved(array, **options):
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


LOSSES = "runs/0/losses.npy"


def test_a_bundle_is_read_as_it_was_written(write):
    read = bundle.load(write(valid()))
    assert bundle.to_bytes(read) == valid()
    assert [one.run.dtype for one in read.runs] == ["float64", "float32"]
    one = read.runs[1]
    assert one.run.problem == "odd / näme .."
    assert one.run.trace.losses.dtype == np.float32
    assert len(one.run.trace.losses) == read.problems[0].problem.steps == 6
    assert sorted(one.parameters) == [0, 3, 6]
    assert one.stages[2]["forward/0.linear"].shape == (2, 3)
    assert not any(name.startswith("batch/") for name in one.stages[2])


def test_other_tools_read_it(write, tmp_path):
    path = write(valid())
    assert np.load(path)["runs/0/losses"].shape == (6,)
    with zipfile.ZipFile(path) as zipped:
        sums = dict(line.split("  ")[::-1] for line in zipped.read(archive.SUMS).decode().splitlines())
        assert {name: hashlib.sha256(zipped.read(name)).hexdigest() for name in sums} == sums
        assert {*sums, archive.SUMS} == set(zipped.namelist())
    for content in (valid(), taken()):
        Draft202012Validator(schema("bundle")).validate(json.loads(members(content)[DOCUMENT]))


@pytest.mark.parametrize("name", catalogue())
def test_a_problem_survives_its_document(name):
    problem = catalogue()[name].make()
    answer = json.loads(json.dumps(describe(problem), allow_nan=False))
    assert describe(build(answer, problem.x, problem.y, problem.initial)) == answer
    Draft202012Validator(schema("problem")).validate({**answer, "data": {"x": "x.npy", "y": "y.npy"}})


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(6, dtype=">f8"),
        np.float32([np.nan, np.inf, -0.0]),
        np.asarray(7),
        np.zeros((0, 3)),
        np.float16([1.5]),
    ],
    ids=["plain", "fortran", "big", "special", "scalar", "empty", "half"],
)
def test_arrays_survive_to_the_bit(array):
    read = npy.decode("it", npy.encode("it", array))
    assert read.dtype == array.dtype.newbyteorder("=")
    assert read.shape == array.shape
    assert read.tobytes() == array.astype(read.dtype).tobytes()


def test_bfloat16_survives(write):
    halves = np.asarray([1.0, -3.1415927, 1e30, np.nan], dtype=ml_dtypes.bfloat16)
    read = npy.as_bfloat16(npy.decode("it", npy.encode("it", halves)))
    assert read.dtype == halves.dtype
    assert read.tobytes() == halves.tobytes()
    held = bundle.load(write(valid()))
    run = held.runs[0]
    parameters = {step: {"0.linear/w": halves} for step in run.parameters}
    changed = dataclasses.replace(
        held, runs=(dataclasses.replace(run, parameters=parameters), *held.runs[1:])
    )
    found = bundle.load(write(bundle.to_bytes(changed))).runs[0].parameters[3]["0.linear/w"]
    assert found.dtype == halves.dtype
    assert found.tobytes() == halves.tobytes()


def test_what_a_bundle_cannot_hold_is_not_written(write):
    with pytest.raises(BundleError, match="its dtype cannot be recorded"):
        npy.encode("it", np.asarray([Hostile()]))
    with pytest.raises(BundleError, match="too many arrays"):
        archive.pack({str(one): b"" for one in range(archive.MOST_MEMBERS)})
    with pytest.raises(BundleError, match="leads out of the bundle"):
        archive.pack({"../it": b""})


def test_a_bundle_is_written_whole_or_not_at_all(tmp_path, monkeypatch, write):
    path = write(valid())
    held = bundle.load(path)
    with pytest.raises(BundleError, match="larger than was allowed"):
        bundle.save(path, held, max_size=100)

    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(bundle.BundleError.__mro__[1], match="No space left on device"):
        bundle.save(path, held)
    assert path.read_bytes() == valid()
    assert [item.name for item in tmp_path.iterdir()] == [path.name]


def end(count, length, start):
    return struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count, count, length, start, 0)


def million(wide):
    """A directory of a million entries, in the 64-bit extension or behind an end that counts fewer."""
    local = zipped([("a", b"")])[:31]
    entry = zipped([("a", b"")])[31:-22]
    directory = entry * 1_000_000
    if not wide:
        return local + directory + end(1, len(directory), 31)
    big = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 10**6, 10**6, len(directory), 31)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, 31 + len(directory), 1)
    return local + directory + big + locator + end(0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF)


def hidden_million():
    """The same, the extension hidden in what the end calls the directory."""
    content = million(wide=True)
    return content[:-22] + end(10_000, 56 + 20, len(content) - 22 - 76)


def altered(rehashed):
    """One loss is another number."""
    pairs = dict(all_of())
    changed = bytearray(pairs[LOSSES])
    changed[-1] ^= 1
    return (
        archive.pack({**members(), LOSSES: bytes(changed)})
        if rehashed
        else zipped({**pairs, LOSSES: bytes(changed)}.items())
    )


def overlapping():
    """Two entries of one content: the quine of a bomb that needs no compression."""
    content = bytearray(valid())
    start = struct.unpack_from("<L", content, len(content) - 6)[0]
    second = content.index(b"PK\x01\x02", start + 4)
    content[second + 42 : second + 46] = struct.pack("<L", 0)
    return bytes(content)


def flipped():
    """One bit of a loss, and nothing else."""
    content = bytearray(valid())
    content[content.index(b"NUMPY", content.index(LOSSES.encode())) + 125] ^= 1
    return bytes(content)


def document(key, value):
    return lambda: with_document(lambda answer: answer.update({key: value}))


def problem(key, value):
    return lambda: with_document(lambda answer: answer["problems"][0]["document"].update({key: value}))


def task(key, value):
    return lambda: with_document(lambda answer: answer["problems"][0]["task"].update({key: value}), taken())


def of_task(name, array):
    return lambda: with_member(name, saved(array), taken())


def run(key, value):
    return lambda: with_document(lambda answer: answer["runs"][0].update({key: value}))


def text(content):
    return lambda: with_member(DOCUMENT, content)


def losses(content):
    return lambda: with_member(LOSSES, content() if callable(content) else content)


def without(name):
    return lambda: archive.pack(without_member(valid(), name))


def without_member(content, name):
    return {key: value for key, value in members(content).items() if key != name}


NUMBERS = np.arange(6.0).tobytes()
FIELDS = "{{'descr': {}, 'fortran_order': {}, 'shape': {}, }}"
REFUSED = {
    # not a bundle at all
    "empty": (lambda: b"", "it is not a bundle"),
    "text": (lambda: b"not a bundle\n" * 100, "another kind of file"),
    "a pickle": (lambda: pickle.dumps(Hostile()), "another kind of file"),
    "an array": (lambda: saved(np.ones(3)), "another kind of file"),
    "another zip": (lambda: zipped([("readme", b"hello")]), "a zip without SHA256SUMS"),
    "an npz": (lambda: npz(losses=np.ones(6)), "a zip without SHA256SUMS"),
    "no document": (without(DOCUMENT), f"no {DOCUMENT}"),
    "another document": (document("format", "other"), "of something else"),
    "a list": (text(b"[]"), "of something else"),
    "newer": (document("schema_version", 2), "a newer Lockstep wrote it"),
    "older": (document("schema_version", 0), "schema_version: is not valid"),
    # damaged
    **{
        f"cut at {share:.0%}": (lambda share=share: valid()[: int(len(valid()) * share)], "truncated")
        for share in (0.01, 0.5, 0.9, 0.999)
    },
    "cut to its head": (lambda: valid()[:10], "truncated"),
    "added to": (lambda: valid() + b"more", "truncated, or was added to"),
    "put behind something": (lambda: b"PK\x03\x04" + valid(), "its directory says"),
    "a bit flipped": (flipped, "it is damaged"),
    "a loss altered": (lambda: altered(False), "runs/0/losses.npy: another SHA-256"),
    "a member missing": (lambda: zipped([pair for pair in all_of() if pair[0] != LOSSES]), "altered"),
    "a member renamed": (
        lambda: zipped([(name.replace("losses", "gains"), one) for name, one in all_of()]),
        "altered",
    ),
    # hostile archives
    "compressed": (lambda: zipped(all_of(), compress_type=zipfile.ZIP_DEFLATED), "a member is compressed"),
    "a bomb": (
        lambda: zipped([*all_of(), ("b.npy", b"\0" * 10**7)], compress_type=zipfile.ZIP_DEFLATED),
        "compressed",
    ),
    "overlapping": (overlapping, "overlap, or leave a gap"),
    "a million entries": (lambda: million(True), "of 64 bits"),
    "a million uncounted entries": (lambda: million(False), "more members, or longer names"),
    "a million hidden entries": (hidden_million, "of 64 bits"),
    "too many entries": (lambda: zipped([(str(one), b"") for one in range(10_001)]), "10001 members"),
    "of several volumes": (
        lambda: valid()[:-18] + struct.pack("<2H", 1, 1) + valid()[-14:],
        "several volumes",
    ),
    "one name twice": (lambda: zipped([*all_of(), all_of()[0]]), "two members of one name"),
    "a link": (lambda: zipped(all_of(), external_attr=(stat.S_IFLNK | 0o777) << 16), "a link or a folder"),
    "a folder": (lambda: zipped([*all_of(), ("a/", b"")]), "leads out of the bundle, or is no name"),
    "encrypted": (lambda: flagged(0x1), "a member is encrypted"),
    "streamed": (lambda: flagged(0x8), "streamed"),
    "annotated": (lambda: zipped(all_of(), comment=b"x"), "annotated"),
    "nested": (lambda: with_member("inner.zip", valid()), "a member of another kind"),
    "a script": (lambda: with_member("setup.py", b"import os"), "a member of another kind"),
    **{
        f"a name {name!r}": (lambda name=name: zipped([*all_of(), (name, b"")]), "leads out of the bundle")
        for name in (
            "../x.npy",
            "/etc/x.npy",
            "a/../../x.npy",
            "a//x.npy",
            "..",
            "./x.npy",
            "C:\\x.npy",
            "x\u202e.npy",
            "a b.npy",
        )
    },
    "a long name": (lambda: zipped([*all_of(), ("x" * 300, b"")]), "a member's name is too long"),
    # hostile arrays
    "pickled": (
        losses(lambda: saved(np.asarray([Hostile()]), allow_pickle=True)),
        "pickled objects, which could run code",
    ),
    "a pickle for an array": (losses(lambda: pickle.dumps(Hostile())), "it is not an array"),
    "of another version": (
        losses(lambda: b"\x93NUMPY\x02\x00" + bytes(100)),
        "another version of the format",
    ),
    "of Fortran's order": (losses(lambda: saved(np.asfortranarray(np.ones((2, 3))))), "Fortran's order"),
    "big-endian": (losses(lambda: saved(np.ones(6, ">f8"))), "not of little-endian numbers"),
    "structured": (losses(lambda: saved(np.zeros(2, "f8,i4"))), "not of little-endian numbers"),
    "text for numbers": (losses(lambda: saved(np.asarray(["a"]))), "not of little-endian numbers"),
    "whole numbers": (losses(lambda: saved(np.arange(6))), "another kind of number"),
    "huge": (losses(header(FIELDS.format("'<f8'", False, f"({2**40},)"), NUMBERS)), "larger than its file"),
    "huge by axes": (
        losses(header(FIELDS.format("'<f8'", False, "(100,100,100,100,100,100)"), NUMBERS)),
        "another size",
    ),
    "huge and empty": (
        losses(header(FIELDS.format("'<f8'", False, f"(0, {2**62}, {2**62})"))),
        "larger than its file",
    ),
    "negative": (losses(header(FIELDS.format("'<f8'", False, "(-6,)"), NUMBERS)), "its shape is none"),
    "of negative axes": (
        losses(header(FIELDS.format("'<f8'", False, "(-2, -3)"), NUMBERS)),
        "its shape is none",
    ),
    "of truth": (losses(header(FIELDS.format("'<f8'", False, "(True,)"), NUMBERS[:8])), "its shape is none"),
    "of forty axes": (
        losses(header(FIELDS.format("'<f8'", False, (1,) * 40), NUMBERS[:8])),
        "its shape is none",
    ),
    "too short": (losses(header(FIELDS.format("'<f8'", False, "(6,)"), NUMBERS[:-1])), "another size"),
    "too long": (losses(header(FIELDS.format("'<f8'", False, "(6,)"), NUMBERS + b"x")), "another size"),
    "a header of code": (losses(header("__import__('os').mkdir('x')", NUMBERS)), "it is not an array"),
    "a deep header": (losses(header("(" * 9000, NUMBERS)), "it is not an array"),
    "a header of Python 2": (
        losses(header(FIELDS.format("'<f8'", False, "(6L,)"), NUMBERS)),
        "it is not an array",
    ),
    "two-dimensional losses": (losses(lambda: saved(np.ones((6, 1)))), "not those of the run"),
    "too few losses": (losses(lambda: saved(np.ones(5))), "not those of the run"),
    "a count of floats": (
        lambda: with_member("runs/0/final/count.npy", saved(np.asarray(6.0))),
        "kind of number",
    ),
    "counts": (lambda: with_member("runs/0/final/count.npy", saved(np.ones(2, int))), "lacks its count"),
    "another state": (
        lambda: with_member("runs/0/final/other/w.npy", saved(np.ones(2))),
        "a state holds no such array",
    ),
    "an array missing": (without("problems/0/x.npy"), "an array is missing"),
    "a loss missing": (without(LOSSES), "an array is missing"),
    "a parameter missing": (without("problems/0/initial/0.linear/w.npy"), "missing: 0.linear/w"),
    "an array of nothing": (
        lambda: with_member("runs/7/losses.npy", saved(np.ones(2))),
        "an array of nothing",
    ),
    "one more array": (lambda: with_member("runs/0/gains.npy", saved(np.ones(2))), "an array of nothing"),
    "a name in two ways": (
        lambda: with_member("runs/0/%6cosses.npy", saved(np.ones(2))),
        "written in two ways",
    ),
    # of somebody's own trainer
    "other batches' hashes": (
        of_task("task/batches.npy", np.zeros((3, 32), np.uint8)),
        "the hashes are not those of the batches",
    ),
    "hashes of floats": (of_task("task/batches.npy", np.zeros((4, 32))), "another kind of number"),
    "no hashes": (lambda: archive.pack(without_member(taken(), "task/batches.npy")), "an array is missing"),
    "a task of another length": (task("steps", 1 << 40), "the hashes are not those of the batches"),
    "a task of no step": (task("steps", 0), "is not valid"),
    "a task of another dtype": (task("dtype", "float32"), "its run has another dtype than its task"),
    "a start that is not there": (
        lambda: archive.pack(without_member(taken(), "task/start/count.npy")),
        "lacks its count",
    ),
    "a start of another shape": (of_task("task/start/parameters/w.npy", np.ones((3, 1))), "not in one shape"),
    "a start of another name": (of_task("task/start/parameters/v.npy", np.ones(2)), "not all its parameters"),
    "a start of half": (of_task("task/start/parameters/w.npy", np.ones((2, 1), "f2")), "not in one shape"),
    "an end of another dtype": (
        of_task("runs/0/final/parameters/w.npy", np.ones((2, 1), "f4")),
        "not in one shape",
    ),
    "a moment of another shape": (of_task("runs/0/parameters/2/w.npy", np.ones(2)), "not in one shape"),
    "a start beside hashes": (
        lambda: with_document(lambda answer: answer["problems"][0].update(data=False), taken()),
        "an array of nothing",
    ),
    "too many losses of a task": (of_task(LOSSES, np.ones(5)), "it has 4 steps"),
    "a trainer to import": (task("trainer", "os:system"), "does not take trainer"),
    "a task and a problem": (
        lambda: with_document(
            lambda answer: answer["problems"].extend(json.loads(members()[DOCUMENT])["problems"]), taken()
        ),
        "more than one task and one run",
    ),
    "a task and two runs": (
        lambda: with_document(lambda answer: answer["runs"].append(answer["runs"][0]), taken()),
        "more than one task and one run",
    ),
    "no problem and no task": (
        lambda: with_document(lambda answer: answer["problems"].clear(), taken()),
        "problems: is not valid",
    ),
    "bfloat16 of floats": (document("bfloat16", ["runs/0/losses"]), "said to be bfloat16 is not"),
    "bfloat16 of nothing": (document("bfloat16", ["runs/0/gains"]), "bfloat16 is missing"),
    "data that are not finite": (
        lambda: with_member("problems/0/x.npy", saved(np.full((12, 3), np.nan))),
        "not finite",
    ),
    # hostile documents
    "no JSON": (text(b"{"), "it is not JSON"),
    "no UTF-8": (text(b'{"a": "\xff"}'), "it is not JSON"),
    "NaN": (text(b'{"a": NaN}'), "NaN is no number of JSON"),
    "infinity": (text(b'{"a": 1e999}'), "larger than any float"),
    "a huge number": (text(b'{"a": 1' + b"0" * 30 + b"}"), "larger than 64 bits"),
    "a number of many digits": (text(b'{"a": 1' + b"0" * 5000 + b"}"), "it is not JSON"),
    "a name twice in JSON": (text(b'{"a": 1, "a": 2}'), "stands twice"),
    "deep": (text(b"[" * 100_000), "nested too deeply"),
    "deep enough": (text(b"[" * 80 + b"]" * 80), "nested too deeply"),
    "half a character": (text(rb'{"a": "\ud800"}'), "not Unicode"),
    "long": (text(b" " * (1 << 20) + b"{}"), "the text is too long"),
    "no runs": (document("runs", []), "runs: is not valid"),
    "a field more": (document("code", "x"), "does not take code"),
    "a field of a run more": (run("code", "x"), "does not take code"),
    "of no problem": (run("problem", 7), "a run is of no problem"),
    "of another dtype": (run("dtype", "float8"), "use one of 'float64', 'float32'"),
    "two runs of one name": (run("dtype", "float32"), "two runs have one name"),
    "a step beyond": (run("parameters_at", [0, 3, 6, 9]), "arrays are missing"),
    "a negative step": (run("stages_at", [-1]), "is not valid"),
    "a hash that is none": (
        run("given", {"data/x": {"shape": [1], "dtype": "f", "sha256": "x"}}),
        "is not valid",
    ),
    "another layer": (problem("model", [{"op": "evil"}]), "unknown layer"),
    "a layer that is none": (problem("model", [1]), "it does not describe problem"),
    "a layer of lists": (problem("model", [{"op": []}]), "the name of the layer has the wrong type"),
    "a default left out": (problem("average", {}), "it does not describe problem"),
    "another optimizer": (problem("optimizer", {"name": "evil"}), "unknown optimizer"),
    "an argument too many": (
        problem("loss", {"name": "squared_error", "reduction": "sum", "x": 1}),
        "does not take 'x'",
    ),
    "epochs without end": (problem("epochs", 1 << 60), "not those of the run"),
    "a layer without end": (
        problem("model", [{"op": "linear", "size": 1 << 62}]),
        "the model's output and y",
    ),
}


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def flagged(bits):
    """Every entry of the directory with these flags."""
    content = bytearray(valid())
    at = content.find(b"PK\x01\x02")
    while at >= 0:
        content[at + 8 : at + 10] = struct.pack("<H", bits)
        at = content.find(b"PK\x01\x02", at + 4)
    return bytes(content)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_bundle_is_refused_with_its_reason(name, write):
    make, words = REFUSED[name]
    content = make()
    path = write(content)
    started = time.perf_counter()
    with pytest.raises(BundleError) as caught:
        bundle.load(path)
    assert words in str(caught.value)
    assert str(path) in caught.value.what
    assert all((caught.value.what, caught.value.got, caught.value.fix))
    assert len(str(caught.value)) < 2000
    assert time.perf_counter() - started < 10
    assert not TOUCHED.exists()


@pytest.mark.parametrize(
    "name", ["a bomb", "a million entries", "a million uncounted entries", "huge", "huge by axes", "deep"]
)
def test_nothing_large_is_allocated_for_a_hostile_file(name, write):
    path = write(REFUSED[name][0]())
    tracemalloc.start()
    try:
        with pytest.raises(BundleError):
            bundle.load(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * len(valid()) + 3_000_000


def test_what_is_not_a_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, words in (("pipe", "not a file"), ("", "not a file"), ("none", "No such file")):
        with pytest.raises(BundleError, match=words):
            bundle.load(tmp_path / name)


def test_an_altered_bundle_with_new_hashes_is_read_and_says_something_else(write):
    """Hashes find accidents; who makes new ones can say anything, which the replay then finds."""
    assert (
        bundle.load(write(altered(rehashed=True))).runs[0].run.trace.losses[-1]
        != (bundle.load(write(valid())).runs[0].run.trace.losses[-1])
    )


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


BASES = st.sampled_from((valid, taken))


@st.composite
def cut_up(draw):
    """The file with some bytes changed, taken out, put in or cut off."""
    content = bytearray(draw(BASES)())
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(content) - 1, 0)))
        what = draw(st.sampled_from(("change", "remove", "insert", "cut", "copy")))
        if what == "change" and content:
            content[at] = draw(st.integers(0, 255))
        elif what == "remove":
            del content[at : at + draw(st.integers(1, 300))]
        elif what == "insert":
            content[at:at] = draw(st.binary(max_size=60))
        elif what == "cut":
            del content[at:]
        else:
            content[at:at] = content[draw(st.integers(0, at)) :][:200]
    return bytes(content)


@st.composite
def other_document(draw):
    """The bundle with another value somewhere in its document, under right hashes."""
    held = members(draw(BASES)())
    answer = json.loads(held[DOCUMENT])
    place = answer
    while True:
        keys = list(place) if isinstance(place, dict) else range(len(place))
        key = draw(st.sampled_from(keys)) if keys else None
        inner = place[key] if keys else None
        if keys and isinstance(inner, dict | list) and inner and draw(st.integers(0, 9)):
            place = inner
            continue
        what = draw(st.sampled_from(("set", "remove", "add")))
        if what == "remove" and keys:
            del place[key]
        elif what == "add" and isinstance(place, dict):
            place[draw(st.text(max_size=8))] = draw(VALUES)
        elif keys:
            place[key] = draw(VALUES)
        return archive.pack({**held, DOCUMENT: json.dumps(answer).encode("utf-8", "surrogatepass")})


HEADS = st.builds(
    lambda descr, fortran, shape: FIELDS.format(descr, fortran, shape),
    st.sampled_from(
        ["'<f8'", "'<f4'", "'|O'", "'>f8'", "'<U9'", "'|V8'", "[('a', '<f8')]", "'<M8[s]'", "None", "'f8,O'"]
    ),
    st.sampled_from(["False", "True", "0", "None"]),
    st.sampled_from(["(6,)", "()", "(-1,)", "(0,)", "(1e9,)", "6", "(None,)", "((6,),)", "(9**9,)"])
    | st.lists(st.integers(), max_size=40).map(tuple),
)


@st.composite
def other_member(draw):
    """The bundle with another array, under right hashes."""
    held = members(draw(BASES)())
    name = draw(st.sampled_from(sorted(held)))
    content = bytearray(held[name])
    what = draw(st.sampled_from(("header", "bytes", "cut", "swap", "remove", "text")))
    if what == "header":
        held[name] = header(
            draw(HEADS | st.text(max_size=30)), draw(st.sampled_from((NUMBERS, b"", NUMBERS[:8])))
        )
    elif what == "bytes":
        at = draw(st.integers(0, min(len(content), 140) - 1))
        content[at] = draw(st.integers(0, 255))
        held[name] = bytes(content)
    elif what == "cut":
        held[name] = bytes(content[: draw(st.integers(0, len(content)))])
    elif what == "swap":
        held[name] = held[draw(st.sampled_from(sorted(held)))]
    elif what == "remove":
        del held[name]
    else:
        held[name] = draw(st.binary(max_size=100))
    return archive.pack(held)


def check_only_our_errors(content, path):
    """It is read, and can be written again, or it is refused with three parts; in a second or so."""
    path.write_bytes(content)
    started = time.perf_counter()
    refused = None
    try:
        read = bundle.load(path)
    except BundleError as error:
        refused = error
    assert time.perf_counter() - started < 10
    assert not TOUCHED.exists()
    if refused is None:
        assert bundle.to_bytes(read)
    else:
        assert all((refused.what, refused.got, refused.fix))
        assert str(refused).encode()
    return refused


DAMAGES = {"bytes": cut_up, "document": other_document, "member": other_member}


@pytest.mark.parametrize("kind", DAMAGES)
def test_damaged_files_give_our_errors_only(kind, tmp_path_factory):
    fuzz(kind, tmp_path_factory, 80)


@pytest.mark.sweep
@pytest.mark.parametrize("kind", DAMAGES)
def test_ten_thousand_damaged_files_give_our_errors_only(kind, tmp_path_factory):
    fuzz(kind, tmp_path_factory, 3_400)


def fuzz(kind, tmp_path_factory, examples):
    path = tmp_path_factory.mktemp("fuzz") / "it.lockstep.npz"
    refused = []

    @settings(max_examples=examples, database=None)
    @given(DAMAGES[kind]())
    def run(content):
        refused.append(check_only_our_errors(content, path))

    run()
    assert len(refused) >= examples
    assert sum(one is not None for one in refused) > examples / 4, "the damage is none"


def test_json_is_read_as_others_read_it():
    assert strict_json.parse('{"a": [1, 2.5, "ä\\u00e4", true, null]}'.encode(), 100) == {
        "a": [1, 2.5, "ää", True, None]
    }
    assert math.prod(np.shape(strict_json.parse(b"[" * 64 + b"]" * 64, 1000))) == 0


@st.composite
def misfit(draw):
    """A bundle that can be read, in which arrays are of another shape, dtype or content, or are not there."""
    held = members(draw(BASES)())
    for name in draw(st.lists(st.sampled_from(sorted(set(held) - {DOCUMENT})), min_size=1, max_size=4)):
        shape = draw(st.sampled_from([(), (1,), (6,), (3, 3), (0, 2), (3, 2, 1)]))
        dtype = draw(st.sampled_from(["float64", "float32", "float16"]))
        value = draw(st.sampled_from([0.0, 1.5, np.nan, np.inf, 6e4]))
        count = name.endswith("/count.npy")
        array = np.asarray(draw(st.integers(0, 1 << 62))) if count else np.full(shape, value, dtype)
        if name == "task/batches.npy":
            array = np.full((4, 32), draw(st.integers(0, 255)), np.uint8)
        held[name] = saved(array)
    return archive.pack(held)


def replayed(held):
    """Here, each kind by what it needs."""
    if held.task is None:
        return replay(held, tolerance="fixed", backends=["numpy"])
    return replay_adopted(held, *side())


@settings(max_examples=25, database=None)
@given(misfit() | other_document())
def test_what_can_be_read_can_be_replayed_and_told(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("misfit") / "it.lockstep.npz"
    path.write_bytes(content)
    with suppress(LockstepError), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of numbers that are not finite
        answer = report.to_document(replayed(bundle.load(path)), manifest())
        assert report.dumps(answer)
        assert markdown.render(answer)
        assert junit.render(answer)
        Draft202012Validator(schema("report")).validate(json.loads(report.dumps(answer)))
