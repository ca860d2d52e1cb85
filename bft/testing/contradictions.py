"""What each replica said, so that it can be held to it: durable before sent, and never contradicted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bft.core.messages import (
    Authenticated,
    Checkpoint,
    Commit,
    NewView,
    Prepare,
    PrePrepare,
    ReplicaId,
    SignedMessage,
    View,
    ViewChange,
)


def position(message: SignedMessage) -> tuple[Any, ...] | None:
    """Where a correct replica says one thing at most; None for what it may say as it likes."""
    match message:
        case PrePrepare() | Prepare() | Commit():
            return type(message).__name__, message.replica, message.view, message.seq
        case Checkpoint():
            return "Checkpoint", message.replica, message.seq
        case ViewChange() | NewView():
            return type(message).__name__, message.replica, message.view
        case _:
            return None


def claim(message: SignedMessage) -> Any:
    """What it says there."""
    match message:
        case PrePrepare() | Prepare() | Commit():
            return message.digest
        case Checkpoint():
            return message.root
        case _:
            return message


def contradict(first: SignedMessage, second: SignedMessage) -> bool:
    """Whether no correct replica signs both."""
    if isinstance(first, Commit) and isinstance(second, ViewChange):
        later = first.replica == second.replica and first.view < second.view
        shown = {c.seq: (c.view, c.digest) for c in second.prepared}.get(first.seq, (-1, b""))
        owed = second.stable.seq < first.seq and (
            shown[0] < first.view or (shown[0] == first.view and shown[1] != first.digest)
        )
        return later and owed
    return position(first) is not None and position(first) == position(second) and claim(first) != claim(second)


class Contradictions:
    """Statements of all replicas that are supposed to be correct."""

    def __init__(self, n: int) -> None:
        self.left_view = [0] * n  # the highest view of a VIEW-CHANGE that each sent
        self.highest_view = [0] * n  # in which it said anything
        self.highest_seq = [0] * n  # for which it said anything
        self.bound_view = [0] * n  # as `left_view`, of the VIEW-CHANGEs that it did not lose
        self.lost: list[set[bytes]] = [set() for _ in range(n)]  # what each said and does not know any more
        self.excused: list[set[bytes]] = [set() for _ in range(n)]  # of that, what nobody could tell it
        self._written: list[list[bytes]] = [[] for _ in range(n)]  # in the order that it became durable
        self._durable: set[bytes] = set()  # signatures, of which no two statements have the same
        self._sent: set[bytes] = set()
        self._claims: dict[tuple[Any, ...], tuple[Any, bytes]] = {}  # and the signature
        self._left: list[dict[bytes, View]] = [{} for _ in range(n)]  # views of its VIEW-CHANGEs

    def on_durable(self, replica: ReplicaId, statements: Iterable[Authenticated[Any]]) -> None:
        signatures = [statement.signature for statement in statements]
        self._written[replica] += signatures
        self._durable.update(signatures)

    def written(self, replica: ReplicaId) -> int:
        """How many of its statements became durable so far: a copy of its disk holds no later ones."""
        return len(self._written[replica])

    def lose(self, replica: ReplicaId, since: int) -> None:
        """Its disk holds no statement any more that became durable after so many."""
        lost = set(self._written[replica][since:])
        self.lost[replica] |= lost
        self._durable -= lost
        self._sent -= lost
        gone = self.lost[replica] | self.excused[replica]
        self.bound_view[replica] = max((v for said, v in self._left[replica].items() if said not in gone), default=0)

    def may_contradict(self, statement: Authenticated[Any]) -> bool:
        """Whether its signer lost this statement, and nobody who answered could tell."""
        return statement.signature in self.excused[statement.message.replica]

    def speak(self, replica: ReplicaId, *, excused: bool) -> None:
        """It signs again: what it lost is past, or else excused."""
        if excused:
            self.excused[replica] |= self.lost[replica]
        self.lost[replica].clear()

    def on_sent(self, replica: ReplicaId, statement: Authenticated[Any]) -> str | None:
        """What is wrong with a replica's own statement that leaves it; None if nothing is."""
        if statement.signature in self._sent:
            return None
        message = statement.message
        name = type(message).__name__
        if statement.signature not in self._durable:
            return f"replica {replica} sent a {name} that its disk does not hold"
        self._sent.add(statement.signature)
        where = position(message)
        if where is not None:
            said = claim(message)
            known, signature = self._claims.get(where, (said, statement.signature))
            if known != said and signature not in self.excused[replica]:
                return f"replica {replica} contradicts itself: two {name}s for {where[2:]}"
            self._claims[where] = (said, statement.signature)
        view = getattr(message, "view", 0)
        self.highest_view[replica] = max(self.highest_view[replica], view)
        self.highest_seq[replica] = max(self.highest_seq[replica], getattr(message, "seq", 0))
        if isinstance(message, ViewChange):
            self._left[replica][statement.signature] = view
            self.left_view[replica] = max(self.left_view[replica], view)
            self.bound_view[replica] = max(self.bound_view[replica], view)
        return None
