"""The command ``lockstep``, and a check that Python finds our `backends` and `harness`, not another package's.

It stands outside both packages, under a name that nobody else has, because it must work when they are shadowed.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

PACKAGES = ("backends", "harness")


def shadows(home: Path | None = None) -> list[str]:
    """One line for each of our packages that Python would import from elsewhere.

    Args:
        home: the folder that holds our packages; by default this file's.
    """
    home = home or Path(__file__).resolve().parent
    found = []
    for name in PACKAGES:
        spec = find_spec(name)
        origin = Path(spec.origin).resolve().parent if spec is not None and spec.origin else None
        if origin != home / name:
            found.append(f"{name}: Python finds {origin or 'a folder without code'}, ours is {home / name}")
    return found


def refusal(found: list[str]) -> str:
    """The error in three parts, from what `shadows` found."""
    lines = "\n       ".join(found)
    return (
        f"another package shadows Lockstep's\n  got: {lines}\n"
        "  fix: run from another folder, or take that package off PYTHONPATH or out of this environment"
    )


def main() -> int:
    """Run the command line; exit status as `harness.cli.main` documents it."""
    if found := shadows():
        print(f"error: {refusal(found)}", file=sys.stderr)
        return 2
    from harness.cli import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
