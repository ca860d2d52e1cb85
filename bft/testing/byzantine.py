"""The catalogue of Byzantine behaviours, by name: `parse("after(2s, equivocate_split) + delay(ms=50)")`."""

from __future__ import annotations

import random

from bft.testing.behaviours.base import MS, Behaviour, BehaviourContext
from bft.testing.behaviours.catalogue import BY_NAME, CATALOGUE, Entry, Role
from bft.testing.behaviours.combinators import (
    after,
    in_view,
    on_signal,
    only_to,
    pull_trigger,
    then,
    until,
    with_probability,
)
from bft.testing.behaviours.grammar import parse

__all__ = [
    "CATALOGUE",
    "MS",
    "NAMES",
    "SWARM",
    "Behaviour",
    "BehaviourContext",
    "Entry",
    "Role",
    "after",
    "draw",
    "in_view",
    "on_signal",
    "only_to",
    "parse",
    "pull_trigger",
    "then",
    "until",
    "with_probability",
]

NAMES = tuple(BY_NAME)

# what the simulator's seeds choose from: each alone, and combinations that make others matter
SWARM = (
    *NAMES,
    "equivocate_one+drop_to",
    "equivocate_split+denying_new_view",
    "after(2s,silent)",
    "after(2s,silent)+view_change_spam",
    "view_change_spam(jump=1000)",
    "lying_view_change+denying_new_view",
    "wrong_digest+lying_checkpoints+lying_replies",
    "equivocate_votes+replay",
    "early_commits+show_and_hide",
    "stalled_transfer+lying_checkpoints",
)


def draw(chance: random.Random) -> str:
    """A behaviour of `SWARM`, or one composed at random."""
    text = chance.choice(SWARM)
    for _ in range(chance.choice((0, 0, 0, 1, 1, 2))):
        other = chance.choice(NAMES)
        text = chance.choice(
            (
                f"{text}+{other}",
                f"after({chance.randint(1, 4)}s,{text})",
                f"until({chance.randint(1, 5)}s,{text})",
                f"then({text},{chance.randint(1, 4)}s,{other})",
                f"in_view({chance.randint(0, 2)}..{chance.randint(2, 5)},{text})",
                f"only_to({chance.choice(('f', 'half', '0|1', '1|2', '2|3|clients'))},{text})",
                f"with_probability({chance.choice((0.1, 0.3, 0.7))},{text})",
            )
        )
    return text
