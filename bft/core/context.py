"""What every part of the replica shares: who it is, how many there are, and the view it is in."""

from __future__ import annotations

from dataclasses import dataclass

from bft.core.messages import ReplicaId, View
from bft.core.parameters import Parameters
from bft.core.ports import Signer
from bft.core.quorum import Quorums


@dataclass(frozen=True, slots=True)
class Context:
    """Constant for the life of the replica."""

    id: ReplicaId
    parameters: Parameters
    quorums: Quorums
    signer: Signer


@dataclass(slots=True)
class CurrentView:
    """The view and whether we operate normally in it; only ``ViewChanges`` writes it."""

    view: View = 0
    active: bool = True  # False from our VIEW-CHANGE until the NEW-VIEW
