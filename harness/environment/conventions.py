"""Where the frameworks' defaults differ, by how much, and which arguments bring them together.

Every row of the registry that has presets is trained with each framework's own, on the NumPy backend: one
implementation, so that what differs is the convention. ``python -m lockstep.harness.environment.conventions`` writes docs/conventions.md.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from lockstep import backends
from lockstep.backends.ops import (
    AVERAGES,
    CLIPS,
    FUNCTIONS,
    LOSSES,
    OPTIMIZERS,
    SCHEDULES,
    Args,
    Rule,
)
from lockstep.backends.problem import (
    Arrays,
    Average,
    Clip,
    Layer,
    Loss,
    Member,
    Optimizer,
    Problem,
    Schedule,
)
from lockstep.backends.protocol import Recording
from lockstep.harness.problems.families.optimizers import network
from lockstep.harness.problems.initial import draw

SCHEMA_VERSION = 1
STEPS = (10, 100)
PAGE = Path(__file__).resolve().parents[2] / "docs" / "conventions.md"

EXAMPLES: Args = {"learning_rate": 1e-2, "limit": 0.5, "size": 8, "steps": 80, "factor": 0.97, "warmup": 10}
"""Values of arguments that have neither a preset nor a default."""

_START = Optimizer("sgd", learning_rate=0.05, momentum=0.9)


def _with_layer(layer: Layer) -> Problem:
    model = (Layer("linear", size=8), layer, Layer("linear", size=1))
    return network("conventions", _START).replace(model=model, initial=draw(model, (2,), seed=2))


KINDS: Mapping[str, tuple[Mapping[str, Rule], type[Member], Callable[[Any], Problem]]] = {
    "function": (FUNCTIONS, Layer, _with_layer),
    "loss": (LOSSES, Loss, lambda one: network("conventions", _START).replace(loss=one)),
    "optimizer": (OPTIMIZERS, Optimizer, lambda one: network("conventions", one)),
    "schedule": (SCHEDULES, Schedule, lambda one: network("conventions", _START).replace(schedule=one)),
    "clip": (CLIPS, Clip, lambda one: network("conventions", _START).replace(clip=one)),
    "average": (AVERAGES, Average, lambda one: network("conventions", _START).replace(average=one)),
}
"""Kind -> its table, its member of a problem, and the small problem that trains such a member."""


def conventions() -> dict[str, Any]:
    """The table as JSON values, according to ``conventions.schema.json``."""
    rows = [row for kind, (table, _, _) in KINDS.items() for name in table for row in _rows(kind, name)]
    return {"schema_version": SCHEMA_VERSION, "conventions": rows}


def _rows(kind: str, name: str) -> Iterator[dict[str, Any]]:
    """One row for each pair of presets; where there are words but no pair, one without figures."""
    rule = KINDS[kind][0][name]
    pairs = list(itertools.combinations(rule.presets, 2))
    row = {"kind": kind, "name": name, "words": rule.conventions}
    for pair in pairs:
        members = _members(kind, name, *pair)
        yield {
            **row,
            "frameworks": list(pair),
            "differ": _differences(*members),
            "after": _distances(kind, *members),
        }
    if rule.conventions and not pairs:
        yield {**row, "frameworks": list(rule.presets), "differ": [], "after": dict.fromkeys(map(str, STEPS))}


def _members(kind: str, name: str, left: str, right: str) -> tuple[Member, Member]:
    """The member with the arguments of either preset, at the first one's learning rate where there is one."""
    table, member, _ = KINDS[kind]
    rule = table[name]
    missing = {key for key, one in rule.arguments.items() if one.default is None}
    values = {key: rule.presets[left].get(key, EXAMPLES.get(key)) for key in missing}
    members = [member(name, **{**rule.presets[preset], **values}) for preset in (left, right)]
    return members[0], members[1]


def _differences(left: Member, right: Member) -> list[dict[str, Any]]:
    return [
        {"argument": key, "values": [left.args[key], right.args[key]]}
        for key in left.args
        if left.args[key] != right.args[key]
    ]


