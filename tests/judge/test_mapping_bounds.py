"""How near the gradients of counterparts are, how far their rivals, and how much is tried: each number from both sides.

What a whole search shows is asked of `find_mapping`, with sides in NumPy. Caps on how much is tried are approached by
stand-ins, for a model with so many layouts would take minutes. `README.md` in this folder lists the numbers.
"""

from types import SimpleNamespace

import numpy as np
import pytest

from lockstep import Verdict
from lockstep.backends.adoption import AdoptionError, Draw
from lockstep.backends.numpy_vjp import Function, dot, mean_squared_loss
from lockstep.backends.numpy_vjp.adoption.trainer import NumPyAdopted
from lockstep.backends.problem import Batch
from lockstep.harness.mapping.link import Link
from lockstep.harness.matching import evidence, find
from lockstep.harness.matching.find import PROBES, find_mapping
from lockstep.harness.matching.likely import likeliest
from lockstep.harness.matching.masks import both_keeping_all, paired
from lockstep.harness.matching.search import Search
from lockstep.harness.matching.signals import Signals
from lockstep.harness.matching.slices import ParameterSlice
from lockstep.harness.matching.stepped import Stepped
from lockstep.harness.verification import adopted
from tests.judge.sides import CHAIN, SAME, TANH, WIDTH, batches, params, side, transform

OTHER = {"w0": "u", "b0": "c", "w1": "v", "b1": "d"}
"""Names of a port that say nothing."""


def renamed(kind=NumPyAdopted):
    chain = [(function, OTHER.get(name)) for function, name in CHAIN]
    held = {OTHER[name]: value for name, value in params().items()}
    return kind(chain, mean_squared_loss, transform(learning_rate=0.1, momentum=0.0), held, "port")


def noisy(name, share):
    """The gradient of one parameter is off by a share of itself, up or down."""

    class Noisy(NumPyAdopted):
        def gradients(self, state, batch):
            state, loss, grads = super().gradients(state, batch)
            signs = np.random.default_rng(5).choice((-1, 1), grads[name].shape)
            return state, loss, {**grads, name: grads[name] * (1 + share * signs)}

    return Noisy


@pytest.mark.parametrize("name", ["w0", "w1", "b0"])
@pytest.mark.parametrize(("share", "confirmed"), [(0.045, True), (0.06, False)])
def test_the_gradients_of_counterparts_may_be_off_by_a_twentieth(name, share, confirmed):
    """A port with a fault of a few per cent is mapped, so that the fault is found; what is further off is not confirmed.

    It is linked all the same, for it is all that the others leave.
    """
    found = find_mapping(side(), renamed(noisy(OTHER[name], share)), batches(2))
    assert {one.left: one.right for one in found.links} == OTHER
    assert [one.left for one in found.unconfirmed] == ([] if confirmed else [name])


class Twice(NumPyAdopted):
    """x·a + (1 + δ) x·b: the gradients of a and b are the same but for a share δ of themselves."""

    capabilities = frozenset({"optimizer_state"})
    delta = 0.0
    noise = 0.0

    def gradients(self, state, batch):
        a, b = state.parameters.values()
        more = a.dtype.type(1 + self.delta)
        off = batch.x @ a + more * (batch.x @ b) - batch.y
        grad = 2 * batch.x.T @ off / len(off)
        grad = (grad * (1 + self.noise * np.array([1, -1, 1, -1]))).astype(grad.dtype)
        return state, np.mean(off * off), dict(zip(state.parameters, (grad, more * grad), strict=True))


def alike(names, delta, noise=0.0, dtype="float64"):
    kind = type("Alike", (Twice,), {"delta": delta, "noise": noise})
    held = {name: np.ones(4, dtype) for name in names}
    return kind([], mean_squared_loss, transform(learning_rate=0.1, momentum=0.0), held, names[0])


def rows():
    rng = np.random.default_rng(0)
    return [(rng.standard_normal((8, 4)), rng.standard_normal(8))]


@pytest.mark.parametrize(
    ("dtype", "delta", "linked"),
    [
        ("float64", 2e-8, True),
        ("float64", 5e-9, False),
        ("float32", 2e-3, True),
        ("float32", 5e-4, False),
    ],
)
def test_rivals_nearer_than_ten_times_rounding_are_not_told_apart(dtype, delta, linked):
    """Rounding is 1e-9 and 1e-4 of a gradient."""
    found = find_mapping(alike("ab", delta, dtype=dtype), alike("pq", delta, dtype=dtype), rows())
    assert {one.left: one.right for one in found.links} == ({"a": "p", "b": "q"} if linked else {})


