"""When a client believes what replicas say: f+1 of them, each on its own authenticated link, say the same.

On a cluster with fast reads it takes a quorum: then a majority of the correct replicas, whatever the faulty ones do,
has executed what any client was told of, and a fast read meets one of these (docs/reads.md; Berger et al., SRDS 2021).
"""

from dataclasses import dataclass

from bft.core.messages import Authenticated, Outcome, ReplicaId, Reply, ReplyStatus, Request, View
from bft.core.quorum import Quorums


@dataclass(frozen=True, slots=True)
class Accepted:
    """An outcome that at least one correct replica reported, and the equal replies that prove it."""

    outcome: Outcome
    replies: tuple[Reply, ...]  # of at least f+1 distinct replicas: the material of a receipt


def replies_needed(quorums: Quorums, *, fast_reads: bool) -> int:
    """How many replicas must report an ordered operation's outcome before a client accepts it."""
    return quorums.quorum if fast_reads else quorums.weak


class ReplyCollector:
    """The replies to one request.  It holds at most one a replica, so a hostile one cannot make it grow.

    A reply's signature is not verified here: the link's TLS peer key is pinned, so its sender is known; the signature
    is for third parties, who saw no link (receipts).
    """

    def __init__(self, request: Authenticated[Request], quorums: Quorums, *, fast_reads: bool = False) -> None:
        self._request = request.message
        self._digest = request.digest
        self._n = quorums.n
        self._needed = replies_needed(quorums, fast_reads=fast_reads)
        self._votes: dict[ReplicaId, Reply] = {}

    def add(self, sender: ReplicaId, reply: Reply) -> Accepted | None:
        """Take the reply that came on ``sender``'s link; the accepted outcome once enough replicas report equal ones.

        A later reply of one replica replaces its earlier one: a request that is ordered twice after its session was
        evicted has an outcome at each sequence number, and every correct replica reports the same ones in turn.
        """
        if not 0 <= sender < self._n or reply.result.message.replica != sender or not self._answers(reply.outcome):
            return None
        self._votes[sender] = reply
        outcome = reply.outcome
        # Equal outcomes have equal leaves, and the reverse: the leaf is an injective encoding of all of its fields.
        equal = [vote for vote in self._votes.values() if vote.outcome == outcome]
        return Accepted(outcome, tuple(equal)) if len(equal) >= self._needed else None

    def _answers(self, outcome: Outcome) -> bool:
        request = self._request
        return (
            outcome.request_digest == self._digest
            and outcome.number == request.number
            and outcome.session == request.session
            and outcome.client == request.client
            and (outcome.status is not ReplyStatus.EXECUTED or 0 < len(outcome.results) <= len(request.operations))
        )


class ViewTracker:
    """The view that the client believes in: the highest that f+1 replicas say they reached.

    At least one of any f+1 is correct, so f liars steer the client neither forward nor back.
    """

    def __init__(self, quorums: Quorums) -> None:
        self._quorums = quorums
        self._reported: list[View] = [0] * quorums.n
        self.view: View = 0

    @property
    def primary(self) -> ReplicaId:
        return self._quorums.primary(self.view)

    def reported(self, replica: ReplicaId) -> View:
        """The highest view that this replica said it was in."""
        return self._reported[replica]

    def report(self, replica: ReplicaId, view: View) -> bool:
        """Note what a replica says; whether the believed view changed."""
        if view <= self._reported[replica]:
            return False
        self._reported[replica] = view
        believed = sorted(self._reported, reverse=True)[self._quorums.f]
        changed = believed > self.view
        self.view = max(self.view, believed)
        return changed
