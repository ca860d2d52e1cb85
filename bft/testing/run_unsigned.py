"""`python -m bft.testing.run_unsigned DIR`: a replica that signs and verifies nothing, for `bft bench ladder` alone.

Together with others of its kind it shows what signatures cost.  It withstands no faulty replica or client at all.
"""

import argparse
import sys
from pathlib import Path

from bft.node import run
from bft.testing.unsigned import signatures_left_out


def main(arguments: list[str]) -> int:
    """Run until SIGTERM or SIGINT; the exit codes are those of a replica."""
    parser = argparse.ArgumentParser(prog="python -m bft.testing.run_unsigned", description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path)
    options = parser.parse_args(arguments)
    sys.stderr.write(
        "WARNING: this replica verifies NO signature, on purpose; it guarantees nothing: only to measure\n"
    )
    with signatures_left_out():
        return run(options.directory)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