@pytest.mark.parametrize(("delta", "linked"), [(1.5e-2, True), (7e-3, False)])
def test_a_rival_must_be_ten_times_as_far_away(delta, linked):
    """The gradients of p and q are off by 1e-3."""
    found = find_mapping(alike("ab", delta), alike("pq", delta, noise=1e-3), rows())
    assert ("a" in {one.left for one in found.links}) is linked


class Standing(Search):
    """A search that stands where a test puts it: one pair, in so many layouts, the last of which is right."""

    def __init__(self, layouts):
        self.links, self.still, self.open, self.ambiguous = (
            [],
            (["a"], ["p"]),
            ([ParameterSlice("a")], [ParameterSlice("p")]),
            [],
        )
        self.last = SimpleNamespace(invariant_distance=lambda *pair: 0.0, distance=lambda link: 0.0)
        self.every = [Link("a", "p", reshape=(number + 1,)) for number in range(layouts)]
        self._floor = 1e-9
        self.in_vain = set()

    def layouts(self, left, right, by=""):
        return iter(self.every)

    def shape(self, array_slice, side):
        return (1,)

    def size(self, array_slice, side):
        return 1

    def look(self, probe, extra=(), seed=None):
        good = self.every[-1] in (*self.links, *extra)
        return SimpleNamespace(left={}, right={}, loss_distance=0.0 if good else 1.0)


@pytest.mark.parametrize(("layouts", "linked"), [(24, True), (25, False)])
def test_all_orders_of_four_axes_are_tried_out_and_no_more(layouts, linked):
    search = Standing(layouts)
    assert evidence.by_trial(search, evidence.ranked(search), PROBES[0]) == (
        [search.every[-1]] if linked else []
    )


@pytest.mark.parametrize(("layouts", "linked"), [(400, True), (401, False)])
def test_four_hundred_links_of_buffers_are_tried_out_and_no_more(layouts, linked):
    search = Standing(layouts)
    assert evidence.frozen(search, PROBES[0]) == ([search.every[-1]] if linked else [])


@pytest.mark.parametrize(("distance", "linked"), [(0.8e-3, True), (1.3e-3, False)])
def test_losses_a_thousandth_apart_are_not_of_one_function(distance, linked):
    """What names pair in full is not paired by the function of a port that computes something else."""
    search = Standing(1)
    search.look = lambda probe: SimpleNamespace(
        loss_distance=distance, shown=lambda *pair: True, distance=lambda link: 0.0
    )
    find._run(search, by_name=False, one_function=True)
    assert bool(search.links) is linked


@pytest.mark.parametrize(
    ("straight", "turned", "chosen"),
    [
        # The cosines with the left gradient as it is, and transposed.
        (0.55, 0.0, 0),
        (-0.55, 0.1, 0),
        (0.1, 0.55, 1),
        (0.45, 0.0, None),
        (0.0, 0.45, None),
        (0.8, 0.35, 0),
        (0.35, -0.8, 1),
        (0.8, 0.5, None),
    ],
)
def test_of_a_wrong_port_the_layout_is_likely_in_which_half_of_the_gradient_is_left(straight, turned, chosen):
    """Of two layouts no gradient of which is near: measured, wrong ones have a cosine of 0.8 by chance, and then right ones have 0.5."""
    whole = np.eye(4)[1].reshape(2, 2)
    other = np.sqrt(1 - straight**2 - turned**2) * np.eye(4)[0].reshape(2, 2)
    port = straight * whole + turned * whole.T + other
    signals = Signals({"a": np.stack([whole] * 2)}, {"p": np.stack([port] * 2)}, {}, {}, np.ones((2, 2)))
    layouts = [Link("a", "p"), Link("a", "p", transpose=(1, 0))]
    assert likeliest(signals, layouts) == (None if chosen is None else layouts[chosen])


@Function
def scaled(x, w):
    return x * w


@scaled.define_vjp
def scaled_make_vjp(x, w):
    return lambda u: (u * w, (u * x).sum(0))


