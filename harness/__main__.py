"""``python -m harness`` is the command ``lockstep``."""

import sys

from lockstep_cli import main

if __name__ == "__main__":
    sys.exit(main())
