"""What faulty replicas and clients that collude know together."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from bft.core.messages import Authenticated, PrePrepare, Proposal, ReplicaId, Request, Seq, View
from bft.core.ports import Signer

_KEPT = 64


class Conspiracy:
    """Shared by all that collude: each other's signatures, the stories they tell, requests that no client signed."""

    def __init__(self) -> None:
        self.signers: dict[ReplicaId, Signer] = {}
        self.stories: OrderedDict[tuple[View, Seq], tuple[Proposal, Proposal]] = OrderedDict()
        self.denials: list[Authenticated[PrePrepare]] = []  # of a later view, over what they committed before
        self.forged: list[Authenticated[Request]] = []

    def join(self, replica: ReplicaId, signer: Signer) -> None:
        """From now on the others sign as this replica as they like."""
        self.signers[replica] = signer

    @property
    def replicas(self) -> list[ReplicaId]:
        return sorted(self.signers)

    def tell(self, first: Proposal, second: Proposal) -> None:
        """Agree on two proposals for one sequence number; old ones are forgotten."""
        header = first.header.message
        self.stories[header.view, header.seq] = (first, second)
        while len(self.stories) > _KEPT:
            self.stories.popitem(last=False)

    def deny(self, headers: Sequence[Authenticated[PrePrepare]]) -> None:
        """Agree to vote for these, whatever was voted for at their sequence numbers before."""
        self.denials = [*self.denials, *headers][-_KEPT:]

    def share(self, forged: Sequence[Authenticated[Request]]) -> None:
        """A colluding client's requests for a colluding primary."""
        self.forged = [*self.forged, *forged][-_KEPT:]
