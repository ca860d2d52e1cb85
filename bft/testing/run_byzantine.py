"""`python -m bft.testing.run_byzantine DIR --behaviour SPEC`: a real replica process that misbehaves, for tests.

SPEC is what `bft.testing.byzantine.parse` reads (`bft sim --list-behaviours` shows what there is).  What waits for
`@signal` begins when the process gets SIGUSR1, and ends with the next one.
"""

import argparse
import random
import signal
import sys
from functools import partial
from pathlib import Path

from bft.config import load_replica
from bft.errors import BftError, ConfigurationError
from bft.node import run
from bft.testing.behaviours.base import Behaviour
from bft.testing.behaviours.replica import ByzantineReplica, ByzantineState
from bft.testing.byzantine import parse, pull_trigger

SIGNAL = signal.SIGUSR1


def parse_behaviour(text: str) -> Behaviour:
    """The behaviour.  Raises ConfigurationError."""
    try:
        return parse(text)
    except ValueError as error:
        raise ConfigurationError(str(error)) from error


def main(arguments: list[str]) -> int:
    """Run until SIGTERM or SIGINT; the exit codes are those of a replica."""
    parser = argparse.ArgumentParser(prog="python -m bft.testing.run_byzantine", description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--behaviour", required=True, metavar="SPEC")
    options = parser.parse_args(arguments)
    try:
        behaviour = parse_behaviour(options.behaviour)
        chance = random.Random(load_replica(options.directory).id)
    except BftError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    signal.signal(SIGNAL, lambda *_: pull_trigger(behaviour))
    sys.stderr.write(f"WARNING: this replica is BYZANTINE on purpose ({options.behaviour}); never run it in earnest\n")
    return run(
        options.directory,
        make_replica=partial(ByzantineReplica, behaviour=behaviour, chance=chance),
        make_state=partial(ByzantineState, behaviour=behaviour),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
