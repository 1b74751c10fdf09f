"""The known mistakes of training code: one table of explanations, for any run.

A row names the mistake and proposes interventions under which an implementation that is right would make it: from the formula
of a problem where there is one, from the observed stages where not. The most specific come first: a later row does
not repeat the explanation of an earlier one. `lockstep.harness.diagnose.explain` confirms them by training.
"""

from __future__ import annotations

from lockstep.harness.explanations import (
    gradients,
    observed,
    observed_updates,
    optimizer,
    run,
)
from lockstep.harness.explanations.explanation import (
    Explanation,
    in_turn,
)

REDUCTION = Explanation("mean and sum", "averages the loss for its sum, or sums it", run.reduction)
HALF_SQUARES = Explanation("half squares", "takes e²/2 for e², or e² for e²/2", run.half_squares)
LAST_BATCH = Explanation("last batch", "drops the last, short batch, or trains on it", run.last_batch)
BATCH_ORDER = Explanation("batch order", "does not shuffle the rows", run.order)
LENGTH = Explanation("length of the run", "trains one epoch too few or too many", run.short_run)
REARRANGED = Explanation(
    "rearranged parameter", "starts from transposed or permuted parameters", run.rearranged
)
TRANSPOSED_GRADIENT = Explanation(
    "transposed gradient",
    "transposes the gradient of a square weight",
    in_turn(gradients.transposed_gradient, observed.gradients_transposed),
)
SWAPPED_GRADIENTS = Explanation(
    "swapped gradients", "exchanges the gradients of two parameters", observed.gradients_swapped
)
SIGN = Explanation(
    "sign", "ascends the loss", in_turn(gradients.sign, observed.ascent, observed_updates.ascent)
)
ACCUMULATION = Explanation(
    "accumulation", "sums accumulated gradients instead of averaging them", gradients.accumulated
)
WEIGHT_DECAY = Explanation(
    "weight decay",
    "couples a decoupled weight decay with the gradient or the other way round, leaves it out, or has another",
    in_turn(optimizer.weight_decay, observed_updates.decoupled_decay, observed_updates.coupled_decay),
)
NESTEROV = Explanation("Nesterov and plain momentum", "takes one momentum for the other", optimizer.nesterov)
NO_MOMENTUM = Explanation("no momentum", "leaves the momentum out", optimizer.momentum)
DAMPENING = Explanation(
    "dampening",
    "averages the gradients in its momentum instead of summing them, or the other way round",
    in_turn(optimizer.dampening, observed_updates.dampening),
)
EPSILON_PLACE = Explanation(
    "place of epsilon",
    "adds epsilon inside the root for outside of it, or before the bias correction for after it",
    optimizer.epsilon_place,
)
EPSILON_SIZE = Explanation("size of epsilon", "has another default of epsilon", optimizer.epsilon_size)
BIAS_CORRECTION = Explanation(
    "bias correction", "leaves one or both of Adam's bias corrections out", optimizer.bias_correction
)
SCHEDULE = Explanation(
    "schedule", "leaves the schedule out, is a step ahead or late, or counts batches", run.schedule
)
UPDATE_COUNT = Explanation(
    "update count",
    "counts its updates from one too many",
    in_turn(run.counter, observed_updates.counted_ahead),
)
PENALTY = Explanation("penalty", "leaves the penalty out, or penalises other parameters", run.penalties)
CLIP = Explanation(
    "clip",
    "does not clip the gradients, or clips them another way",
    in_turn(run.clip, observed_updates.clipped, observed_updates.added_to_norm),
)
OPTIMIZER_SWITCH = Explanation(
    "switch of the optimizer", "turns an option of the optimizer on or off", optimizer.other_switch
)
CONVENTIONS = Explanation(
    "conventions of another framework", "has the defaults of another framework", optimizer.preset
)
CONSTANT_RATIO = Explanation(
    "constant ratio",
    "multiplies the loss, gradients or updates by a number",
    in_turn(
        gradients.ratio,
        observed.loss_multiplied,
        observed.gradients_multiplied,
        observed_updates.updates_multiplied,
    ),
)
NO_GRADIENT = Explanation("no gradient", "gives a parameter no gradient", observed.no_gradient)
STALE_GRADIENT = Explanation("stale gradient", "applies the gradients of the step before", gradients.stale)
NEVER_UPDATED = Explanation(
    "parameter never updated",
    "does not give a parameter to the optimizer",
    in_turn(gradients.untouched, observed_updates.untouched),
)
SINGLE_PRECISION = Explanation(
    "single precision",
    "rounds to float32 in a float64 run",
    in_turn(gradients.single, observed_updates.single_rate),
)
LEARNING_RATE = Explanation(
    "learning rate",
    "has another learning rate, or another schedule of it",
    in_turn(observed_updates.learning_rate, observed_updates.rescheduled),
)
REPORTED_LOSS = Explanation(
    "reported loss", "reports a multiple of the loss that it trains", observed.loss_misreported
)
RUNNING_AVERAGE = Explanation("running average", "moves its buffers another way", observed.running_average)

EXPLANATIONS = (
    REDUCTION,
    HALF_SQUARES,
    LAST_BATCH,
    BATCH_ORDER,
    LENGTH,
    REARRANGED,
    TRANSPOSED_GRADIENT,
    SWAPPED_GRADIENTS,
    SIGN,
    ACCUMULATION,
    WEIGHT_DECAY,
    NESTEROV,
    NO_MOMENTUM,
    DAMPENING,
    EPSILON_PLACE,
    EPSILON_SIZE,
    BIAS_CORRECTION,
    SCHEDULE,
    UPDATE_COUNT,
    PENALTY,
    CLIP,
    OPTIMIZER_SWITCH,
    CONVENTIONS,
    CONSTANT_RATIO,
    NO_GRADIENT,
    STALE_GRADIENT,
    NEVER_UPDATED,
    SINGLE_PRECISION,
    LEARNING_RATE,
    REPORTED_LOSS,
    RUNNING_AVERAGE,
)
"""All that are known, the most specific first."""
