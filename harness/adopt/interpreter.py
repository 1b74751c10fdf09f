"""A worker, run as a script: ``python interpreter.py module:function``, or in one line why this interpreter cannot be one.

Lockstep is imported from the folder in which this file lies, and nothing else that is installed there: NumPy and the
framework are this interpreter's own. The user's modules are found in the current folder and on ``PYTHONPATH``.
"""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Serve the trainer that the command line names.

    Until the path is right it imports only what Python itself has imported, so no pathlib.
    """
    here = os.path.dirname(os.path.abspath(__file__))
    # Python put this folder there, its links resolved; our modules must not be imported in place of the user's.
    sys.path[:] = [
        os.getcwd(),
        *(one for one in sys.path if os.path.realpath(one) != os.path.realpath(here)),
    ]
    try:
        _import_lockstep(os.path.dirname(os.path.dirname(here)))
        from lockstep.harness.adopt import worker
    except (ImportError, SyntaxError) as error:  # no NumPy, or an old Python
        sys.exit(f"{sys.executable} cannot run a trainer: {type(error).__name__}: {error}")
    worker.main()


def _import_lockstep(folder: str) -> None:
    """The package in that folder, whatever this interpreter has installed: both ends must be the same Lockstep."""
    import importlib.util

    spec = importlib.util.spec_from_file_location(
        "lockstep", os.path.join(folder, "__init__.py"), submodule_search_locations=[folder]
    )
    assert spec is not None
    assert spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules["lockstep"] = package
    spec.loader.exec_module(package)


if __name__ == "__main__":
    main()
