"""The published schemas: in step with the tables, and true of what is written."""

import json

import pytest
from jsonschema import Draft202012Validator, ValidationError

import lockstep
from lockstep.backends.problem import Optimizer
from lockstep.harness.documents.schema import load, problem_schema
from lockstep.harness.environment.listing import (
    listing,
)
from lockstep.harness.environment.manifest import manifest
from lockstep.harness.problems import find
from lockstep.harness.report import diagnosis, document

OPTIONAL = {"benchmark", "left_out"}
"""What a report has only if it was given it, and what reports of before have not."""


def report(**options):
    return json.loads(document.dumps(document.to_document(lockstep.verify(**options), manifest())))


def diverging():
    return find("seed").replace(optimizer=Optimizer("sgd", learning_rate=1e3), epochs=200)


def test_the_problems_schema_is_that_of_the_tables():
    assert load("problem") == problem_schema(), "run `make schemas`"


@pytest.mark.parametrize(
    "name",
    ["problem", "report", "bundle", "list", "conventions", "diagnosis", "selftest", "bench", "conformance"],
)
def test_schemas_are_schemas(name):
    Draft202012Validator.check_schema(load(name))


@pytest.mark.parametrize(
    "options",
    [
        {"problems": "seed"},
        {"problems": "seed", "rtol": 1e-9},
        {"problems": "seed", "backends": ["numpy"]},
    ],
    ids=["agree", "differ", "alone"],
)
def test_reports_are_valid(options):
    Draft202012Validator(load("report")).validate(report(**options))


def test_a_report_of_a_diverging_run_is_valid():
    content = report(problems=diverging(), backends=["numpy", "torch"])
    assert {"NaN", "Infinity"} & {
        loss for run in content["runs"] for loss in run["losses"] if isinstance(loss, str)
    }
    Draft202012Validator(load("report")).validate(content)


def objects(schema):
    parts = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ()
    here = [schema] if isinstance(schema, dict) and schema.get("type") == "object" else []
    return here + [found for part in parts for found in objects(part)]


@pytest.mark.parametrize(("name", "least"), [("report", 5), ("bundle", 6), ("list", 5), ("conventions", 4)])
def test_what_is_written_has_every_field_and_no_other(name, least):
    assert len(objects(load(name))) >= least
    for one in objects(load(name)):
        assert "additionalProperties" in one
        assert sorted(one.get("required", ())) == sorted({*one.get("properties", ())} - OPTIONAL)


def test_a_report_that_lost_a_field_is_not_valid():
    content = report(problems="seed", backends=["numpy", "torch"])
    del content["comparisons"][0]["places"]
    with pytest.raises(ValidationError, match="'places' is a required property"):
        Draft202012Validator(load("report")).validate(content)


def test_the_listing_is_valid():
    Draft202012Validator(load("list")).validate(listing())


def test_numbers_survive_the_report_to_the_bit():
    result = lockstep.verify("seed", backends=["numpy", "torch"])
    content = json.loads(document.dumps(document.to_document(result, {})))
    for run, row in zip(result.runs, content["runs"], strict=True):
        dtype = run.trace.losses.dtype.type
        assert [dtype(value) for value in row["losses"]] == list(run.trace.losses)
        assert [dtype(value) for value in row["parameters"]["0.linear/b"]] == list(
            run.trace.final.parameters["0.linear/b"]
        )


@pytest.mark.parametrize("epochs", [3, 200], ids=["agree", "diverged"])
def test_a_diagnosis_is_valid(epochs):
    problem = diverging().replace(epochs=epochs)
    content = json.loads(
        document.dumps(diagnosis.to_document(lockstep.diagnose(problem, "torch", others=())))
    )
    Draft202012Validator(load("diagnosis")).validate(content)
    del content["sentence"]
    with pytest.raises(ValidationError, match="'sentence' is a required property"):
        Draft202012Validator(load("diagnosis")).validate(content)


def test_a_report_with_all_that_can_be_asked_for_is_valid():
    content = report(problems="seed", backends=["numpy", "torch"], epochs=3, certify=True, diagnose="all")
    Draft202012Validator(load("report")).validate(content)
    assert content["cases"][0]["diagnoses"]
    assert content["runs"][0]["errors"]
