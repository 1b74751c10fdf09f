"""Functions of more than vectors, of state, of masks and of branches: across backends and against the frameworks' own."""

import dataclasses
import math

import haiku as hk
import jax
import numpy as np
import pytest
import torch
from jax.test_util import check_grads

from lockstep import backends
from lockstep.backends.errors import ProblemError
from lockstep.backends.jax_haiku.wrap import wrap as wrap_jax
from lockstep.backends.numpy_vjp.buffers import running_statistics
from lockstep.backends.numpy_vjp.chain import compose
from lockstep.backends.numpy_vjp.model import chain_of, resolve
from lockstep.backends.numpy_vjp.ops.branches import parallel, residual
from lockstep.backends.numpy_vjp.ops.normalise import standardise
from lockstep.backends.numpy_vjp.tables import FUNCTIONS as LINKS
from lockstep.backends.numpy_vjp.tables import JOINS
from lockstep.backends.ops import FUNCTIONS
from lockstep.backends.problem import (
    DTYPES,
    Batching,
    Layer,
    Loss,
    Optimizer,
    Problem,
    place_layers,
    shapes_of,
)
from lockstep.backends.protocol import LOSSES_ONLY
from lockstep.backends.pytorch.wrap import wrap as wrap_torch
from lockstep.harness.problems.initial import draw
from tests.conftest import BACKENDS, advance

L = Layer
INNER = [[L("linear", size=4), L("tanh")], [L("scale")]]
SHAPED = [
    ("layer-norm", L("layer_norm"), (4,)),
    ("layer-norm-sequence", L("layer_norm", epsilon=1e-3), (3, 4)),
    ("rms-norm", L("rms_norm"), (3, 4)),
    ("batch-norm", L("batch_norm"), (4,)),
    ("batch-norm-image", L("batch_norm", unbiased=False), (3, 3, 2)),
    ("batch-norm-debiased", L("batch_norm", unbiased=False, debias=True), (4,)),
    ("dropout", L("dropout", rate=0.4), (3, 4)),
    ("embedding", L("embedding", ids=9, size=3), (4,)),
    ("conv1d", L("conv1d", size=3, window=3), (7, 2)),
    ("conv1d-strided", L("conv1d", size=3, window=4, stride=3, padding=2), (9, 2)),
    ("conv2d", L("conv2d", size=2, window=2), (5, 4, 3)),
    ("conv2d-strided", L("conv2d", size=2, window=3, stride=2, padding=1), (6, 5, 1)),
    ("max-pool", L("max_pool", window=3, stride=2, padding=1), (8, 2)),
    ("max-pool-image", L("max_pool", window=2), (5, 4, 2)),
    ("average-pool", L("average_pool", window=3, stride=2, padding=1), (8, 2)),
    ("average-pool-image", L("average_pool", window=2, padding=1, count_padding=False), (5, 4, 2)),
    ("flatten", L("flatten"), (3, 2, 2)),
    ("attention", L("attention", heads=2), (5, 4)),
    ("attention-causal", L("attention", heads=1, causal=True), (5, 4)),
    ("residual", L("residual", branches=INNER), (3, 4)),
    ("parallel", L("parallel", branches=[*INNER, [L("residual", branches=INNER)], []]), (4,)),
]
"""What it is called, the layer, the shape of one example."""

ROWS = 6
ONE_OF_A_KIND = ("layer-norm", "batch-norm", "conv2d", "embedding")
"""Whose training is compared at once; that of the others is left to the sweep, their stages are not."""

shaped = pytest.mark.parametrize(("layer", "shape"), [pytest.param(*one, id=name) for name, *one in SHAPED])
differentiable = pytest.mark.parametrize(
    ("layer", "shape"), [pytest.param(*one, id=name) for name, *one in SHAPED if name != "embedding"]
)


def in_both_dtypes():
    """In float32, where a backend is one program more, some; test_accuracy_layers has the numbers of the others."""
    for name, layer, shape in SHAPED:
        for dtype in DTYPES:
            marks = () if dtype == "float64" or name in ONE_OF_A_KIND else pytest.mark.sweep
            yield pytest.param(layer, shape, dtype, marks=marks, id=f"{name}-{dtype}")


