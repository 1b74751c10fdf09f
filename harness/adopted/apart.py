"""``python -m harness.adopted.apart module:function``: a worker, or in one line why this interpreter cannot be one."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    try:
        from harness.adopted.worker import main
    except (ImportError, SyntaxError) as error:  # no NumPy, or an old Python
        sys.exit(f"{sys.executable} cannot run a trainer: {type(error).__name__}: {error}")
    main()
