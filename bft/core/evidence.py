"""Conflicting statements -> proof that anyone can verify (DESIGN §4, Evidence)."""

from __future__ import annotations

from typing import Any

from bft.core.messages import (
    Authenticated,
    Checkpoint,
    Commit,
    Evidence,
    Prepare,
    PrePrepare,
    ReplicaId,
    Statement,
    ViewChange,
)


def _position(statement: Statement) -> tuple[object, ...]:
    """A correct replica signs at most one statement at each position."""
    match statement:
        case PrePrepare() | Prepare() | Commit():
            return (type(statement), statement.replica, statement.view, statement.seq)
        case Checkpoint():
            return (type(statement), statement.replica, statement.seq)
        case ViewChange():
            return (type(statement), statement.replica, statement.view)


def _claim(statement: Statement) -> object:
    """What the statement says at its position."""
    match statement:
        case PrePrepare() | Prepare() | Commit():
            return statement.digest
        case Checkpoint():
            return statement.root
        case ViewChange():
            return statement


def conflict(first: Statement, second: Statement) -> bool:
    """True iff no correct replica signs both.

    Each claim is fixed, and on disk, before it is first sent: a header by the slot it binds, a PREPARE by that
    header, a COMMIT by the prepared certificate (of which (view, seq) admits one), a CHECKPOINT by deterministic
    execution, a VIEW-CHANGE by being kept and resent verbatim.
    """
    return _position(first) == _position(second) and _claim(first) != _claim(second)


class EvidenceBook:
    """At most one proof for each replica: enough to convict, and bounded."""

    def __init__(self) -> None:
        self._by_replica: dict[ReplicaId, Evidence] = {}

    def __contains__(self, replica: ReplicaId) -> bool:
        return replica in self._by_replica

    def __iter__(self) -> Any:
        return iter(self._by_replica.values())

    def add(self, evidence: Evidence) -> bool:
        """Keep the proof if it is the first against this replica."""
        if evidence.accused in self._by_replica:
            return False
        self._by_replica[evidence.accused] = evidence
        return True


def evidence_of(first: Authenticated[Any], second: Authenticated[Any]) -> Evidence | None:
    """Proof if the two verified statements conflict."""
    if first is second:  # the common case: the header that each PREPARE carries
        return None
    return Evidence(first, second) if conflict(first.message, second.message) else None
