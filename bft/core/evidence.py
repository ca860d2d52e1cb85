"""Conflicting statements -> proof that anyone can verify (DESIGN §4, Evidence)."""

from __future__ import annotations

from typing import Any

from bft.core.convictions import Convictions
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
from bft.core.new_view import valid_view_change
from bft.core.parameters import Parameters
from bft.core.quorum import Quorums


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


def _hides(left: ViewChange, committed: Commit) -> bool:
    """The VIEW-CHANGE keeps back what its signer said it held: a prepared certificate as high as that COMMIT's."""
    if left.replica != committed.replica or left.view <= committed.view or left.stable.seq >= committed.seq:
        return False
    shown = next((c for c in left.prepared if c.seq == committed.seq), None)
    if shown is None or shown.view < committed.view:
        return True
    return shown.view == committed.view and shown.digest != committed.digest


def conflict(first: Statement, second: Statement) -> bool:
    """True iff no correct replica signs both.

    Each claim is fixed, and on disk, before it is first sent: a header by the slot it binds, a PREPARE by that
    header, a COMMIT by the prepared certificate (of which (view, seq) admits one), a CHECKPOINT by deterministic
    execution, a VIEW-CHANGE by being kept and resent verbatim.

    A COMMIT, first, conflicts with a VIEW-CHANGE for a later view that shows neither its prepared certificate, nor one
    of a later view, nor a stable checkpoint past it: the certificate outlives the view, and who left a view commits in
    it no more.  This is the lie by which f + 1 faulty replicas commit another batch in a later view, so it convicts
    f + 1: whoever is in the quorum that committed and in the one that began the later view.
    """
    if isinstance(first, Commit) and isinstance(second, ViewChange):
        return _hides(second, first)
    return _position(first) == _position(second) and _claim(first) != _claim(second)


def proves(evidence: Evidence, quorums: Quorums, parameters: Parameters) -> bool:
    """The two statements conflict, and a VIEW-CHANGE among them is none that nobody would act on.

    A pure function of what the evidence holds: every replica comes to the same verdict.
    """
    statements = (evidence.first.message, evidence.second.message)
    return conflict(*statements) and all(
        not isinstance(s, ViewChange) or valid_view_change(s, quorums, parameters) for s in statements
    )


class EvidenceBook:
    """At most one proof for each replica: enough to convict, and bounded.  And whom the agreed history convicts."""

    def __init__(self) -> None:
        self._by_replica: dict[ReplicaId, Evidence] = {}
        self._recorded: set[ReplicaId] = set()  # in the replicated state; the proof may not have come yet

    def __contains__(self, replica: ReplicaId) -> bool:
        """Proven faulty, by a proof that we hold or by the agreed history."""
        return replica in self._by_replica or replica in self._recorded

    def __len__(self) -> int:
        return len(self._by_replica)

    def holds(self, replica: ReplicaId) -> bool:
        """We hold a proof."""
        return replica in self._by_replica

    def note_recorded(self, convictions: Convictions) -> None:
        """The state that we adopted convicts these."""
        self._recorded.update(replica for replica, _ in convictions)

    def __iter__(self) -> Any:
        return iter(self._by_replica.values())

    @property
    def accused(self) -> tuple[ReplicaId, ...]:
        """Against whom there is a proof, ascending."""
        return tuple(sorted(self._by_replica))

    def first_besides(self, known: tuple[ReplicaId, ...]) -> Evidence | None:
        """A proof against a replica that is none of these."""
        return next((proof for accused, proof in self._by_replica.items() if accused not in known), None)

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
