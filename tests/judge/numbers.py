"""The numbers that decide, and another value on either side of each with which a test of this folder must fail.

``make mutants`` tries all of them (`tests.judge.planted`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Number(NamedTuple):
    """One number.

    Attributes:
        name: what it is called, with the module where several have that name.
        line: how it is written; it stands once in `place`.
        larger, smaller: the line with another number; empty where that changes no verdict, and then `why` says so.
        tests: those that must fail, ``test_<tests>_bounds.py``.
        place: in which folder of the harness.
        why: what a change that is left out would do.
    """

    name: str
    line: str
    larger: str
    smaller: str
    tests: str
    place: str = ""
    why: str = ""


NUMBERS = (
    Number("FIXED, float64", "Tolerance(1e-14,", "Tolerance(3.2e-14,", "Tolerance(3.8e-15,", "core"),
    Number("FIXED, float32", "Tolerance(5.4e-6,", "Tolerance(1.7e-5,", "Tolerance(1.9e-6,", "core"),
    Number(
        "ledger: a limit as large as the value",
        "row.limit >= row.scale",
        "row.limit >= 1.05 * row.scale",
        "row.limit >= 0.95 * row.scale",
        "core",
    ),
    Number(
        "compare: zeros would pass",
        "(magnitude > limit).any()",
        "(1.2 * magnitude > limit).any()",
        "(magnitude > 1.2 * limit).any()",
        "core",
    ),
    Number(
        "EXACT",
        'frozenset({"given", "initial", "state", "batch", "count"})',
        'frozenset({"given", "initial", "state", "batch", "count", "average"})',
        'frozenset({"given", "initial", "state", "count"})',
        "core",
    ),
    Number(
        "EXACT, of whole numbers",
        "EXACT = Tolerance(0.0, 0.0,",
        "EXACT = Tolerance(0.0, 1.0,",
        "",
        "core",
        "core",
        why="Nothing is smaller.",
    ),
    Number("MULTIPLE", "MULTIPLE = 32.0", "MULTIPLE = 70.0", "MULTIPLE = 10.0", "budget"),
    Number("UNINFORMATIVE", "UNINFORMATIVE = 0.01", "UNINFORMATIVE = 0.1", "UNINFORMATIVE = 0.001", "budget"),
    Number(
        "NEGLIGIBLE, float64",
        '"float64": 1.5e-8, "float32": 3.5e-4',
        '"float64": 1.5e-7, "float32": 3.5e-4',
        '"float64": 1.5e-9, "float32": 3.5e-4',
        "budget",
    ),
    Number(
        "NEGLIGIBLE, float32",
        '"float64": 1.5e-8, "float32": 3.5e-4',
        '"float64": 1.5e-8, "float32": 3.5e-3',
        '"float64": 1.5e-8, "float32": 3.5e-5',
        "budget",
    ),
    Number(
        "MOST_TWINS",
        "MOST_TWINS, FEWEST_TWINS = 32, 4",
        "MOST_TWINS, FEWEST_TWINS = 33, 4",
        "MOST_TWINS, FEWEST_TWINS = 31, 4",
        "budget",
    ),
    Number(
        "FEWEST_TWINS",
        "MOST_TWINS, FEWEST_TWINS = 32, 4",
        "MOST_TWINS, FEWEST_TWINS = 32, 5",
        "MOST_TWINS, FEWEST_TWINS = 32, 3",
        "budget",
    ),
    Number("NUMBERS", "NUMBERS = 3 << 16", "NUMBERS = 210_000", "NUMBERS = 190_000", "budget"),
    Number("UNITS", "UNITS = 45", "UNITS = 90", "UNITS = 20", "stage"),
    Number("TERMS", "TERMS = 16", "TERMS = 64", "TERMS = 3", "adopted"),
    Number("SAMPLES", "SAMPLES = 3", "SAMPLES = 4", "SAMPLES = 2", "adopted"),
    Number(
        "continuation: one eps",
        "names[name]: eps * float(",
        "names[name]: 4 * eps * float(",
        "names[name]: 0.5 * eps * float(",
        "stage",
        "runs",
    ),
    Number("TWINS", "TWINS = 8", "TWINS = 9", "TWINS = 7", "adopted", "numerics"),
    Number("CANCELLED", "CANCELLED = 16.0", "CANCELLED = 40.0", "CANCELLED = 6.0", "adopted"),
    Number("COARSER", "COARSER = 64.0", "COARSER = 128.0", "COARSER = 32.0", "adopted"),
    Number("GROWS", "GROWS = 8.0", "GROWS = 14.0", "GROWS = 4.0", "adopted"),
    Number("LARGEST_ID", "LARGEST_ID = 2.0**24", "LARGEST_ID = 2.0**25", "LARGEST_ID = 2.0**23", "adopted"),
    Number("UPDATE", "UPDATE = 8.0", "UPDATE = 16.0", "UPDATE = 5.0", "adopted"),
    Number(
        "adopted: the spread of a loss",
        "np.maximum.accumulate(value) if name == LOSS",
        "3 * np.maximum.accumulate(value) if name == LOSS",
        "0.4 * np.maximum.accumulate(value) if name == LOSS",
        "adopted",
    ),
    Number(
        "adopted: the spread of a parameter",
        "else np.max(value, initial=0.0)",
        "else 3 * np.max(value, initial=0.0)",
        "else 0.4 * np.max(value, initial=0.0)",
        "adopted",
    ),
    Number(
        "MOST_CARRIED", "MOST_CARRIED = 100", "MOST_CARRIED = 125", "MOST_CARRIED = 90", "adopted", "runs"
    ),
    Number(
        "optimizers: limits",
        "MULTIPLE * widest",
        "3 * MULTIPLE * widest",
        "0.5 * MULTIPLE * widest",
        "optimizer",
        "conformance",
    ),
    Number(
        "optimizers: uninformative",
        "<= UNINFORMATIVE * float(",
        "<= 10 * UNINFORMATIVE * float(",
        "<= 0.3 * UNINFORMATIVE * float(",
        "optimizer",
        "conformance",
    ),
    Number("UPDATES_AFTER", "UPDATES_AFTER = 10", "UPDATES_AFTER = 13", "UPDATES_AFTER = 8", "explanation"),
    Number(
        "UPDATES_AFTER, of adopted code",
        "UPDATES_AFTER = 10",
        "UPDATES_AFTER = 13",
        "UPDATES_AFTER = 7",
        "adopted",
    ),
    Number(
        "explanations: the limit of a confirmation",
        "name: np.maximum(limit, self._widest.get(name, 0.0))",
        "name: 4 * np.maximum(limit, self._widest.get(name, 0.0))",
        "name: 0.4 * np.maximum(limit, self._widest.get(name, 0.0))",
        "explanation",
        "diagnose",
    ),
    Number("REST", "REST = 1e-3", "REST = 3e-3", "REST = 3e-4", "explanation", "diagnose"),
    Number("NOISE", "NOISE = 8.0", "NOISE = 24.0", "NOISE = 5.0", "ratio"),
    Number("CLOSE", "CLOSE = 1e-4", "CLOSE = 3e-4", "CLOSE = 3e-5", "ratio"),
    Number("WHOLE", "WHOLE = 1e-4", "WHOLE = 3e-4", "WHOLE = 3e-5", "ratio"),
    Number("RUNNING", "RUNNING = 1e-3", "RUNNING = 1e-2", "RUNNING = 1e-4", "ratio"),
    Number("SHARE", "SHARE = 1e-3", "SHARE = 4e-3", "SHARE = 3e-4", "ratio"),
    Number("MIXED", "MIXED = 0.05", "MIXED = 0.075", "MIXED = 0.035", "ratio"),
    Number("ADDED", "ADDED = 1e-3", "ADDED = 2e-3", "ADDED = 6e-4", "ratio"),
    Number("ENLARGED", "ENLARGED = 2.0**40", "ENLARGED = 2.0**48", "ENLARGED = 2.0**32", "ratio"),
    Number("MOST_NORMS", "MOST_NORMS = 16", "MOST_NORMS = 17", "MOST_NORMS = 15", "ratio"),
    Number("FLOAT32", "FLOAT32 = 8 *", "FLOAT32 = 16 *", "FLOAT32 = 4 *", "ratio"),
    Number("LEAST_NUMBERS", "LEAST_NUMBERS = 8", "LEAST_NUMBERS = 9", "LEAST_NUMBERS = 7", "explanation"),
    Number(
        "COARSE, float64",
        'COARSE = {"float64": 1e-9, "float32": 1e-4}',
        'COARSE = {"float64": 1e-8, "float32": 1e-4}',
        'COARSE = {"float64": 1e-10, "float32": 1e-4}',
        "explanation",
    ),
    Number(
        "COARSE, float32",
        'COARSE = {"float64": 1e-9, "float32": 1e-4}',
        'COARSE = {"float64": 1e-9, "float32": 1e-3}',
        'COARSE = {"float64": 1e-9, "float32": 1e-5}',
        "explanation",
    ),
    Number(
        "mapping explanations: ALIKE, float64",
        'ALIKE = {"float64": 1e-9, "float32": 1e-4}',
        'ALIKE = {"float64": 1e-8, "float32": 1e-4}',
        'ALIKE = {"float64": 1e-10, "float32": 1e-4}',
        "adopted",
        "verification",
    ),
    Number(
        "mapping explanations: ALIKE, float32",
        'ALIKE = {"float64": 1e-9, "float32": 1e-4}',
        'ALIKE = {"float64": 1e-9, "float32": 1e-3}',
        'ALIKE = {"float64": 1e-9, "float32": 1e-5}',
        "adopted",
        "verification",
    ),
    Number(
        "mapping explanations: MOST_TRIED",
        "MOST_TRIED = 400",
        "MOST_TRIED = 401",
        "MOST_TRIED = 399",
        "mapping",
        "verification",
    ),
    Number("NEAR", "NEAR = 0.05", "NEAR = 0.065", "NEAR = 0.04", "mapping"),
    Number("MARGIN", "MARGIN = 10.0", "MARGIN = 20.0", "MARGIN = 5.0", "mapping"),
    Number(
        "FLOOR, float64",
        'FLOOR = {"float64": 1e-9, "float32": 1e-4}',
        'FLOOR = {"float64": 3e-9, "float32": 1e-4}',
        'FLOOR = {"float64": 3e-10, "float32": 1e-4}',
        "mapping",
    ),
    Number(
        "FLOOR, float32",
        'FLOOR = {"float64": 1e-9, "float32": 1e-4}',
        'FLOOR = {"float64": 1e-9, "float32": 3e-4}',
        'FLOOR = {"float64": 1e-9, "float32": 3e-5}',
        "mapping",
    ),
    Number("layouts: ALIKE", "ALIKE = 0.5", "ALIKE = 0.6", "ALIKE = 0.4", "mapping"),
    Number("OTHERWISE", "OTHERWISE = 2.0", "OTHERWISE = 2.5", "OTHERWISE = 1.5", "mapping"),
    Number("MOST_TIES", "MOST_TIES = 8", "MOST_TIES = 9", "MOST_TIES = 7", "mapping"),
    Number("TRIALS", "TRIALS = 2", "TRIALS = 3", "TRIALS = 1", "mapping"),
    Number("MOST_LAYOUTS", "MOST_LAYOUTS = 24", "MOST_LAYOUTS = 25", "MOST_LAYOUTS = 23", "mapping"),
    Number(
        "buffers: MOST_TRIED",
        "MOST_TRIED = 400",
        "MOST_TRIED = 401",
        "MOST_TRIED = 399",
        "mapping",
        "matching/evidence.py",
    ),
    Number(
        "masks: MOST_TRIED",
        "MOST_TRIED = 400",
        "MOST_TRIED = 500",
        "MOST_TRIED = 350",
        "mapping",
        "matching/masks.py",
    ),
    Number("UNEQUAL", "UNEQUAL = 1e-3", "UNEQUAL = 2e-3", "UNEQUAL = 5e-4", "mapping", "matching/find.py"),
    Number("SAME_RATE", "SAME_RATE = 1e-6", "SAME_RATE = 2e-6", "SAME_RATE = 7e-7", "mapping"),
    Number("ROUNDING", "ROUNDING = 8.0", "ROUNDING = 12.0", "ROUNDING = 4.0", "initialiser"),
    Number("COARSEST", "COARSEST = 10.0", "COARSEST = 30.0", "COARSEST = 5.0", "initialiser"),
    Number("ORTHONORMAL", "ORTHONORMAL = 1e-3", "ORTHONORMAL = 3e-3", "ORTHONORMAL = 3e-4", "initialiser"),
    Number("FALSE_ALARM", "FALSE_ALARM = 1e-6", "FALSE_ALARM = 1e-4", "FALSE_ALARM = 1e-8", "initialiser"),
    Number(
        "MOST_NUMBERS",
        "MOST_NUMBERS = 1 << 17",
        "MOST_NUMBERS = 1 << 18",
        "MOST_NUMBERS = 1 << 16",
        "initialiser",
    ),
    Number("WANTED", "WANTED = 512", "WANTED = 600", "WANTED = 400", "initialiser"),
    Number(
        "FEWEST_SEEDS, MOST_SEEDS",
        "FEWEST_SEEDS, MOST_SEEDS = 8, 128",
        "FEWEST_SEEDS, MOST_SEEDS = 9, 129",
        "FEWEST_SEEDS, MOST_SEEDS = 7, 127",
        "initialiser",
    ),
    Number(
        "UPDATES",
        "UPDATES, DISTURBED = 8, 2",
        "",
        "UPDATES, DISTURBED = 4, 2",
        "state",
        why="more updates show smaller differences, and cost more",
    ),
    Number(
        "DISTURBED",
        "UPDATES, DISTURBED = 8, 2",
        "UPDATES, DISTURBED = 8, 8",
        "",
        "state",
        why="the same is read",
    ),
    Number("SMALL", "SMALL = 2.0**-12", "SMALL = 1.0", "", "state", why="an update is rounded less"),
    Number("HALF", "HALF = 8.0", "HALF = 64.0", "HALF = 0.5", "half"),
    Number("STRONGER", "STRONGER = 8.0", "", "STRONGER = 1.0", "state", why="the same is read"),
)


ROOMS = ("core", "numerics", "diagnose", "explanations", "mapping", "matching", "verification", "adopt")
"""The folders of the harness in which each number of a module has a line here, or a reason why not."""

_SHOWN = "how much is shown"
_TRIED = "a list of what is tried: one more is tried in vain, and without one a mistake is not explained, or a pair not linked"
_REFUSED = "beyond, the input is refused with an error that says so"
_ANY = "any does"

WITHOUT: Mapping[str, str] = {
    "core/compare.py PLACES": _SHOWN,
    "verification/adopted.py MOST_REPORTED": _SHOWN,
    "verification/doubts.py MOST_NAMED": _SHOWN,
    "verification/result.py MOST_NAMED": _SHOWN,
    "verification/states.py LOOKED_AT": "a cap on cost: how much of a large slot is looked at to pair it; what is paired is compared whole",
    "numerics/budget.py LONG": "when a wait is announced",
    "numerics/budget.py COST": "when a wait is announced",
    "numerics/limits.py SEED": _ANY,
    "matching/masks.py SEED": _ANY,
    "explanations/observed_updates.py DECAYS": _TRIED,
    "explanations/optimizer.py _NONE": "so small that it is none",
    "explanations/observed_updates.py DAMPENINGS": _TRIED,
    "matching/fused.py PARTS": _TRIED,
    "matching/pieces.py ROLES": "an order, no threshold",
    "matching/find.py PROBES": _TRIED,
    "adopt/task.py MOST_BATCHES": _REFUSED,
    "adopt/worker.py MOST_BYTES": _REFUSED,
    "mapping/file.py MOST_BYTES": _REFUSED,
    "mapping/file.py VERSION": "of the format, which a file must have",
}
"""Numbers that have no line -> why they need none."""


def table() -> str:
    """All of them, as `README.md` has them."""
    rows = ["| number | as it stands | larger | smaller | tests |", "| --- | --- | --- | --- | --- |"]
    rows += [
        f"| {one.name} | `{one.line}` | `{one.larger}` | `{one.smaller}` | `test_{one.tests}_bounds.py` |".replace(
            "``", ""
        )
        for one in NUMBERS
    ]
    return "\n".join(rows) + "\n"


def reasons() -> str:
    """Those without a line, as `README.md` has them."""
    names: dict[str, list[str]] = {}
    for one, why in WITHOUT.items():
        module, name = one.split()
        names.setdefault(why, []).append(f"`{name}` (`{module}`)")
    return "".join(f"- {', '.join(listed)}: {why}\n" for why, listed in names.items())
