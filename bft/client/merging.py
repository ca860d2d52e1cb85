"""When a client believes what replicas say happened: f+1 of them say that it comes next."""

from collections import deque
from collections.abc import Iterable
from itertools import groupby

from bft.core.messages import ReplicaId
from bft.core.quorum import Quorums
from bft.statemachine.kv import Event, Events

Group = tuple[Event, ...]  # all events of one revision


class EventMerger:
    """The events of one range of keys, in order, without a gap, each vouched for by f+1 replicas.

    A replica's answer to "what happened from revision s on" is a claim about everything from s to the answer's `next`.
    Histories of correct replicas differ in length only, so all of them say the same of what comes next after a given
    revision; of f+1 that say the same one is correct.  What f liars leave out, f+1 correct replicas name.

    Holds at most one answer a replica: ask for another when `wants`.
    """

    def __init__(self, quorums: Quorums, since: int) -> None:
        self._quorums = quorums
        self.position = since  # everything before it was handed out, or did not happen
        self._next = [since] * quorums.n  # what to ask each replica; it said everything before that
        self._claims: list[deque[Group]] = [deque() for _ in range(quorums.n)]
        self._compacted: dict[ReplicaId, int] = {}  # who has lost events from `position` on; the first that it has
        self._expiring = [False] * quorums.n

    @property
    def expiring(self) -> bool:
        """Whether the store holds keys that expire, as f+1 replicas said last."""
        return sum(self._expiring) >= self._quorums.weak

    @property
    def compacted(self) -> int | None:
        """The first revision that the replicas still know, if `position` is before it."""
        votes = sorted(self._compacted.values())
        # Of 2f+1 the middle one is a correct replica's, or between those of two.
        f = self._quorums.f
        return votes[f] if len(votes) > 2 * f else None

    def wants(self, replica: ReplicaId) -> bool:
        """Whether another answer of this replica can be taken."""
        return not self._claims[replica]

    def ask(self, replica: ReplicaId) -> int:
        """Since which revision to ask this replica."""
        return max(self._next[replica], self.position)

    def forgotten(self, replica: ReplicaId, since: int, oldest: int) -> None:
        """Asked since `since`, the replica said that its history begins with `oldest`."""
        if since == self.position:
            self._compacted[replica] = oldest

    def add(self, replica: ReplicaId, since: int, answer: Events) -> list[Event]:
        """Take what the replica answered to `ask`; the events that are believed now.

        ValueError, and nothing taken, if no correct replica answers so.
        """
        groups = _groups(answer.events)
        revisions = [group[0].revision for group in groups]
        if revisions != sorted(set(revisions)) or not all(since <= r < answer.next for r in revisions):
            raise ValueError("events out of order, or not those that were asked for")
        if answer.next < since:
            raise ValueError("an answer that leads backwards")
        self._expiring[replica] = answer.expiring
        self._claims[replica].extend([group for group in groups if group[0].revision >= self.position])
        self._next[replica] = answer.next
        return self._advance()

    def _advance(self) -> list[Event]:
        believed: list[Event] = []
        weak = self._quorums.weak
        while True:
            heads = [claims[0] if claims else None for claims in self._claims]
            reached = [self._next[i] if head is None else head[0].revision for i, head in enumerate(heads)]
            # f+1 replicas say that nothing happens before this.
            position = max(self.position, sorted(reached, reverse=True)[weak - 1])
            nexts = [head for head in heads if head is not None and head[0].revision == position]
            agreed = next((head for head in nexts if nexts.count(head) >= weak), None)
            if agreed is not None:
                believed += agreed
                position += 1
            if position == self.position:
                return believed
            self.position = position
            self._compacted.clear()
            for claims in self._claims:  # whoever claimed something else before this lied
                while claims and claims[0][0].revision < position:
                    claims.popleft()


def _groups(events: Iterable[Event]) -> list[Group]:
    return [tuple(group) for _, group in groupby(events, key=lambda event: event.revision)]
