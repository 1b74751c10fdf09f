"""Mappings: links there and back, what does not fit is refused, and files that are damaged are."""

import copy
import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lockstep.backends.errors import LockstepError
from lockstep.harness.mapping.file import dumps, read, save
from lockstep.harness.mapping.layouts import layouts, orbits
from lockstep.harness.mapping.link import Link, MappingError
from lockstep.harness.mapping.mapping import Mapping

FUSED = Mapping.of(
    {
        "qkv": {"to": ["q", "k", "v"], "axis": 0, "sizes": [4, 4, 4], "transpose": [1, 0]},
        ("w_i", "w_h"): {"to": "w", "axis": 0, "sizes": [3, 5], "transpose": [1, 0]},
        "conv": {"to": "kernel", "transpose": [2, 3, 1, 0]},
        "flat": {"to": "dense", "reshape": [2, 3, 4], "transpose": [2, 1, 0]},
        "same": "same",
    }
)
LEFT = {"qkv": (12, 6), "w_i": (7, 3), "w_h": (7, 5), "conv": (5, 2, 3, 3), "flat": (2, 12), "same": (3,)}
RIGHT = {
    "q": (6, 4),
    "k": (6, 4),
    "v": (6, 4),
    "w": (8, 7),
    "kernel": (3, 3, 2, 5),
    "dense": (12, 2),
    "same": (3,),
}


def arrays(shapes, seed=0):
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(shape) for name, shape in shapes.items()}


def test_there_and_back_is_the_same():
    FUSED.check(LEFT, RIGHT)
    ours = arrays(LEFT)
    theirs = FUSED.to_right(ours, RIGHT)
    assert {name: value.shape for name, value in theirs.items()} == RIGHT
    back = FUSED.to_left(theirs, LEFT)
    assert all(np.array_equal(back[name], value) for name, value in ours.items())
    assert np.array_equal(theirs["k"], ours["qkv"][4:8].T)
    assert np.array_equal(theirs["w"], np.concatenate([ours["w_i"].T, ours["w_h"].T]))
    assert np.array_equal(theirs["dense"][4], ours["flat"].reshape(2, 3, 4)[:, 1, 1])


def test_a_link_without_a_transpose_leaves_the_axes():
    square = arrays({"w": (3, 3)})
    moved = Mapping.of({"w": "v"}).to_right(square, {"v": (3, 3)})
    assert np.array_equal(moved["v"], square["w"])


@settings(max_examples=200)
@given(st.data())
def test_every_layout_is_undone(data):
    shape = tuple(data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))
    other = tuple(data.draw(st.permutations(shape)))
    if data.draw(st.booleans()) and len(other) > 1:
        other = (other[0] * other[1], *other[2:])
    value = np.arange(np.prod(shape), dtype=float).reshape(shape)
    found = list(layouts(shape, other, Link("a", "b", transpose=(-1,))))
    images = []
    for link in found:
        Mapping((link,)).check({"a": shape}, {"b": other})
        turned = link.to_right(value, other)
        assert turned.shape == other
        assert np.array_equal(link.to_left(turned, shape), value)
        images.append(turned.tobytes())
    assert len(set(images)) == len(images)
    assert found


@settings(max_examples=100)
@given(st.permutations((2, 3, 2, 2)), st.integers(1, 4), st.integers(0, 9))
def test_orbits_are_what_several_layouts_do_not_tell_apart(shape, many, seed):
    """Numbers that are equal within orbits look the same in every layout, and no further ones do."""
    links = list(layouts((2, 3, 2, 2), tuple(shape), Link("a", "b", transpose=(-1,))))
    links = links[seed % len(links) :][:many]
    found = orbits(links, (2, 3, 2, 2), tuple(shape))
    images = {one.to_right(found, tuple(shape)).tobytes() for one in links}
    assert len(images) == 1
    assert (len(np.unique(found)) == found.size) == (len(links) == 1)


