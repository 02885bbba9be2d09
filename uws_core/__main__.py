"""`python -m uws_core` is the command `uws`."""

import sys

from uws_core.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
