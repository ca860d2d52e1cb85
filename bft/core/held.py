"""Messages that are early for this view or these watermarks, kept in a bounded band until it moves (DESIGN §5)."""

from __future__ import annotations

from collections import deque

from bft.core.messages import PeerMessage, Proposal, ReplicaId


class HeldMessages:
    """Per sender the newest few, so that nobody's flood pushes out another's."""

    def __init__(self, *, messages_max: int, proposals_max: int) -> None:
        self._messages_max = messages_max
        self._proposals_max = proposals_max
        self._votes: dict[ReplicaId, deque[PeerMessage]] = {}
        self._proposals: dict[ReplicaId, deque[PeerMessage]] = {}

    def hold(self, sender: ReplicaId, message: PeerMessage) -> None:
        """Keep for later; the sender's oldest gives way (retransmission brings it again)."""
        if isinstance(message, Proposal):
            self._proposals.setdefault(sender, deque(maxlen=self._proposals_max)).append(message)
        else:
            self._votes.setdefault(sender, deque(maxlen=self._messages_max)).append(message)

    def release(self) -> list[tuple[ReplicaId, PeerMessage]]:
        """Everything held, proposals first; what is still early will be held again."""
        released = [
            (sender, message)
            for held in (self._proposals, self._votes)
            for sender in sorted(held)
            for message in held[sender]
        ]
        self._proposals.clear()
        self._votes.clear()
        return released

    def __len__(self) -> int:
        return sum(len(q) for held in (self._proposals, self._votes) for q in held.values())
