"""The published schemas: in step with the tables, and true of what is written."""

import json

import pytest
from jsonschema import Draft202012Validator, ValidationError

import harness
from backends.problem import Optimizer
from harness.listing import listing
from harness.manifest import manifest
from harness.problems import find
from harness.report import document
from harness.schema import load, problem_schema


def report(**options):
    return json.loads(document.dumps(document.to_document(harness.verify(**options), manifest())))


def diverging():
    return find("seed").replace(optimizer=Optimizer("sgd", learning_rate=1e3), epochs=200)


def test_the_problems_schema_is_that_of_the_tables():
    assert load("problem") == problem_schema(), "run `make schemas`"


@pytest.mark.parametrize("name", ["problem", "report", "list"])
def test_schemas_are_schemas(name):
    Draft202012Validator.check_schema(load(name))


@pytest.mark.parametrize(
    "options",
    [
        {"problems": "seed"},
        {"problems": "seed", "rtol": 1e-9},
        {"problems": diverging(), "backends": ["numpy", "torch"]},
        {"problems": "seed", "backends": ["numpy"]},
    ],
    ids=["agree", "differ", "diverging", "alone"],
)
def test_reports_are_valid(options):
    Draft202012Validator(load("report")).validate(report(**options))


def test_a_report_that_lost_a_field_is_not_valid():
    told = report(problems="seed", backends=["numpy", "torch"])
    del told["comparisons"][0]["worst"]
    with pytest.raises(ValidationError, match="'worst' is a required property"):
        Draft202012Validator(load("report")).validate(told)


def test_the_listing_is_valid():
    Draft202012Validator(load("list")).validate(listing())


def test_numbers_survive_the_report_to_the_bit():
    result = harness.verify("seed", backends=["numpy", "torch"])
    told = json.loads(document.dumps(document.to_document(result, {})))
    for run, row in zip(result.runs, told["runs"], strict=True):
        dtype = run.trace.losses.dtype.type
        assert [dtype(value) for value in row["losses"]] == list(run.trace.losses)
        assert [dtype(value) for value in row["parameters"]["0.linear/b"]] == list(
            run.trace.final.parameters["0.linear/b"]
        )