def _distances(kind: str, left: Member, right: Member) -> dict[str, float]:
    """max|Δθ| / max|θ| over all parameters after each of STEPS."""
    problem = KINDS[kind][2]
    one, other = _trained(problem(left)), _trained(problem(right))
    return {
        str(step): max(float(np.abs(one[key][step] - other[key][step]).max()) for key in one)
        / max(float(np.abs(one[key][step]).max()) for key in one)
        for step in STEPS
    }


def _trained(problem: Problem) -> Arrays:
    """Every parameter before the first step and after each."""
    problem = problem.replace(epochs=max(STEPS))
    trainer = backends.load("numpy").trainer(problem)
    parameters = trainer.fit(trainer.init(), problem.batches(), Recording(parameters=True)).parameters
    assert parameters is not None
    return parameters


def render(document: dict[str, Any]) -> RenderableType:
    """The table for a terminal."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("member", "frameworks", *(f"after {steps}" for steps in STEPS), "where they differ"):
        table.add_column(name, no_wrap=name != "where they differ")
    for row in document["conventions"]:
        member = f"{row['kind']} {row['name']}"
        frameworks = " / ".join(row["frameworks"])
        table.add_row(escape(member), frameworks, *map(_figure, row["after"].values()), escape(_where(row)))
    return table


def _where(row: dict[str, Any]) -> str:
    """The arguments that differ, each with both values, and the words."""
    arguments = [f"{one['argument']}: {one['values'][0]} / {one['values'][1]}" for one in row["differ"]]
    return "; ".join([*arguments, *([row["words"]] if row["words"] else [])]) or "nowhere"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.1e}" if value else "0"


INTRODUCTION = """# Where the frameworks' defaults differ

Written by `make conventions` from the tables of `backends/ops.py`; `lockstep list --conventions` prints the same.

Each member is trained with one framework's default arguments and with another's, both on the NumPy backend, in float64,
at the first framework's default learning rate ({rate:g} where it has none), on a tanh network 2-8-1 with 20 examples. The
figures are max|Δθ| / max|θ| after {steps} updates. The arguments named bring the two together: given to either
framework's backend, they make it train as the other, to rounding. What no argument reaches is said in words.

"""


PACKAGES = """
## Packages

Found by training models and optimizers of packages on both sides (`make real`, `tests/real/`), in float64. Each is a
difference of the packages, not of a port.

| where | what differs | how much |
| --- | --- | --- |
| BERT of transformers | torch's embedding has `padding_idx=0`: its row 0 gets no gradient; Flax trains it | the row alone |
| ResNet of transformers | torch keeps the variance of n − 1 in a running average, Flax that of n | 1 / n of the average; training is the same |
| Llama of transformers | the table of rotary embedding is in float32 on both sides: torch rounds the frequencies, Flax the angles | 1e-10 of attention's output |
| Llama, ViT of transformers | normalisation, softmax or the image are computed in float32 whatever the parameters are | 1e-10 to 1e-9 of the loss; judged without it |
| Prodigy | Optax divides 0 by 0 where the first gradients are zero; pytorch_optimizer leaves the parameters alone | NaN |
| Muon | torch.optim and pytorch_optimizer iterate in bfloat16, Optax in the parameters' dtype; pytorch_optimizer changes the gradients in place | 4e-4 of an update |
| LAMB | pytorch_optimizer does not correct the bias of the moments by default, and clips all gradients to a norm of 1; Optax does the first, and not the second | a factor of 1.3 and more |
"""


def markdown(document: dict[str, Any]) -> str:
    """The page."""
    steps = " and ".join(map(str, STEPS))
    lines = [
        "| member | frameworks | " + " | ".join(f"after {step}" for step in STEPS) + " | where they differ |",
        "| --- | --- | " + "--- | " * len(STEPS) + "--- |",
    ]
    for row in document["conventions"]:
        cells = [
            f"{row['kind']} `{row['name']}`",
            " / ".join(row["frameworks"]) or "-",
            *map(_figure, row["after"].values()),
            _where(row).replace("|", "\\|"),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return (
        INTRODUCTION.format(rate=EXAMPLES["learning_rate"], steps=steps) + "\n".join(lines) + "\n" + PACKAGES
    )


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(markdown(conventions()), encoding="utf-8")
