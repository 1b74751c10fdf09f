"""A worker, run as a script: ``python interpreter.py module:function``, or in one line why this interpreter cannot be one.

Lockstep is imported from the folder in which this file lies, and nothing else that is installed there: NumPy and the
framework are this interpreter's own. The user's modules are found in the current folder and on ``PYTHONPATH``.
"""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Serve the trainer that the command line names."""
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - pathlib may be the user's own
    sys.path[:] = [os.getcwd(), *(one for one in sys.path if one != here)]  # noqa: PTH109
    try:
        _import_lockstep(os.path.dirname(os.path.dirname(here)))  # noqa: PTH120
        from lockstep.harness.adopt import worker
    except (ImportError, SyntaxError) as error:  # no NumPy, or an old Python
        sys.exit(f"{sys.executable} cannot run a trainer: {type(error).__name__}: {error}")
    worker.main()


def _import_lockstep(folder: str) -> None:
    """The package in that folder, whatever this interpreter has installed: both ends must be the same Lockstep."""
    import importlib.util

    spec = importlib.util.spec_from_file_location(
        "lockstep", os.path.join(folder, "__init__.py"), submodule_search_locations=[folder]  # noqa: PTH118
    )
    assert spec is not None
    assert spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules["lockstep"] = package
    spec.loader.exec_module(package)


if __name__ == "__main__":
    main()
