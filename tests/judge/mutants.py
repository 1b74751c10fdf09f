"""``make mutants``: cosmic-ray's changes of the modules that judge, one at a time; each must make a test fail.

cosmic-ray finds and makes the changes and keeps the results. It has no sample by a seed, one test command for all
modules, and it also changes annotations, which nothing evaluates; this file adds these three. Everything happens in a copy
of the working tree, so a run that is cut short leaves no changed source. A second run with the same sources goes on where
the first stopped.

mutmut was tried first (3.8.1): it leaves out module-level constants and properties, where most of what decides stands.
"""

from __future__ import annotations

import argparse
import ast
import fcntl
import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.judge.numbers import NUMBERS

if TYPE_CHECKING:
    from cosmic_ray.work_item import WorkItem, WorkResult

ROOT = Path(__file__).parents[2]
FOLDERS = ("harness/core", "harness/numerics", "harness/diagnose", "harness/explanations")
STORED = Path(__file__).with_name("mutants.json")
WORK = ROOT / "reports" / "mutants"
BLOCK = re.compile(r"(<!-- mutants -->\n).*?(<!-- end of mutants -->)", re.DOTALL)
"""Where the README has the score."""

LEAST = 0.9
"""The share that must be killed."""

VALUES = "tests/judge/test_values.py"
JUDGE = "tests/judge/test_{}_bounds.py"
TESTS: Mapping[str, Sequence[str]] = {
    "harness/core/": (
        JUDGE.format("core"),
        "tests/judge/test_ledger.py",
        "tests/judge/test_comparison.py",
        "tests/harness/test_compare.py",
        "tests/harness/test_distance.py",
        "tests/harness/test_tolerance.py",
        "tests/harness/test_verdict.py",
    ),
    "harness/numerics/": (
        "tests/judge/test_whole_runs.py",
        JUDGE.format("budget"),
        JUDGE.format("stage"),
        JUDGE.format("adopted"),
        "tests/harness/test_budget.py",
        "tests/harness/test_lockstep.py",
    ),
    "harness/numerics/certified.py": ("tests/harness/test_certified.py",),
    "harness/diagnose/": (
        "tests/judge/test_votes.py",
        JUDGE.format("explanation"),
        "tests/harness/test_diagnose.py",
        "tests/harness/test_explanations.py",
    ),
    "harness/diagnose/divergence.py": (
        "tests/judge/test_comparison.py",
        "tests/harness/test_record_replay.py",
    ),
    "harness/explanations/": (
        "tests/judge/test_proposals.py",
        JUDGE.format("ratio"),
        "tests/harness/test_explanations.py",
        JUDGE.format("explanation"),
        "tests/harness/test_diagnose.py",
    ),
}
"""Beginning of a module's path -> the tests that may kill its mutants, the quickest first. The longest beginning counts."""


KINDS = (
    r"ReplaceComparisonOperator_(Eq_NotEq|NotEq_Eq|Lt_(LtE|GtE)|LtE_(Lt|Gt)|Gt_(GtE|LtE)|GtE_(Gt|Lt)|Is_IsNot|IsNot_Is)",
    r"ReplaceBinaryOperator_(Add_Sub|Sub_Add|Mul_Div|Div_Mul|FloorDiv_Div|Mod_FloorDiv|Pow_Mul)",
    r"ReplaceBinaryOperator_(BitAnd_BitOr|BitOr_BitAnd|BitXor_BitAnd|LShift_RShift|RShift_LShift)",
    r"ReplaceUnaryOperator_Delete_\w+",
    r"(?!Replace\w+Operator_)\w+",
)
"""The changes that are tried: of an operator its opposite and its neighbour, and all that is no operator.

cosmic-ray replaces each by all others: eleven for one `+`, most of which no program survives (``name << other``), and
`==` of two strings by `<=`, which nobody writes by mistake. Both would fill the score with what says nothing.
"""


def tests_of(module: str) -> tuple[str, ...]:
    """The tests that are run on the mutants of a module."""
    beginning = max((one for one in TESTS if module.startswith(one)), key=len)
    return (VALUES, *TESTS[beginning])


