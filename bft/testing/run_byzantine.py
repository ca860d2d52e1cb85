"""`python -m bft.testing.run_byzantine DIR --behaviour SPEC`: a real replica process that misbehaves, for tests.

SPEC is what `bft.testing.byzantine.parse` reads, and may say when to begin; until then the replica is correct:

    equivocate_split              from the first step on
    equivocate_split@after=2.5    2.5 seconds after the start
    equivocate_split@signal       when the process gets SIGUSR1
"""

import argparse
import math
import random
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bft.auth import KeySigner
from bft.config import ReplicaConfig, load_replica
from bft.core.effects import Effect
from bft.core.events import Instant
from bft.errors import BftError, ConfigurationError
from bft.node import run
from bft.testing.byzantine import Behaviour, BehaviourContext, parse
from crypto.keys import InvalidKey, PrivateKey

SIGNAL = signal.SIGUSR1


@dataclass(slots=True)
class Trigger:
    """When the misbehaviour begins, in nanoseconds of the monotonic clock."""

    begins_ns: float = -math.inf

    def pull(self) -> None:
        """Begin now."""
        self.begins_ns = min(self.begins_ns, time.monotonic_ns())


def parse_spec(spec: str) -> tuple[Behaviour, Trigger]:
    """The behaviour and its trigger.  Raises ConfigurationError."""
    name, _, condition = spec.partition("@")
    try:
        return parse(name), _parse_trigger(condition)
    except ValueError as error:
        raise ConfigurationError(f"behaviour {spec}: {error}") from error


def _parse_trigger(condition: str) -> Trigger:
    if not condition:
        return Trigger()
    if condition == "signal":
        return Trigger(math.inf)
    key, _, text = condition.partition("=")
    if key != "after":
        raise ValueError(f'"@{condition}" is neither @signal nor @after=SECONDS')
    seconds = float(text)
    if not 0 <= seconds < math.inf:
        raise ValueError(f"{text} is no number of seconds")
    return Trigger(time.monotonic_ns() + seconds * 1e9)


def make_filter(
    config: ReplicaConfig, behaviour: Behaviour, trigger: Trigger
) -> Callable[[list[Effect], Instant], list[Effect]]:
    """The node's effects filter that behaves this way once the trigger is pulled.  Raises ConfigurationError."""
    try:
        key = PrivateKey.load(config.key)
    except InvalidKey as error:
        raise ConfigurationError(str(error)) from error
    signer = KeySigner(key, config.cluster.domain)
    chance = random.Random(config.id)

    def transform(effects: list[Effect], now: Instant) -> list[Effect]:
        if now.monotonic_ns < trigger.begins_ns:
            return effects
        context = BehaviourContext(config.id, len(config.cluster.replicas), signer, chance, now.monotonic_ns)
        return behaviour.transform(effects, context)

    return transform


def main(arguments: list[str]) -> int:
    """Run until SIGTERM or SIGINT; the exit codes are those of a replica."""
    parser = argparse.ArgumentParser(prog="python -m bft.testing.run_byzantine", description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--behaviour", required=True, metavar="SPEC")
    options = parser.parse_args(arguments)
    try:
        behaviour, trigger = parse_spec(options.behaviour)
        effects_filter = make_filter(load_replica(options.directory), behaviour, trigger)
    except BftError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    signal.signal(SIGNAL, lambda *_: trigger.pull())
    sys.stderr.write(f"WARNING: this replica is BYZANTINE on purpose ({options.behaviour}); never run it in earnest\n")
    return run(options.directory, effects_filter=effects_filter)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
