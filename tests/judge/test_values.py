"""What the judge hands out is a value: nobody changes a verdict, a row or a limit afterwards."""

import dataclasses
import importlib
import inspect

import pytest

from tests.judge.mutants import FOLDERS, ROOT

MODULES = sorted(
    ".".join(("lockstep", *path.relative_to(ROOT).with_suffix("").parts))
    for folder in FOLDERS
    for path in (ROOT / folder).rglob("*.py")
)


@pytest.mark.parametrize("name", MODULES)
def test_every_dataclass_is_frozen(name):
    module = importlib.import_module(name.removesuffix(".__init__"))
    for _, one in inspect.getmembers(module, inspect.isclass):
        if one.__module__ == module.__name__ and dataclasses.is_dataclass(one):
            assert one.__dataclass_params__.frozen, one