@pytest.mark.parametrize(
    ("mapping", "match"),
    [
        ({"a": "c"}, "does not have"),
        ({"d": "b"}, "does not have"),
        ({"a": {"to": "b", "transpose": [0, 1]}}, "does not fit"),
        ({"a": {"to": "b", "transpose": [0, 0]}}, "does not fit"),
        ({"a": {"to": "b", "transpose": [1, 0], "reshape": [5]}}, "does not fit"),
        ({"a": {"to": "b", "left_slice": [[0, 9]]}}, "not within its array"),
        ({"a": {"to": "b", "colour": 1}}, "is not valid"),
        ({"a": ["b", "b"]}, "does not say how long"),
        *(
            ({"a": one}, "is not valid")
            for one in (
                3,
                None,
                ["b", 3],
                {"to": "b", "transpose": "x"},
                {"to": "b", "transpose": [0.0, 1.0]},
                {"to": "b", "reshape": 4},
                {"to": "b", "left_slice": [0, 4]},
                {"to": "b", "left_slice": [["0", "4"]]},
                {"to": "b", "right_slice": [[None, None]]},
                {"to": ["b", "b"], "sizes": [1, "x"]},
                {"to": ["b", "b"], "sizes": [1, 1], "axis": -1},
                {"to": "b", "distance": "near"},
            )
        ),
        ({3: "b"}, "is not valid"),
        ({}, "is not linked"),
        ({"a": [{"to": "b", "transpose": [1, 0]}, {"to": "b", "transpose": [1, 0]}]}, "is linked twice"),
        (
            {"a": {"to": "b", "transpose": [1, 0], "left_slice": [[0, 1]], "right_slice": [[0, 3], [0, 1]]}},
            "in part",
        ),
        (3, "no mapping"),
    ],
)
def test_what_does_not_fit_is_refused(mapping, match):
    with pytest.raises(MappingError, match=match):
        Mapping.of(mapping).check({"a": (2, 3)}, {"b": (3, 2)})


def test_a_file_gives_the_mapping_back(tmp_path):
    save(tmp_path / "map.json", FUSED, "torch", "flax")
    assert read(tmp_path / "map.json") == FUSED


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("{}", "required property"),
        ('{"lockstep_mapping": 2, "links": []}', "1 was expected"),
        ('{"lockstep_mapping": 1, "links": [{"left": 1, "right": "b"}]}', "links/0/left"),
        ('{"lockstep_mapping": 1, "links": [], "more": 1}', "Additional properties"),
    ],
)
def test_a_file_that_is_none_is_refused(text, match, tmp_path):
    (tmp_path / "map.json").write_text(text)
    with pytest.raises(MappingError, match=match):
        read(tmp_path / "map.json")
    with pytest.raises(MappingError, match="cannot be read"):
        read(tmp_path / "none.json")


TEXT = dumps(FUSED, "torch", "flax")

WORDS = ["", "0", "-1", "null", '"a"', "[", "}", "1e999"]

VALUES = [
    None,
    True,
    0,
    -1,
    1.0,
    2.5,
    4,
    2**63,
    "",
    "q",
    [],
    {},
    [0],
    [1, 0],
    [[0, 4]],
    [[0, None]],
    [[4.0, 8]],
    [[[]]],
]
"""What stands in a mapping, and what should not."""


def damaged_text(data):
    """The bytes of a mapping with some of them cut out, repeated or replaced."""
    text = TEXT.encode()
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        stop = data.draw(st.integers(start, min(len(text), start + 40)))
        new = data.draw(st.sampled_from([*(word.encode() for word in WORDS), b"\xff", text[start:stop] * 2]))
        text = text[:start] + new + text[stop:]
    return text


def damaged_document(data):
    """A mapping that is JSON, in which some values are others, gone, or stand in another's place."""
    document = json.loads(TEXT)
    for _ in range(data.draw(st.integers(1, 3))):
        places = list(_places(document))
        parent, key = data.draw(st.sampled_from(places))
        other, its_key = data.draw(st.sampled_from(places))
        if data.draw(st.booleans()):
            parent[key] = copy.deepcopy(data.draw(st.sampled_from([*VALUES, other[its_key]])))
        elif data.draw(st.booleans()):
            del parent[key]
        elif isinstance(parent, list):
            parent.insert(key, copy.deepcopy(other[its_key]))
    return json.dumps(document).encode()


def _places(node):
    """Every (container, key or index) in a document."""
    keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
    for key in keys:
        yield node, key
        yield from _places(node[key])


def survives(data, path):
    """Only our errors; a mapping that is read fits, and then gives the arrays back, or is refused. Which of these it was."""
    damage = data.draw(st.sampled_from([damaged_text, damaged_document, damaged_document]))
    path.write_bytes(damage(data))
    try:
        mapping = read(path)
    except LockstepError:
        return "not read"
    try:
        mapping.check(LEFT, RIGHT)
    except LockstepError:
        return "does not fit"
    ours = arrays(LEFT)
    back = mapping.to_left(mapping.to_right(ours, RIGHT), LEFT)
    assert all(np.array_equal(back[name], value) for name, value in ours.items())
    return "fits"


def fuzzed(path, examples):
    """How many damaged files were what."""
    found = Counter()

    @settings(max_examples=examples)
    @given(st.data())
    def run(data):
        found[survives(data, path)] += 1

    run()
    return found


def test_damaged_files_are_refused_or_fit(tmp_path):
    assert len(fuzzed(tmp_path / "map.json", 300)) == 3


@pytest.mark.sweep
def test_ten_thousand_damaged_files_are_refused_or_fit(tmp_path):
    found = fuzzed(tmp_path / "map.json", 10_000)
    assert min(found[one] for one in ("not read", "does not fit", "fits")) > 300, found
