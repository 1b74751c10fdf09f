"""All checks of an optimizer, in the order in which a new one comes to pass them."""

from __future__ import annotations

from lockstep.harness.conformance.optimizers import alone
from lockstep.harness.conformance.optimizers import sequences as courses
from lockstep.harness.conformance.optimizers.check import OptimizerCheck, compared

OPTIMIZER_CHECKS = (
    OptimizerCheck(
        "form",
        "parameters that keep dtype and shape: one that grows to float64 is trained in another precision",
        "cast what is added to a parameter to its dtype; make no array of Python floats in the default dtype",
        alone.form,
    ),
    OptimizerCheck(
        "arguments kept",
        "gradients that are as they were: clipping, logging and accumulating read them after the update",
        "form g + λ w in a new array, not by add_ on the gradient",
        alone.kept,
    ),
    OptimizerCheck(
        "repeats",
        "two runs that are one run, to the bit: hidden random numbers make every comparison a matter of luck",
        "draw from a key or generator that stands in the state, and is seeded",
        alone.repeats,
    ),
    OptimizerCheck(
        "continues",
        "a run from a checkpoint that goes on as if it had not stopped, to the bit",
        "keep all that moves in the state that is saved: of torch self.state[p] and param_groups, of Optax the state",
        alone.continues,
    ),
    compared(
        "first update",
        courses.first,
        "the same parameters after one update, within rounding",
        "the learning rate, its sign, the bias correction at t = 1, the dampening of the first gradient",
    ),
    compared(
        "many updates",
        courses.many,
        "the same parameters after every one of many updates, within rounding",
        "the averages' factors, the bias correction's count, the schedule, the decay",
    ),
    compared(
        "constant gradients",
        courses.constant,
        "the same sum of the same gradient: shows factors, corrections and a schedule's course",
        "the learning rate's course, the momentum's factor, the dampening",
    ),
    compared(
        "zero gradients",
        courses.zero,
        "the same of no gradient: decay alone, and no 0/0",
        "the weight decay, coupled or not, and epsilon, without which 0/0 is NaN",
    ),
    compared(
        "gradients that stop",
        courses.stopping,
        "the same of what is remembered, after gradients that are zero from the fourth update on",
        "the momentum, and whether a zero gradient is passed over",
    ),
    compared(
        "tiny gradients",
        courses.tiny,
        "the same of gradients far below epsilon: its place and size are all that counts",
        "epsilon: inside the root or outside, before the bias correction or after, and its size",
    ),
    compared(
        "huge gradients",
        courses.huge,
        "the same of gradients whose square is near to the largest float32",
        "a clip, and squares that overflow",
    ),
    compared(
        "spike",
        courses.spike,
        "the same after one gradient that is far larger than the others: what a maximum or an average remembers",
        "AMSGrad's maximum, the averages' factors, a clip",
    ),
    compared(
        "sparse gradients",
        courses.sparse,
        "the same of elements that have a gradient at one update in three, or never",
        "0/0, an average over a parameter where it should be of each element, zeros that are passed over",
    ),
    compared(
        "sign changes",
        courses.turning,
        "the same of gradients that turn",
        "Nesterov's form, the order of momentum and rate, what is done where the sign changes",
    ),
)
"""All of them."""

COURSES = tuple(one.course for one in OPTIMIZER_CHECKS if one.course is not None)
"""Those on which both sides are compared."""
