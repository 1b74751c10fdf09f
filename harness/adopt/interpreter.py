"""``python -m lockstep.harness.adopt.interpreter module:function``: a worker, or in one line why this interpreter cannot be one."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    try:
        from lockstep.harness.adopt.worker import main
    except (ImportError, SyntaxError) as error:  # no NumPy, or an old Python
        sys.exit(f"{sys.executable} cannot run a trainer: {type(error).__name__}: {error}")
    main()