def in_series(last, names):
    """Scales in a row, the last of which is called `last`; one that is among the others is tied to it."""
    chain = [link for name in (*names, last) for link in ((scaled, name), (TANH, None))]
    held = dict(zip(names, np.random.default_rng(3).uniform(0.5, 1.5, (len(names), WIDTH)), strict=True))
    held |= {last: held[names[-1]], "out": np.random.default_rng(4).standard_normal((WIDTH, 2))}
    made = transform(learning_rate=0.1, momentum=0.0)
    return NumPyAdopted([*chain, (dot, "out")], mean_squared_loss, made, held, last)


@pytest.mark.parametrize(("number", "found"), [(8, True), (9, False)])
def test_eight_parameters_are_tried_as_the_one_that_another_is_tied_to(number, found):
    """The last of them is; where it is not found, the gradients of the two sides differ in it."""
    names = [f"s{at}" for at in range(number)]
    data = [(x, np.hstack([y, -y])) for x, y in batches(1)]
    mapping = find_mapping(in_series(names[-1], names), in_series("tail", names), data)
    assert {one.left: one.right for one in mapping.links} == {name: name for name in (*names, "out")}
    assert [one.left for one in mapping.unconfirmed] == ([] if found else [names[-1]])


@pytest.mark.parametrize(
    ("swapped", "named"),
    [((24, 28), True), ((25, 26), False)],  # of the pairs of 29 parameters the 400th and the 401st
)
def test_four_hundred_mappings_are_tried_as_the_right_one(swapped, named):
    names = [f"s{at:02}" for at in range(29)]
    one, two = (names[at] for at in swapped)
    mapping = {**dict(zip(names, names, strict=True)), "out": "out", one: two, two: one}
    sides = [in_series(names[-1], names) for _ in range(2)]
    data = [(x, np.hstack([y, -y])) for x, y in batches(2)]
    (case,) = adopted.verify(sides, data, mapping=mapping, diagnose="all").cases
    assert case.verdict is Verdict.DIFFER
    explanation = case.diagnoses[0].explanation
    assert (explanation.name if explanation else None) == ("swapped" if named else None)


def test_every_look_is_at_two_probes():
    """Of one, whatever multiple of the other loss a loss is would be taken for a matter of units."""
    search = Search(*(Stepped(one, Batch(*batches(1)[0], {}), False) for one in (side(), renamed())))
    assert search.look(PROBES[0]).losses.shape == (2, 2)


BATCH = Batch(np.zeros((2, 1)), np.zeros((2, 1)), {})


def dropping(order, rates=None):
    """A side whose loss depends on each of its masks in a way of its own; it draws them in this order."""
    weights = np.random.default_rng(0).standard_normal((len(order), 5))
    draws = tuple(Draw(f"draw {one}", (rates or {}).get(one, 0.5), (5,)) for one in order)
    trainer = SimpleNamespace(name="side", dtype="float64", draws=lambda batch: draws)

    def loss(batch):
        return 1.0 + sum(float(batch.masks[str(at)] @ weights[one]) for at, one in enumerate(order))

    return SimpleNamespace(name="side", trainer=trainer, mapping=SAME, shapes={}, loss=loss)


@pytest.mark.parametrize(("draws", "paired_by_function"), [(27, True), (31, False)])
def test_four_hundred_pairs_of_masks_are_tried_out(draws, paired_by_function):
    """Masks drawn in the opposite order: 27 take 366 trials, 31 would take 482, and the rest is paired as they come."""
    left, right = dropping(range(draws)), dropping(range(draws)[::-1])
    found = [one.places for one in paired(left, right, BATCH)]
    opposite = [(at, draws - 1 - at) for at in range(draws)]
    assert (found == opposite) is paired_by_function
    assert sum(one in opposite for one in found) > draws / 2


@pytest.mark.parametrize(
    ("distance", "same"),
    [(2.0**-23, True), (8e-7, True), (1.5e-6, False)],  # one eps of float32, in which a rate may be held
)
def test_rates_that_are_held_in_single_precision_are_the_same(distance, same):
    left, right = dropping(range(2)), dropping(range(2), {1: 0.5 + distance})
    if same:
        paired(left, right, BATCH)
        both_keeping_all(left.trainer, right.trainer, BATCH)
        return
    with pytest.raises(AdoptionError, match="drops at another rate"):
        paired(left, right, BATCH)
    with pytest.raises(AdoptionError, match="drops at another rate"):
        both_keeping_all(left.trainer, right.trainer, BATCH)