def data(layer, shape, ties=False):
    rng = np.random.default_rng(2)
    if FUNCTIONS[layer.name].ids:
        return rng.integers(0, 5, (ROWS, *shape)).astype(float)  # some ids repeat, some never come
    if ties:
        return rng.integers(-1, 2, (ROWS, *shape)).astype(float)
    if layer.name == "max_pool":  # no two elements so close that a finite difference changes the largest
        return rng.permutation(ROWS * math.prod(shape)).reshape(ROWS, *shape) / 50
    return rng.standard_normal((ROWS, *shape))


def after_scale(layer):
    """The layer after a scale, so that there is something to train; ids must come first."""
    return [layer] if FUNCTIONS[layer.name].ids else [L("scale"), layer]


def problem(model, x, dtype="float64", **changes):
    model = tuple(model)
    rng = np.random.default_rng(3)
    placed = place_layers(model, x.shape[1:])
    initial = {name: 0.5 + 0.5 * rng.standard_normal(shape) for name, shape in shapes_of(placed).items()}
    fields = {
        "name": "layers",
        "x": x,
        "y": rng.standard_normal((len(x), *placed[-1].output_shape)),
        "model": model,
        "loss": Loss("squared_error"),
        "optimizer": Optimizer("sgd", learning_rate=0.01, momentum=0.9),
        "epochs": 4,
        "initial": initial,
        "dtype": dtype,
    }
    return Problem(**{**fields, **changes})


def test_every_member_of_the_registry_has_an_example_here_or_in_test_ops():
    from tests.backends import test_ops

    assert {layer.name for _, layer, _ in SHAPED} | {name for name, _ in test_ops.MEMBERS} == set(FUNCTIONS)
    assert LINKS.keys() | JOINS.keys() == set(FUNCTIONS)


def observed(name, one):
    trainer = backends.load(name).trainer(one)
    return trainer.observe(
        trainer.init(), next(iter(one.batches())), ["batch", "forward", "loss", "cotangent", "gradient"]
    )


def assert_stages_agree(one):
    """Within 32 roundings of the largest element of the stage's kind: sums of at most a few dozen terms.

    Of the kind, because some gradients cancel to 0: a scale before batch norm, the bias of attention's keys.
    """
    reference = observed("numpy", one)
    for name in set(BACKENDS) - {"numpy"}:
        found = observed(name, one)
        assert list(found) == list(reference)
        for stage, expected in reference.items():
            assert found[stage].dtype == one.dtype, stage
            kind = stage.partition("/")[0]
            scale = max(
                np.abs(value).max() for key, value in reference.items() if key.partition("/")[0] == kind
            )
            worst = np.abs(found[stage] - expected).max() / scale / np.finfo(one.dtype).eps
            assert worst <= 32, f"{name} {stage}: {worst}"


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("layer", "shape", "dtype"), list(in_both_dtypes()))
def test_stages_agree_across_backends(layer, shape, ties, dtype):
    """The cotangent of the layer before is this layer's J_f(x)ᵀu; ties: small whole numbers, zeros among them."""
    one = problem(after_scale(layer), data(layer, shape, ties), dtype)
    if "0.scale/s" in one.initial:
        ones = np.ones(shape[-1])
        one = one.replace(initial={**one.initial, "0.scale/s": ones})  # keeps the ties
    assert_stages_agree(one)


def parts(layer, shape):
    """The layer's chain in training as one function, its parameter, its input and the problem."""
    one = problem(after_scale(layer), data(layer, shape))
    chain = chain_of(one.layers, training=True)
    masks = {f"{name}/mask": mask for name, mask in one.batches().masks(0).items()}
    values = {**one.initial, **masks}
    return compose(*chain.funcs), tuple(resolve(names, values) for names in chain.names), one.x, one


def flattened(nested):
    """The arrays of a nested parameter."""
    if isinstance(nested, tuple):
        return [leaf for one in nested for leaf in flattened(one)]
    return [] if nested is None else [nested]


