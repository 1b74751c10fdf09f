"""Names that differ in separators, plurals and the word for a kind are the same; what leaves a choice is not matched."""

import pytest

from lockstep.harness.mapping import names


def bert(
    layers, dot=".", layer="layer.{}", norm="LayerNorm", kernel="weight", scale="weight", table="weight"
):
    """The names of BERT with so many layers, as a framework writes them."""
    modules = [
        *(f"attention.self.{one}" for one in ("query", "key", "value")),
        *("attention.output.dense", f"attention.output.{norm}", "intermediate.dense", "output.dense"),
        f"output.{norm}",
    ]
    found = [f"bert.embeddings.{one}_embeddings.{table}" for one in ("word", "position", "token_type")]
    for number in range(layers):
        for module in modules:
            kind = scale if module.endswith(norm) else kernel
            found += [f"bert.encoder.{layer.format(number)}.{module}.{one}" for one in (kind, "bias")]
    return [name.replace(".", dot) for name in found]


FLAX = {"kernel": "kernel", "scale": "scale", "table": "embedding", "dot": "/"}


@pytest.mark.parametrize(
    "other",
    [
        FLAX,
        {**FLAX, "layer": "layer_{}"},
        {**FLAX, "layer": "layers_{}", "norm": "layer_norm"},
        {**FLAX, "layer": "layers.{}", "norm": "layernorm", "scale": "gamma"},
    ],
)
def test_a_thousand_names_are_matched(other):
    """Compared each with each, and their rivals with one another, they would take hours."""
    left, right = bert(62), bert(62, **other)
    assert len(left) == 995
    found = names.matched(left, right)
    assert set(found) == set(zip(left, right, strict=True))
    assert set(found.values()) == {"normalised name"}


@pytest.mark.parametrize(
    ("left", "right", "pairs"),
    [
        (["bn.weight", "bn.running_mean", "bn.running_var"], ["bn/scale", "bn/mean", "bn/var"], 3),
        (["norm.gamma", "norm.beta"], ["norm/weight", "norm/bias"], 2),
        (["m.weight", "m.scale"], ["m/kernel", "m/scale"], 2),  # two words for one kind
        (["a.fc.weight", "b.fc.weight"], ["a/fc/w", "c/fc/w"], 2),  # what is matched is no choice for others
        (["enc.0.fc.weight", "enc.1.fc.weight"], ["block_0/fc/w", "block_1/fc/w"], 2),  # by their numbers
        (["layer.0.w", "block.0.w"], ["layers_0/w", "blocks_0/w"], 2),
        (["weight"], ["kernel"], 1),
        (["a.fc.weight", "b.fc.weight"], ["u/fc/w", "v/fc/w"], 0),
        (["0.weight", "2.weight"], ["Dense_0/kernel", "Dense_1/kernel"], 0),  # a number says nothing
        (["layer.1.0.w"], ["layer.10.w"], 0),
        (["a.fc.w"], ["b.out.w"], 0),
    ],
)
def test_what_leaves_no_choice_is_matched_and_nothing_else(left, right, pairs):
    assert set(names.matched(left, right)) == set(list(zip(left, right, strict=False))[:pairs])


def test_sizes_tell_equal_names_apart():
    sizes = {"x.fc.w": 4, "y.fc.w": 6}, {"u/fc/w": 6, "v/fc/w": 4}
    found = names.matched([*sizes[0]], [*sizes[1]], sizes)
    assert set(found) == {("x.fc.w", "v/fc/w"), ("y.fc.w", "u/fc/w")}
    assert names.matched(["w"], ["w"], ({"w": 4}, {"w": 6})) == {}
