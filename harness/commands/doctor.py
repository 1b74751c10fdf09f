"""``lockstep doctor``: what is installed here, and what can run."""

from __future__ import annotations

import argparse
import json
from typing import Any


def add(commands: Any) -> None:
    """Adds the command's parser."""
    doctor = commands.add_parser(
        "doctor",
        help="show versions, threads, BLAS and devices, which backends can run, and how to install the others",
    )
    doctor.set_defaults(run=_run)
    doctor.add_argument("--json", action="store_true", help="as JSON")


def _run(options: argparse.Namespace) -> int:
    from lockstep.harness.environment.doctor import examine
    from lockstep.harness.environment.manifest import manifest

    findings = examine()
    environment = manifest()
    if options.json:
        backends = {
            one.backend: dict(one.environment) or {"problem": one.problem, "fix": one.fix} for one in findings
        }
        print(json.dumps({**environment, "backends": backends}, indent=1, ensure_ascii=False))
    else:
        for key, value in environment.items():
            print(f"{key}: {value if isinstance(value, (str, int)) else json.dumps(value)}")
        for one in findings:
            facts = ", ".join(f"{key} {value}" for key, value in one.environment.items())
            print(f"backend {one.backend}: {facts or f'cannot run: {one.problem}'}")
            if one.fix:
                print(f"  fix: {one.fix}")
    return 3 if any(one.problem and not one.absent for one in findings) else 0
