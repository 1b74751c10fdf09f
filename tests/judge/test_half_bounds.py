"""The limit of stages that come of modules in half precision.

`README.md` in this folder lists the numbers, and by how much each may be off before a test here fails.
"""

from lockstep import Verdict
from tests.harness.adopted.test_half_precision import jax, jax_side, torch_side, verified


def test_another_order_of_rounding_is_no_difference():
    """A bias added before the sum is rounded, or after: a gradient is 0.6 spreads of its inputs' rounding off."""
    _, found = verified(torch_side(), jax_side())
    assert not found.ledger.blamed


def test_another_activation_is_a_difference():
    """relu in place of tanh: the output is a third of its scale off, 20 spreads."""
    result, found = verified(torch_side(), jax_side(activation=jax.nn.relu))
    assert result.verdict is Verdict.DIFFER
    assert "in the output of output" in found.sentence
