"""``python -m gnnpipe``, which is also what torchrun starts."""

import sys

from gnnpipe.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
