"""All checks, in the order in which a new backend comes to pass them."""

from __future__ import annotations

from lockstep.harness.conformance import (
    fit,
    isolation,
    layout,
    numbers,
    observed,
    steps,
    surface,
)
from lockstep.harness.conformance.check import Check
from lockstep.harness.conformance.problems import ALL, CLIPPED, ONCE, SQUARED

_FIT, _STAGES = frozenset({"fit"}), frozenset({"stages"})
_INJECT, _TWINS = frozenset({"stages", "inject"}), frozenset({"twins"})

CHECKS = (
    Check(
        "name",
        "reports and the command line call a backend by its name",
        "give the class an attribute `name`, a non-empty string",
        surface.name,
        problems=ONCE,
    ),
    Check(
        "supports",
        "a problem that cannot be trained is refused with a reason and not trained as another one; a backend that "
        "refuses everything would pass every other check",
        "return None for what is trained and `Unsupported(reason)` for the rest, from the problem alone",
        surface.supports,
        problems=ONCE,
    ),
    Check(
        "environment",
        "numbers depend on versions and precision switches; one that rounds to less than the dtype is not comparable",
        "return `version` and `reduced_precision`, and train with TF32 and the like switched off",
        surface.environment,
        problems=ONCE,
    ),
    Check(
        "methods",
        "the harness calls the methods of the protocol, by position and by name",
        "name methods and their arguments as backends/protocol.py does",
        surface.methods,
        problems=(*SQUARED, "seed"),
    ),
    Check(
        "capabilities",
        "the harness does what a trainer says that it can, and nobody hears a word of its own",
        "give a frozenset of words of `lockstep.backends.protocol.CAPABILITIES`",
        surface.capabilities,
    ),
    Check(
        "start",
        "two trainings that start apart cannot agree, and a transposed square weight fits without complaint",
        "in `init`, take `problem.initial_parameters()` and `initial_buffers()`; in `read`, turn your layout back",
        layout.start,
    ),
    Check(
        "given",
        "what training starts from is compared before any result is: a difference there is no fault of the training",
        "in `given`, read the data and the initial parameters back from where your framework holds them",
        layout.given,
    ),
    Check(
        "snapshots",
        "states of two backends are compared and exchanged by name, shape and dtype",
        "in `read`, give every kind of array in the canonical layout, sorted, and nothing where the problem has none",
        layout.snapshots,
    ),
    Check(
        "gradients layout",
        "gradients of one backend go into the optimizer of the other",
        "in `read_grads`, give every parameter's gradient in the parameter's layout and dtype; the loss has no axes",
        layout.gradients,
    ),
    Check(
        "predictions",
        "evaluation is compared, too: running averages for batch statistics, nothing dropped",
        "in `predict`, evaluate the model on x in evaluation mode and give a NumPy array in the problem's dtype",
        layout.predictions,
    ),
    Check(
        "halves",
        "the gradient and the update are compared apart; if they are not the step, the wrong thing is",
        "let `step` be `gradients`, then `apply`, or compute in both what the other does",
        steps.halves,
    ),
    Check(
        "gradients update nothing",
        "the update is attributed to `apply`: what moves before is blamed on the wrong half",
        "in `gradients`, move buffers only; accumulate, clip, update and count in `apply`",
        steps.gradients_only,
    ),
    Check(
        "continues",
        "every step of a lockstep run starts from a snapshot: what is lost in it looks like a wrong step",
        "let `read` give and `write` take everything that the next step needs: counts, moments, averages",
        steps.continues,
    ),
    Check(
        "short batch",
        "the last batch of an epoch may be short; a mean over the first one's length is wrong for it",
        "take the number of rows from the batch that is given, not from the first one",
        steps.short_batch,
    ),
    Check(
        "deterministic",
        "a difference between two backends can be distinguished from rounding only where each repeats itself",
        "draw nothing: masks and orders come with the batch; choose the framework's deterministic kernels",
        steps.deterministic,
    ),
    Check(
        "inputs unchanged",
        "all backends train the same problem object: what one changes, the next one trains",
        "copy what you are given before you change it in place",
        isolation.inputs,
    ),
    Check(
        "takes copies",
        "the harness changes and reuses its arrays after it has handed them over",
        "copy in `write`, `write_grads` and `step`: some frameworks share memory with NumPy's arrays",
        isolation.taken,
    ),
    Check(
        "hands out copies",
        "a view of a live buffer is another number after the next step",
        "copy in `read`, `read_grads`, `observe`, `predict`, `given` and for what `fit` records",
        isolation.handed_out,
    ),
    Check(
        "observing moves nothing",
        "what is looked at must be what is trained when nobody looks",
        "in `read`, `predict` and `observe`, neither consume the state nor count, draw or move buffers",
        isolation.observing,
    ),
    Check(
        "states apart",
        "one trainer is stepped from many states: twins, steps in lockstep, continuations",
        "keep everything that moves in the state, nothing in the trainer or the module's globals",
        isolation.states,
    ),
    Check(
        "threads",
        "a budget is measured in another thread while a backend trains",
        "set switches of the framework for the thread or the call, not for the process",
        isolation.threads,
    ),
    Check(
        "random states",
        "a user's own random numbers must not depend on whether something was verified",
        "draw from generators of your own, or put the framework's global state back",
        isolation.random_states,
    ),
    Check(
        "fit",
        "the whole run is what is judged, the step is what is diagnosed: they must train the same",
        "let `fit` count, batch, clip, average and record as one `step` after the other does",
        fit.fit,
        _FIT,
    ),
    Check(
        "recording",
        "what is recorded must be the run that is judged",
        "record beside the computation, and only what was asked for",
        fit.recording,
        _FIT,
    ),
    Check(
        "stages complete",
        "the first stage that differs is named; one that is missing cannot be",
        "in `observe`, give every stage of `lockstep.backends.protocol.STAGES` in the order of one step, then `select`",
        observed.complete,
        _STAGES,
    ),
    Check(
        "stages of the step",
        "stages are evidence only if the real step computes the same",
        "compute in `observe` what `gradients` computes: the same mode, masks, penalties and reductions",
        observed.of_the_step,
        _STAGES,
    ),
    Check(
        "nothing clipped",
        "a stage that the problem does not have would be compared with nothing",
        "in `clipped`, give nothing where the problem's clip is `none`",
        observed.not_clipped,
        _STAGES,
    ),
    Check(
        "clipped",
        "what the update is made of is compared before the update is",
        "in `clipped`, accumulate and clip as `apply` will, and give nothing where no update is due",
        observed.clipped,
        _STAGES,
        CLIPPED,
    ),
    Check(
        "own stages injected",
        "injecting is how a layer is compared on equal inputs: with its own inputs it computes what it computed",
        "go on from the injected value exactly where the stage's own value would be taken",
        observed.own_injected,
        _INJECT,
    ),
    Check(
        "injection",
        "an injected stage that is ignored, or that changes what comes before, puts the blame on the wrong layer",
        "compute what follows from the injected value, and give the stage itself as you compute it",
        observed.injected,
        _INJECT,
    ),
    Check(
        "injection by formula",
        "the reference could be wrong in the same way: here are the formulas of two layers",
        "let an injected output go into the next layer, an injected cotangent into the one before",
        observed.formulas,
        _INJECT,
        SQUARED,
    ),
    Check(
        "twins",
        "the budget is the spread of disturbed runs: none at all lets nothing pass, too wide a one lets all pass",
        "disturb every operation by about one rounding, from a generator seeded with `seed`",
        numbers.twins,
        _TWINS,
        ("seed", "square", "surrounded"),
    ),
    Check(
        "agrees",
        "the point of it all: what is supported trains what the reference trains; a part that is ignored shows here",
        "run `lockstep diagnose PROBLEM --backend NAME`, or refuse the problem in `supports`",
        numbers.agrees,
        problems=ALL,
    ),
)
"""Every rule of the protocol."""
