"""A problem as a document of JSON values: checked against the published schema, built, and written down again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from jsonschema import Draft202012Validator, ValidationError
from jsonschema.exceptions import best_match
from jsonschema.validators import extend

from lockstep.backends.errors import ProblemError
from lockstep.backends.problem import (
    CONSTANT,
    UNAVERAGED,
    UNCLIPPED,
    Array,
    Arrays,
    Average,
    Batching,
    Clip,
    Layer,
    Loss,
    Member,
    Optimizer,
    Penalty,
    Problem,
    Schedule,
)
from lockstep.harness.documents.schema import Schema
from lockstep.harness.documents.shortening import shortened

M = TypeVar("M", bound=Member)

# To JSON Schema 1.0 is an integer; to NumPy's seeds and to our arguments it is not.
_Validator = extend(
    Draft202012Validator,
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
    ),
)


def check(document: object, schema: Schema) -> None:
    """Check a document against its schema.

    Raises:
        ProblemError: it is not valid; the message names the field.
    """
    error = best_match(_Validator(schema).iter_errors(document))
    if error is not None:
        field = ".".join(map(str, error.absolute_path)) or "top level"
        raise ProblemError(f"{field}: {_what(error)}", shortened(error.instance), _fix(error))


def _what(error: ValidationError) -> str:
    if error.validator == "required":
        return f"lacks {', '.join(sorted(set(error.validator_value) - set(error.instance)))}"
    if error.validator == "additionalProperties":
        return f"does not take {', '.join(sorted(set(error.instance) - set(error.schema['properties'])))}"
    return f"is not valid ({error.validator})"


def _fix(error: ValidationError) -> str:
    schema = error.schema
    if error.validator == "enum":
        return "use one of " + ", ".join(map(repr, error.validator_value))
    if error.validator in ("required", "additionalProperties"):
        fields = schema.get("properties", {}).items()
        described = [
            f"{name} ({one['description']})" if "description" in one else name for name, one in fields
        ]
        return "it takes " + ", ".join(described)
    return f"give {schema.get('description', error.validator_value)}"


def build(document: Mapping[str, Any], x: Array, y: Array, initial: Arrays) -> Problem:
    """The problem that a document describes, over these arrays.

    Args:
        document: according to the schema ``problem``; its own `data` and `initial` are not looked at.
        x, y: inputs and targets.
        initial: every parameter before the first step, by canonical name.

    Raises:
        LockstepError: the parts do not go together, or not with the arrays.
    """
    return Problem(
        name=document["name"],
        x=x,
        y=y,
        model=layers(document),
        loss=_member(Loss, document["loss"]),
        optimizer=_member(Optimizer, document["optimizer"]),
        epochs=document["epochs"],
        initial=initial,
        batching=Batching(**document.get("batching", {})),
        schedule=_member(Schedule, document.get("schedule", {"name": CONSTANT.name})),
        clip=_member(Clip, document.get("clip", {"name": UNCLIPPED.name})),
        penalties=tuple(_member(Penalty, one) for one in document.get("penalties", [])),
        accumulation=document.get("accumulation", 1),
        average=_member(Average, document.get("average", {"name": UNAVERAGED.name})),
    )


def layers(document: Mapping[str, Any]) -> tuple[Layer, ...]:
    """The model that a document describes."""
    return tuple(map(_layer, document["model"]))


def _layer(table: Mapping[str, Any]) -> Layer:
    branches = [[_layer(one) for one in branch] for branch in table.get("branches", ())]
    args = {key: value for key, value in table.items() if key not in ("op", "branches")}
    return Layer(table["op"], branches=branches, **args)


def _member(kind: type[M], table: Mapping[str, Any]) -> M:
    return kind(table["name"], **{key: value for key, value in table.items() if key != "name"})


def describe(problem: Problem) -> dict[str, Any]:
    """The document of a problem without its data, its initial parameters and its dtype: what `build` reads back.

    Every argument is written out, so that a default that changes later does not change it.
    """
    batching = {key: value for key, value in vars(problem.batching).items() if value is not None}
    return {
        "name": problem.name,
        "epochs": problem.epochs,
        "model": [_layer_table(layer) for layer in problem.model],
        "loss": _table("name", problem.loss),
        "optimizer": _table("name", problem.optimizer),
        "schedule": _table("name", problem.schedule),
        "clip": _table("name", problem.clip),
        "penalties": [_table("name", one) for one in problem.penalties],
        "accumulation": problem.accumulation,
        "average": _table("name", problem.average),
        **({} if problem.batching.size is None else {"batching": batching}),
    }


def _layer_table(layer: Layer) -> dict[str, Any]:
    branches = [[_layer_table(one) for one in branch] for branch in layer.branches]
    return {**_table("op", layer), **({"branches": branches} if branches else {})}


def _table(key: str, member: Member) -> dict[str, Any]:
    """Its name and arguments as JSON values."""
    args = {name: list(value) if isinstance(value, tuple) else value for name, value in member.args.items()}
    return {key: member.name, **args}
