"""The versions that `make matrix` installs: ``python tests/matrix.py lowest`` prints them as pip's constraints.

``lowest``: each version that pyproject.toml states as the least; ``newest``: whatever there is. Torch is the pinned one in both,
unless another is named (``TORCH=2.14.1``): its other wheels bring several gigabytes for GPUs.
"""

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
KINDS = ("lowest", "newest")
EXTRAS = ("jax", "torch", "exact", "datasets", "report", "test")
"""What the tests of `make matrix` need."""
FLOOR = re.compile(r"(?P<name>[A-Za-z0-9-]+)(\[[a-z,]+\])?>=(?P<version>[0-9.]+)")


def constraints(kind: str, torch: str = "") -> Iterator[str]:
    """One line for pip a package.

    Args:
        kind: one of KINDS.
        torch: its version; by default the one in constraints.txt.
    """
    if kind not in KINDS:
        sys.exit(f"unknown kind of versions\n  got: {kind!r}\n  fix: name one of {', '.join(KINDS)}")
    if kind == "lowest":
        yield from (f"{name}=={version}" for name, version in floors().items() if name != "torch")
    yield f"torch=={torch or pinned('torch')}"


def floors() -> dict[str, str]:
    """The least version of everything that the tests need."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    needed = [*project["dependencies"], *(one for name in EXTRAS for one in extras[name])]
    found = (FLOOR.fullmatch(one) for one in needed if not one.startswith(project["name"]))
    return {one["name"]: one["version"] for one in found if one}


def pinned(name: str) -> str:
    """The version that constraints.txt has."""
    (line,) = re.findall(
        rf"^{name}==(\S+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    return str(line)


if __name__ == "__main__":
    print(*constraints(*sys.argv[1:]), sep="\n")