def copied(target: Path) -> str:
    """Copy what git tracks, or would track, to `target`; the hash of the modules that are changed."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    shutil.rmtree(target, ignore_errors=True)
    digest = hashlib.sha256()
    for name in sorted(one for one in listed.split("\0") if one and os.path.lexists(ROOT / one)):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target / name, follow_symlinks=False)
        if name.startswith(FOLDERS) and name.endswith(".py"):
            digest.update(name.encode() + (ROOT / name).read_bytes())
    return digest.hexdigest()[:12]


def annotated(module: Path) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """(start, end), each (row, column), of every annotation of a module: none is evaluated, so no change of one is a fault."""
    found = []
    for node in ast.walk(ast.parse(module.read_text())):
        for one in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            if isinstance(one, ast.expr):
                assert one.end_lineno is not None
                assert one.end_col_offset is not None
                found.append(((one.lineno, one.col_offset), (one.end_lineno, one.end_col_offset)))
    return found


def key(item: WorkItem) -> tuple[str, str, int]:
    """What names a mutant from run to run."""
    (change,) = item.mutations
    return str(change.module_path), change.operator_name, change.occurrence


def meant(items: Sequence[WorkItem]) -> list[WorkItem]:
    """Those of KINDS that change what is evaluated, in an order that is always the same.

    The numbers of `numbers.py` are left out: `planted.py` changes them by more than the one that cosmic-ray adds.
    """
    modules = {one.mutations[0].module_path for one in items}
    places = {path: annotated(path) for path in modules}
    lines = {path: path.read_text().splitlines() for path in modules}

    def is_meant(item: WorkItem) -> bool:
        (change,) = item.mutations
        inside = any(start <= change.start_pos < end for start, end in places[change.module_path])
        line = lines[change.module_path][change.start_pos[0] - 1]
        if change.operator_name == "core/NumberReplacer" and any(one.line in line for one in NUMBERS):
            return False
        return not inside and any(
            re.fullmatch(one, change.operator_name.removeprefix("core/")) for one in KINDS
        )

    return sorted(filter(is_meant, items), key=key)


def command(tests: Sequence[str]) -> str:
    """How the tests are run: the same each time, up to the first that fails."""
    # One hypothesis and one order for all mutants; a plugin that shuffles would make a survivor a matter of luck.
    return (
        f"{sys.executable} -m pytest -x -q --no-header -p no:randomly -p no:cacheprovider {' '.join(tests)}"
    )


def limits(modules: Sequence[str]) -> dict[tuple[str, ...], float]:
    """Seconds that each selection of tests may take: three times what it takes on the unchanged modules, and half a minute."""
    found = {}
    for tests in dict.fromkeys(tests_of(one) for one in modules):
        started = time.perf_counter()
        done = subprocess.run(command(tests).split(), capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(
                f"The tests fail on the unchanged modules.\n  got: {done.stdout[-2000:]}\n  fix: mend them first"
            )
        found[tests] = 3 * (time.perf_counter() - started) + 30
    return found


def must_fail(tests: Sequence[str]) -> None:
    """Stop unless the tests import the copy: with a module of it broken, they must fail."""
    module = Path("harness/core/verdict.py")
    text = module.read_text()
    module.write_text("raise RuntimeError('planted')\n")
    try:
        done = subprocess.run(command(tests).split(), capture_output=True, text=True, check=False)
    finally:
        module.write_text(text)
    if not done.returncode:
        sys.exit(
            "The tests do not import the copy.\n  got: they pass with a broken module\n  fix: run from the root of the repository"
        )


def alone() -> None:
    """Stop where another run is at work in the same copy; the lock goes with the process."""
    WORK.mkdir(parents=True, exist_ok=True)
    handle = os.open(WORK / "lock", os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit("Another run is at work.\n  got: reports/mutants/lock is taken\n  fix: wait for it")


def run(sample: int | None, seed: int, again: bool, only: str) -> None:
    """Try a sample of all mutants and store the score.

    Args:
        sample: how many; by default all.
        seed: of the sample.
        again: whether those of the sample that survived before are tried with the tests as they are now.
        only: the beginning of the modules' paths; of the rest of the sample only what was tried before counts.
    """
    from cosmic_ray.commands.init import init
    from cosmic_ray.mutating import mutate_and_test
    from cosmic_ray.work_db import use_db

    alone()
    hashed = copied(WORK / "tree")
    os.chdir(WORK / "tree")
    modules = [path for folder in FOLDERS for path in sorted(Path(folder).rglob("*.py"))]
    with use_db(str(WORK / f"{hashed}.sqlite")) as store:
        if not store.num_work_items:
            init(modules, store, {})
        every = meant(store.work_items)
        chosen = every if sample is None else random.Random(seed).sample(every, min(sample, len(every)))
        done = dict(store.results)
        todo = [one for one in chosen if key(one)[0].startswith(only)]
        todo = [one for one in todo if one.job_id not in done or (again and not done[one.job_id].is_killed)]
        print(f"{len(every)} mutants, {len(chosen)} chosen with seed {seed}, {len(todo)} to try", flush=True)
        allowed = limits([key(one)[0] for one in todo])
        if todo:
            must_fail(tests_of("harness/core/verdict.py"))
        for number, one in enumerate(todo, 1):
            started, tests = time.perf_counter(), tests_of(key(one)[0])
            result = mutate_and_test(one.mutations, command(tests), allowed[tests])
            store.set_result(one.job_id, result)
            done[one.job_id] = result
            seconds = time.perf_counter() - started
            print(
                f"{number}/{len(todo)} {described(one)}: {result.test_outcome.value}, {seconds:.0f} s",
                flush=True,
            )
    tried = [one for one in chosen if one.job_id in done]
    write([(one, done[one.job_id]) for one in tried], len(every), seed, hashed)


def described(item: WorkItem) -> str:
    """A mutant in a line."""
    (change,) = item.mutations
    return f"{change.module_path}:{change.start_pos[0]} {change.operator_name.removeprefix('core/')}"


def changed(diff: str) -> tuple[str, str]:
    """The line before and after."""
    lines = [line for line in diff.splitlines() if not line.startswith(("---", "+++"))]
    return tuple(  # type: ignore[return-value]
        "\n".join(line[1:].strip() for line in lines if line.startswith(sign)) for sign in "-+"
    )


def write(results: Sequence[tuple[WorkItem, WorkResult]], every: int, seed: int, hashed: str) -> None:
    """Store the score and the survivors; the reasons of those that survived before are kept."""
    before = json.loads(STORED.read_text()) if STORED.exists() else {"survivors": []}
    reasons = {_name(one): one["reason"] for one in before["survivors"]}
    survivors = []
    for item, result in results:
        if not result.is_killed:
            (change,) = item.mutations
            was, became = changed(result.diff)
            one = {
                "module": str(change.module_path),
                "line": change.start_pos[0],
                "was": was,
                "became": became,
            }
            survivors.append({**one, "reason": reasons.get(_name(one), "")})
    killed = Counter(key(item)[0] for item, result in results if result.is_killed)
    tried = Counter(key(item)[0] for item, _ in results)
    document = {
        "tool": f"cosmic-ray {version('cosmic-ray')}",
        "sources": hashed,
        "mutants": every,
        "seed": seed,
        "tried": len(results),
        "killed": killed.total(),
        "score": round(killed.total() / max(len(results), 1), 4),
        "modules": {name: {"tried": tried[name], "killed": killed[name]} for name in sorted(tried)},
        "survivors": sorted(survivors, key=lambda one: (one["module"], one["line"], one["became"])),
    }
    STORED.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    readme = ROOT / "README.md"
    readme.write_text(in_text(readme.read_text(), document))
    without = sum(not one["reason"] for one in survivors)
    print(
        f"{document['score']:.1%} of {len(results)} killed; {len(survivors)} survived, {without} without a reason"
    )
    print(f"Stored in {STORED.relative_to(ROOT)}: give each survivor a test, or its reason.")
    sys.exit(0 if document["score"] >= LEAST and not without else 1)


def in_text(readme: str, stored: Mapping[str, Any]) -> str:
    """The README with this score in the place of the one it has."""
    words = (
        f"{stored['tool']} makes {stored['mutants']:,} changes of the code that judges. Of {stored['tried']:,} that were tried "
        f"{stored['killed']:,} ({stored['score']:.1%}) fail a test, and so does each of {len(NUMBERS)} numbers that decide, made larger "
        "or smaller (`make mutants`).\n"
    )
    return BLOCK.sub(lambda found: found[1] + words + found[2], readme)


def _name(one: Mapping[str, Any]) -> tuple[str, str, str]:
    """What names a survivor where lines have moved."""
    return one["module"], one["was"], one["became"]


def main() -> None:
    """``python -m tests.judge.mutants``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--sample", type=int, help="how many mutants; by default all (hours)")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--again", action="store_true", help="try those that survived once more")
    parser.add_argument("--only", default="", help="the beginning of the modules' paths: harness/core")
    given = parser.parse_args()
    run(given.sample, given.seed, given.again, given.only)


if __name__ == "__main__":
    main()
