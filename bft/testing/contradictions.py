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
        self._durable: set[bytes] = set()  # signatures, of which no two statements have the same
        self._sent: set[bytes] = set()
        self._claims: dict[tuple[Any, ...], Any] = {}

    def on_durable(self, replica: ReplicaId, statements: Iterable[Authenticated[Any]]) -> None:
        self._durable.update(statement.signature for statement in statements)

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
            if self._claims.setdefault(where, said) != said:
                return f"replica {replica} contradicts itself: two {name}s for {where[2:]}"
        view = getattr(message, "view", 0)
        self.highest_view[replica] = max(self.highest_view[replica], view)
        self.highest_seq[replica] = max(self.highest_seq[replica], getattr(message, "seq", 0))
        if isinstance(message, ViewChange):
            self.left_view[replica] = max(self.left_view[replica], view)
        return None
