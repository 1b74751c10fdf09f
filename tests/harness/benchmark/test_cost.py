"""What a problem needs at least, counted by hand."""

import numpy as np
import pytest

from lockstep.backends.problem import Average, Batching, Layer, Optimizer
from lockstep.harness.benchmark.cost import need_of, numbers_updated, products
from lockstep.harness.benchmark.growth import fitted
from lockstep.harness.benchmark.limits import Limits, Prober
from lockstep.harness.benchmark.sample import Failure
from lockstep.harness.problems import find
from lockstep.harness.problems.initial import draw
from tests.conftest import square_problem


def test_the_seed():
    """30 rows of 2 + 1 numbers an epoch; 3 parameters both ways an update; 2 products and 2 for the weight's gradient."""
    need = need_of(find("seed"))
    assert need.data_bytes == 30 * 3 * 8
    assert need.bytes == 10 * (30 * 3 * 8 + 2 * 3 * 8)
    assert need.flops == 10 * 30 * (4 + 4)
    half = need_of(find("seed").replace(dtype="float32"))
    assert (half.bytes, half.flops) == (need.bytes // 2, need.flops)


def test_layers_behind_the_first_also_need_their_input():
    problem = square_problem()  # 3 -> 3 -> 2
    assert products(problem) == 2 * 2 * 9 + 3 * 2 * 6


def test_a_convolution_multiplies_at_every_place():
    layers = (Layer("conv1d", size=4, window=3), Layer("flatten"), Layer("linear", size=1))
    model = placed(layers, x=np.ones((5, 8, 2)))  # six places of 3 x 2 x 4, then 24 numbers
    assert products(model) == 2 * 2 * 6 * 24 + 3 * 2 * 24


def test_a_table_of_ids_multiplies_nothing():
    layers = (Layer("embedding", ids=9, size=4), Layer("flatten"), Layer("linear", size=1))
    assert products(placed(layers, x=np.ones((5, 3)))) == 3 * 2 * 12


def test_the_first_layers_of_branches_need_no_input():
    """Each begins at the data, whatever stands in the branch before it."""
    branches = [[Layer("linear", size=4)], [Layer("linear", size=4)]]
    layers = (Layer("parallel", branches=branches), Layer("linear", size=1))
    assert products(placed(layers, x=np.ones((5, 3)))) == 2 * 2 * 2 * 12 + 3 * 2 * 8


def placed(layers, x):
    initial = draw(layers, x.shape[1:], seed=0)
    return square_problem(x=x, y=np.ones((len(x), 1)), model=layers, initial=initial)


def test_an_update_moves_what_the_optimizer_keeps():
    count = 9 + 3 + 6 + 2
    assert numbers_updated(square_problem()) == count
    assert numbers_updated(square_problem(optimizer=Optimizer("adam", learning_rate=0.1))) == 3 * count
    assert numbers_updated(square_problem(average=Average("ema", decay=0.9))) == 2 * count


def test_rows_that_are_dropped_are_not_needed():
    whole = need_of(square_problem(batching=Batching(6)))
    cut = need_of(square_problem(batching=Batching(5, keep_last=False)))
    assert cut.flops * 12 == whole.flops * 10


def test_the_limit_is_the_slower_of_moving_and_multiplying():
    need = need_of(find("seed"))
    assert need.seconds(Limits({720: 1e9}, {"float64": 1e15}), "float64") == need.bytes / 1e9
    assert need.seconds(Limits({720: 1e15}, {"float64": 1e9}), "float64") == need.flops / 1e9
    assert need.seconds(Limits({721: 1e9}, {"float64": 1e9}), "float64") is None


def test_limits_are_medians_over_the_rounds_and_a_failure_leaves_a_gap():
    found = iter(
        [{"copy": [[8, rate]], "matmul": [["float64", 2 * rate]]} for rate in (1.0, 9.0, 2.0)]
        + [Failure("no")]
    )
    prober = Prober(lambda: next(found))
    for _ in range(4):
        prober()
    assert prober.limits() == Limits({8: 2.0}, {"float64": 4.0})


@pytest.mark.parametrize("power", [0.0, 1.0, 1.5])
def test_an_exponent_is_found(power):
    found = fitted([(size, 3e-7 * size**power) for size in (1e5, 1e3, 1e4)])
    assert (found.exponent, found.least, found.most) == pytest.approx((power,) * 3)


def test_a_bend_shows_between_neighbours_and_one_size_has_no_growth():
    bent = fitted([(1e2, 1e-3), (1e3, 1e-3), (1e4, 1e-2)])
    assert (bent.least, bent.most) == pytest.approx((0, 1))
    assert bent.exponent == pytest.approx(0.5)
    assert fitted([(10, 1.0)]) is None
    assert fitted([(10, 1.0), (10, 2.0)]) is None
