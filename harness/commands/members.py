"""``lockstep list``: the backends, problems and members that you can choose from."""

from __future__ import annotations

import argparse
import json
from typing import Any

from lockstep.harness.commands.output import show


def add(commands: Any) -> None:
    """Adds the command's parser."""
    listing = commands.add_parser("list", help="list backends, problems, functions, losses, optimizers")
    listing.set_defaults(run=_run)
    listing.add_argument(
        "--conventions",
        action="store_true",
        help="show where the frameworks' defaults differ, and by how much",
    )
    listing.add_argument("--json", action="store_true", help="as JSON")


def _run(options: argparse.Namespace) -> int:
    from lockstep.harness.environment import (
        conventions,
        listing,
    )

    listed = conventions.conventions() if options.conventions else listing.listing()
    if options.json:
        print(json.dumps(listed, indent=1, ensure_ascii=False))
    else:
        show(conventions.render(listed) if options.conventions else listing.render(listed))
    return 0