def rebuilt(nested, leaves):
    if isinstance(nested, tuple):
        return tuple(rebuilt(one, leaves) for one in nested)
    return None if nested is None else next(leaves)


@differentiable
def test_directional_differences_and_linearity(layer, shape):
    """f along (v_x, v_w) by central differences against the VJP's products, in x and in every parameter."""
    f, w, x, _ = parts(layer, shape)
    rng = np.random.default_rng(4)
    value, pull = f(x, w), f.make_vjp(x, w)
    a, b = rng.standard_normal((2, *value.shape))
    grad_x, grad_w = pull(a)
    masked = layer.name == "dropout"  # the mask is a constant
    v_x, v_w = rng.standard_normal(x.shape), [rng.standard_normal(leaf.shape) for leaf in flattened(w)]

    def along(h):
        leaves = flattened(w) if masked else [leaf + h * v for leaf, v in zip(flattened(w), v_w, strict=True)]
        return f(x + h * v_x, rebuilt(w, iter(leaves)))

    slope = (along(1e-6) - along(-1e-6)) / 2e-6
    products = [np.sum(grad_x * v_x)]
    if not masked:
        products += [np.sum(g * v) for g, v in zip(flattened(grad_w), v_w, strict=True)]
    assert np.sum(a * slope) == pytest.approx(sum(products), rel=1e-6, abs=1e-6)
    for both, one, other in zip(
        flattened(pull(2 * a + b)), flattened(pull(a)), flattened(pull(b)), strict=True
    ):
        np.testing.assert_allclose(both, 2 * one + other, rtol=1e-11, atol=1e-11)


def simple_links():
    """Every NumPy function of these layers that takes an array or nothing, at its own input."""
    for name, layer, shape in SHAPED:
        if layer.branches or layer.name in {"attention", "dropout", "embedding"}:
            continue
        one = problem(after_scale(layer), data(layer, shape))
        x = one.x
        for f, leaf in LINKS[layer.name](layer.args):
            w = None if leaf is None else one.initial[f"1.{layer.name}/{leaf}"]
            yield pytest.param(f, x, w, id=f"{name}-{f.__name__}")
            x = f(x, w)


def judged():
    """Also the pieces of those that take more."""
    from lockstep.backends.numpy_vjp.ops.attention import attend
    from lockstep.backends.numpy_vjp.ops.embedding import embedding
    from lockstep.backends.numpy_vjp.ops.mask import mask
    from lockstep.backends.numpy_vjp.tables import elementwise

    yield from simple_links()
    rng = np.random.default_rng(5)
    x = rng.standard_normal((2, 4, 12))
    yield pytest.param(attend(2, causal=False), x, None, id="attend")
    yield pytest.param(attend(2, causal=True), x, None, id="attend-causal")
    pair = (elementwise.tanh, elementwise.sigmoid)
    for join in (residual, parallel):
        made = join(pair)

        def closed(x, w=None, made=made):
            return made(x, (None, None))

        yield pytest.param(constant(closed, made), x[0], None, id=join.__name__)
    m = (rng.random((4, 12)) < 0.5) / 0.5
    yield pytest.param(constant(lambda x, w=None: mask(x, m), mask, m), x[0], None, id="mask")
    ids = rng.integers(0, 4, (5, 2)).astype(float)
    yield pytest.param(of_parameter(embedding, ids), rng.standard_normal((4, 3)), None, id="embedding")
    statistics = rng.standard_normal(12), rng.random(12)
    evaluated = standardise(1e-5)
    yield pytest.param(
        constant(lambda x, w=None: evaluated(x, statistics), evaluated, statistics),
        x[0],
        None,
        id="standardise",
    )


def constant(forward, f, w=(None, None)):
    """F with its parameter held fast, as a function of x alone."""
    from lockstep.backends.numpy_vjp.function import Function

    made = Function(forward)
    made.define_vjp(lambda x, _: lambda u: (f.make_vjp(x, w)(u)[0], None))
    return made


