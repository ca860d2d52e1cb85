"""Twins: one replica's key run by two correct cores, and every way to keep the instances apart for a few rounds.

After Bano et al., "Twins: BFT Systems Made Robust" (OPODIS 2021): a twin equivocates, forgets and double-votes without
a line of faulty code.  There a scenario also names each round's leader; here the leader is the view's primary, so what
is enumerated is which replica has the twin (hence in which views it leads) and whether a round outlasts the time-outs
(hence in which view the next one begins).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from bft.testing.scheduler import MS, SECOND

Instance = int  # a replica, or n + i for the second instance of the i-th replica that has a twin
Groups = tuple[tuple[Instance, ...], ...]
Round = tuple[int, Groups]  # length in ns, and who can talk: instances that share no group hear nothing of each other

SHORT_NS = 250 * MS  # some batches are ordered, no timer fires
LONG_NS = 2 * SECOND  # a view change, or two


@dataclass(frozen=True, slots=True)
class Scenario:
    """Which replica has a twin, and the rounds."""

    twin: int
    rounds: tuple[Round, ...]


def partitions(instances: int, groups_max: int) -> list[Groups]:
    """Every way to split the instances into 1 to `groups_max` groups."""
    found: list[list[list[Instance]]] = [[]]
    for instance in range(instances):
        longer: list[list[list[Instance]]] = []
        for groups in found:
            longer.extend(
                [[*g, instance] if i == index else g for i, g in enumerate(groups)] for index in range(len(groups))
            )
            if len(groups) < groups_max:
                longer.append([*groups, [instance]])
        found = longer
    return [tuple(tuple(group) for group in groups) for groups in found]


def enumerate_scenarios(n: int, *, depth: int, groups_max: int = 2) -> Iterator[Scenario]:
    """Every scenario of `depth` rounds for one twin among n replicas, but for the mirror images: twins are alike."""
    choices = [(length, groups) for groups in partitions(n + 1, groups_max) for length in (SHORT_NS, LONG_NS)]
    for twin in range(n):
        for rounds in product(choices, repeat=depth):
            if tuple(rounds) <= _mirrored(rounds, twin, n):
                yield Scenario(twin, tuple(rounds))


def sample(n: int, *, depth: int, budget: int) -> list[Scenario]:
    """At most `budget` of the enumeration, evenly spread over it; all of it if the budget allows."""
    everything = list(enumerate_scenarios(n, depth=depth))
    return (
        everything if len(everything) <= budget else [everything[i * len(everything) // budget] for i in range(budget)]
    )


def _mirrored(rounds: tuple[Round, ...], twin: int, n: int) -> tuple[Round, ...]:
    """The same rounds with the two instances exchanged, written as `partitions` writes them."""
    other = {twin: n, n: twin}
    return tuple(
        (length, tuple(sorted(tuple(sorted(other.get(i, i) for i in group)) for group in groups)))
        for length, groups in rounds
    )


def draw_rounds(chance: random.Random, *, instances: int, phase_ns: int) -> tuple[Round, ...]:
    """Rounds that fill the fault phase."""
    rounds: list[Round] = []
    left = phase_ns
    while left > 0:
        length = min(left, chance.choice((SHORT_NS, SHORT_NS, LONG_NS)))
        count = chance.randint(1, 3)
        groups: list[list[Instance]] = [[] for _ in range(count)]
        for instance in range(instances):
            chance.choice(groups).append(instance)
        rounds.append((length, tuple(tuple(group) for group in groups if group)))
        left -= length
    return tuple(rounds)
