"""Each number that decides, made larger and smaller: a test of this folder must fail each time.

``python -m tests.judge.planted [NAME ...]`` changes one line at a time in a copy of the working tree, runs the tests that
hold that number, and stops with an error where they pass.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.judge.mutants import WORK, alone, command, copied
from tests.judge.numbers import NUMBERS, Number


def home(number: Number) -> Path:
    """The one module that has its line."""
    folder = Path("harness") / number.place
    modules = [folder] if folder.suffix else sorted(folder.rglob("*.py"))
    found = [one for one in modules if number.line in one.read_text()]
    if len(found) != 1 or found[0].read_text().count(number.line) != 1:
        sys.exit(
            f"{number.name} does not stand once.\n  got: {number.line!r} in {list(map(str, found))}\n"
            "  fix: write the line in tests/judge/numbers.py as it stands in the module"
        )
    return found[0]


def survives(number: Number, changed: str) -> bool:
    """Whether the tests pass although the line is another."""
    module = home(number)
    text = module.read_text()
    module.write_text(text.replace(number.line, changed))
    try:
        tests = command([f"tests/judge/test_{number.tests}_bounds.py"])
        done = subprocess.run(tests.split(), capture_output=True, text=True, check=False)
    finally:
        module.write_text(text)
    failed = [one for one in done.stdout.splitlines() if one.startswith("FAILED")]
    content = (
        failed[0].partition("::")[2].partition(" - ")[0]
        if failed
        else f"nothing fails (status {done.returncode})"
    )
    print(f"{number.name}: {changed.strip()}: {content}", flush=True)
    return not failed


def main() -> None:
    """Try all; named ones alone, if names are given."""
    chosen = [one for one in NUMBERS if not sys.argv[1:] or one.name in sys.argv[1:]]
    alone()
    copied(WORK / "planted")
    os.chdir(WORK / "planted")
    passed = [
        f"{one.name}: {changed}"
        for one in chosen
        for changed in (one.larger, one.smaller)
        if changed and survives(one, changed)
    ]
    if passed:
        sys.exit("No test holds these numbers:\n  " + "\n  ".join(passed))
    print(f"{len(chosen)} numbers, each seen to fail.")


if __name__ == "__main__":
    main()