def of_parameter(f, x):
    """F as a function of its parameter, x held fast."""
    from lockstep.backends.numpy_vjp.function import Function

    made = Function(lambda w, _: f(x, w))
    made.define_vjp(lambda w, _: lambda u: (f.make_vjp(x, w)(u)[1], None))
    return made


@pytest.mark.parametrize(("f", "x", "w"), list(judged()))
def test_torchs_and_jaxs_judges_pass(f, x, w):
    tensors = [torch.tensor(value, requires_grad=True) for value in (x, w) if value is not None]
    assert torch.autograd.gradcheck(wrap_torch(f), tensors, nondet_tol=0.0)
    with jax.enable_x64(True):
        values = tuple(jax.numpy.asarray(value) for value in (x, w) if value is not None)
        check_grads(wrap_jax(f), values, order=1, modes=["rev"], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        pytest.param(*one, id=name, marks=() if name in ONE_OF_A_KIND else pytest.mark.sweep)
        for name, *one in SHAPED
    ],
)
def test_training_agrees_and_continues(layer, shape):
    """Short batches, snapshots in the middle, and one backend's snapshot continued by another."""
    one = problem(after_scale(layer), data(layer, shape), batching=Batching(size=4, shuffle=1))
    batches = list(one.batches())
    traces = {}
    for name in BACKENDS:
        trainer = backends.load(name).trainer(one)
        trace = trainer.fit(trainer.init(), one.batches(), LOSSES_ONLY)
        state = trainer.init()
        for batch in batches[:3]:
            state, _ = trainer.step(state, batch)
        other = backends.load("numpy").trainer(one)
        resumed = other.write(other.init(), trainer.read(state))
        for batch in batches[3:]:
            resumed, _ = other.step(resumed, batch)
        traces[name] = trace.final, other.read(resumed)
    for final, resumed in traces.values():
        for kind in ("parameters", "optimizer", "buffers"):
            expected = getattr(traces["numpy"][0], kind)
            for snapshot in (final, resumed):
                found = getattr(snapshot, kind)
                assert list(found) == list(expected)
                for key, value in expected.items():
                    # of the slot, not the leaf: some gradients cancel to 0
                    slot = [one for name, one in expected.items() if name.split("/")[0] == key.split("/")[0]]
                    scale = max(np.abs(one).max() for one in (slot if kind == "optimizer" else [value]))
                    np.testing.assert_allclose(found[key], value, rtol=0, atol=3e-13 * scale, err_msg=key)


@pytest.mark.parametrize("name", ["batch-norm", "batch-norm-debiased", "dropout"])
def test_evaluation_is_another_mode_and_agrees(name):
    layer, shape = next(one for key, *one in SHAPED if key == name)
    one = problem([L("scale"), layer], data(layer, shape))
    assert one.has_modes
    outputs = []
    for backend in BACKENDS:
        trainer = backends.load(backend).trainer(one)
        batch = next(iter(one.batches()))
        state = advance(trainer, trainer.init(), batch, 3)
        before = trainer.read(state)
        outputs.append(trainer.predict(state, one.x))
        after = trainer.read(state)
        for key, value in before.buffers.items():
            np.testing.assert_array_equal(after.buffers[key], value)
        trained = trainer.observe(state, batch, ["forward"])[f"forward/1.{layer.name}"]
        # The debiased averages of one and the same batch are its own statistics, but for what training moved.
        assert np.abs(outputs[-1] - trained).max() > 1e-6
        stepped = trainer.read(advance(trainer, state, batch, 1))  # still in training mode
        assert any((stepped.parameters[key] != before.parameters[key]).any() for key in before.parameters)
    for output in outputs[1:]:
        np.testing.assert_allclose(output, outputs[0], rtol=0, atol=1e-13)


def test_a_model_without_modes_predicts_its_output(seed, backend):
    trainer = backend.trainer(seed)
    state = trainer.init()
    x = seed.batches().x
    forward = trainer.observe(state, next(iter(seed.batches())), ["forward"])["forward/0.linear"]
    np.testing.assert_allclose(trainer.predict(state, x), forward, rtol=1e-15)
    assert not seed.has_modes


