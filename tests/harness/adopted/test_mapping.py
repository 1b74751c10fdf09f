"""Mappings: links there and back, what does not fit is refused, and files that are damaged are."""

import json
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backends.errors import LockstepError
from harness.adopted import Link, Mapping, MappingError
from harness.adopted.layouts import layouts, orbits
from harness.adopted.mapping_file import dumps, loads, read, save

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


def damaged(data):
    """The text of a mapping with some of it cut out, repeated or replaced."""
    text = dumps(FUSED, "torch", "flax")
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        stop = data.draw(st.integers(start, min(len(text), start + 40)))
        text = (
            text[:start]
            + data.draw(
                st.sampled_from(["", "0", "-1", "null", '"a"', "[", "}", "1e999", text[start:stop] * 2])
            )
            + text[stop:]
        )
    return text


def survives(data):
    """Only our errors, and a mapping that is read either fits or is refused."""
    with suppress(LockstepError, json.JSONDecodeError):
        loads(json.loads(damaged(data)), "fuzzed").check(LEFT, RIGHT)


@settings(max_examples=300)
@given(st.data())
def test_damaged_files_are_refused_or_fit(data):
    survives(data)


@pytest.mark.sweep
@settings(max_examples=10_000)
@given(st.data())
def test_ten_thousand_damaged_files_are_refused_or_fit(data):
    survives(data)
