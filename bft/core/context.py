"""What every part of the replica shares: who it is, how many there are, and the view it is in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

from bft.core.invariants import invariant
from bft.core.messages import Authenticated, ReplicaId, SignedMessage, View
from bft.core.parameters import Parameters
from bft.core.ports import Signer
from bft.core.quorum import Quorums

S = TypeVar("S", bound=SignedMessage)


@dataclass(slots=True)
class Voice:
    """Whether this replica may sign; only ``Rejoining`` writes it."""

    mute: bool = False  # True: it follows as a learner, every part leaves its statements unmade


@dataclass(frozen=True, slots=True)
class Context:
    """Constant for the life of the replica."""

    id: ReplicaId
    parameters: Parameters
    quorums: Quorums
    signer: Signer
    voice: Voice = field(default_factory=Voice)

    def sign(self, message: S) -> Authenticated[S]:
        """The statement, signed by us; no part may ask for it while we are mute."""
        invariant(not self.voice.mute, f"a mute replica signs a {type(message).__name__}")
        return self.signer.sign(message)


@dataclass(slots=True)
class CurrentView:
    """The view and whether we operate normally in it; only ``ViewChanges`` writes it."""

    view: View = 0
    active: bool = True  # False from our VIEW-CHANGE until the NEW-VIEW
