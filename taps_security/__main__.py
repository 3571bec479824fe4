"""`python -m taps_security` is the `taps` command."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
