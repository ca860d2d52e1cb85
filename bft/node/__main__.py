"""`python -m bft.node DIR` runs the replica configured in DIR."""

import sys
from pathlib import Path

from bft.errors import ExitCode
from bft.node import run

if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.stderr.write("usage: python -m bft.node DIRECTORY\n")
        sys.exit(ExitCode.USAGE)
    sys.exit(run(Path(sys.argv[1])))