X = np.random.default_rng(6).standard_normal((3, 8, 4)) * 2 + 3


def moved(**convention):
    average = running_statistics(momentum=0.1, **convention)
    start = 0.0 if convention["debias"] else 1.0
    buffers = {"mean": np.zeros(4), "variance": np.full(4, start), "count": np.zeros(())}
    for batch in X:
        buffers = {**buffers, **average.move(batch, buffers)}
    return average.read(buffers)


def test_plain_torchs_running_averages():
    norm = torch.nn.BatchNorm1d(4, dtype=torch.float64)
    for batch in X:
        norm(torch.tensor(batch))
    found = moved(unbiased=True, debias=False)
    np.testing.assert_allclose(found["mean"], norm.running_mean.numpy(), rtol=1e-15)
    np.testing.assert_allclose(found["variance"], norm.running_var.numpy(), rtol=1e-14)


def test_plain_haikus_running_averages():
    def forward(x):
        return hk.BatchNorm(create_scale=True, create_offset=True, decay_rate=0.9, name="norm")(
            x, is_training=True
        )

    with jax.enable_x64(True):
        model = hk.transform_with_state(forward)
        params, state = model.init(None, jax.numpy.asarray(X[0]))
        for batch in X:
            _, state = model.apply(params, state, None, jax.numpy.asarray(batch))
    found = moved(unbiased=False, debias=True)
    np.testing.assert_allclose(found["mean"], state["norm/~/mean_ema"]["average"][0], rtol=1e-13)
    np.testing.assert_allclose(found["variance"], state["norm/~/var_ema"]["average"][0], rtol=1e-12)


def test_plain_torchs_dropout_is_the_same_product():
    """What nn.Dropout does to x is x times what it does to ones, under the same draw."""
    x = torch.tensor(X[0])
    drop = torch.nn.Dropout(0.3)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        mask = drop(torch.ones_like(x))
        torch.manual_seed(0)
        dropped = drop(x)
    assert set(np.unique(mask)) == {0.0, 1 / 0.7}
    np.testing.assert_allclose((x * mask).numpy(), dropped.numpy(), rtol=1e-15)


def test_masks_keep_about_as_many_as_stated_and_change_each_epoch():
    one = problem([L("scale"), L("dropout", rate=0.25), L("dropout", rate=0.25)], np.ones((500, 8)))
    batches = one.batches()
    first, second = (batches.masks(0)[f"{place}.dropout"] for place in (1, 2))
    assert np.mean(first > 0) == pytest.approx(0.75, abs=0.03)
    assert set(np.unique(first)) == {0.0, 1 / 0.75}
    assert (first != second).any(), "layers of one seed draw differently"
    assert (first != batches.masks(1)["1.dropout"]).any()
    np.testing.assert_array_equal(first, one.batches().masks(0)["1.dropout"])


