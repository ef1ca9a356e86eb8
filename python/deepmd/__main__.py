"""`python -m deepmd` is `dp`."""

import sys

from deepmd.cli import main

if __name__ == "__main__":
    sys.exit(main())
