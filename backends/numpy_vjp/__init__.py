"""The hand-written reference: functions with their VJPs, chained in the seed's functional style.

Imports NumPy only.
"""

from lockstep.backends.numpy_vjp.adoption.trainer import adopt
from lockstep.backends.numpy_vjp.calculus import jacobian, jvp, vjp
from lockstep.backends.numpy_vjp.chain import backward_diff_chain, compose, evaluate_chain
from lockstep.backends.numpy_vjp.function import Function, unbroadcast
from lockstep.backends.numpy_vjp.ops.add import add
from lockstep.backends.numpy_vjp.ops.dot import dot
from lockstep.backends.numpy_vjp.ops.squared_loss import mean_squared_loss, squared_loss
from lockstep.backends.numpy_vjp.optimizers import sgd, update_params

__all__ = [
    "Function",
    "add",
    "adopt",
    "backward_diff_chain",
    "compose",
    "dot",
    "evaluate_chain",
    "jacobian",
    "jvp",
    "mean_squared_loss",
    "sgd",
    "squared_loss",
    "unbroadcast",
    "update_params",
    "vjp",
]