def test_plain_torchs_attention_is_ours():
    layer, shape = L("attention", heads=2, causal=True), (5, 4)
    one = problem([layer], data(layer, shape))
    parameters = one.initial
    plain = torch.nn.MultiheadAttention(4, 2, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        kinds = [f"0.attention/{{}}_{part}" for part in ("query", "key", "value")]
        plain.in_proj_weight.copy_(
            torch.tensor(np.concatenate([parameters[key.format("w")].T for key in kinds]))
        )
        plain.in_proj_bias.copy_(torch.tensor(np.concatenate([parameters[key.format("b")] for key in kinds])))
        plain.out_proj.weight.copy_(torch.tensor(parameters["0.attention/w_output"].T.copy()))
        plain.out_proj.bias.copy_(torch.tensor(parameters["0.attention/b_output"]))
        x = torch.tensor(one.x)
        later = torch.ones(5, 5, dtype=torch.bool).triu(1)  # torch's mask is true where it may not look
        expected, _ = plain(x, x, x, attn_mask=later)
    found = observed("numpy", one)["forward/0.attention"]
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: problem([L("tanh")], np.ones((3, 2))), "the model has no parameters"),
        (lambda: L("dropout", rate=1.0), "rate is out of range"),
        (lambda: L("dropout", rate=-0.1), "rate is out of range"),
        (lambda: L("layer_norm", epsilon=0.0), "epsilon is out of range"),
        (lambda: L("batch_norm", momentum=0.0), "momentum is out of range"),
        (lambda: L("residual"), "give branches"),
        (lambda: L("tanh", branches=[[L("tanh")]]), "give it none"),
        (lambda: L("residual", branches=[["tanh"]]), "the layer has the wrong type"),
        (
            lambda: placed(L("conv1d", size=1, window=5), (4, 1)),
            "window no longer than the padded input: 5 > 4",
        ),
        (lambda: placed(L("conv1d", size=1, window=1), (4,)), r"needs \(length, channels\)"),
        (lambda: placed(L("conv2d", size=1, window=1), (4, 1)), r"needs \(height, width, channels\)"),
        (lambda: placed(L("max_pool", window=2, padding=2), (4, 1)), "at most half the window"),
        (lambda: placed(L("average_pool", window=2), (4,)), "or"),
        (lambda: placed(L("attention", heads=3), (5, 4)), "a width that 3 heads divide, not 4"),
        (lambda: placed(L("attention"), (4,)), "needs sequences"),
        (lambda: placed(L("residual", branches=[[L("linear", size=3)]]), (4,)), "do not go together"),
        (
            lambda: placed(L("parallel", branches=[[L("flatten")], []]), (4, 2)),
            r"outputs \(8,\), \(4, 2\) of an input \(4, 2\)",
        ),
        (lambda: problem([L("tanh"), L("embedding", ids=9, size=1)], np.ones((3, 2))), "must stand first"),
        (lambda: problem([L("embedding", ids=9, size=1)], np.full((3, 2), 9.0)), "9 at index .*\n.*0 to 8"),
        (lambda: problem([L("embedding", ids=9, size=1)], np.full((3, 2), 0.5)), "whole numbers"),
        (
            lambda: problem([L("batch_norm")], np.ones((5, 2)), batching=Batching(size=4)),
            "at least two values a channel",
        ),
    ],
)
def test_what_is_refused(make, words):
    with pytest.raises(ProblemError, match=words) as caught:
        make()
    assert all((caught.value.what, caught.value.got, caught.value.fix))


def placed(layer, shape):
    return place_layers((layer,), shape)


def test_one_row_of_a_series_has_enough_values_for_a_batch_norm():
    assert problem([L("batch_norm")], np.ones((5, 3, 2)), batching=Batching(size=4)).has_modes


def test_drawn_scales_are_one_and_weights_have_their_fan_in():
    model = (L("conv1d", size=64, window=3), L("layer_norm"))
    drawn = draw(model, (5, 12), seed=0)
    np.testing.assert_array_equal(drawn["1.layer_norm/scale"], np.ones(64))
    np.testing.assert_array_equal(drawn["1.layer_norm/offset"], np.zeros(64))
    assert drawn["0.conv1d/w"].std() == pytest.approx(1 / 6, rel=0.1)


def test_a_lost_buffer_and_a_wrong_one_differ():
    """The comparison looks at buffers and at the output in evaluation."""
    import lockstep
    from lockstep.backends.numpy_vjp.backend import NumPyBackend, NumPyTrainer

    class Frozen(NumPyTrainer):
        def _moved(self, state, batch):
            return state

    class Lost(NumPyTrainer):
        def read(self, state):
            return dataclasses.replace(super().read(state), buffers={})

    class Broken(NumPyBackend):
        name = "broken"

        def __init__(self, made):
            self.trainer = made

    one = problem([L("batch_norm")], data(L("batch_norm"), (4,)))
    frozen = lockstep.verify(one, backends=["numpy", Broken(Frozen)], dtypes=["float64"])
    parted = {found.quantity for found in frozen.comparisons if found.verdict == "DIFFER"}
    assert parted == {"0.batch_norm/mean", "0.batch_norm/variance", "evaluation"}
    assert lockstep.verify(one, backends=["numpy", Broken(Lost)]).verdict != "AGREE"
