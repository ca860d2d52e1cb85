"""What the core asks of the shell, in order.

The shell appends every ``Persist`` of a round to the log, syncs once, and only then carries out the sends and replies
of that round (persist before you speak).  The observations at the end change nothing; metrics and logs come from them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from bft.core.messages import (
    Authenticated,
    Batch,
    CertifiedBatch,
    Checkpoint,
    CheckpointCertificate,
    ClientKey,
    Commit,
    Digest,
    Evidence,
    NewView,
    PeerMessage,
    Prepare,
    PreparedCertificate,
    Proposal,
    Refusal,
    ReplicaId,
    Reply,
    Seq,
    View,
    ViewChange,
)


@dataclass(frozen=True, slots=True)
class Accepted:
    """Record: this proposal binds (view, seq); ``prepare`` is the vote for it, absent at the primary."""

    proposal: Proposal
    prepare: Authenticated[Prepare] | None


@dataclass(frozen=True, slots=True)
class Prepared:
    """Record: the prepared certificate, and the COMMIT it allows."""

    certificate: PreparedCertificate
    commit: Authenticated[Commit]


@dataclass(frozen=True, slots=True)
class Committed:
    """Record: a quorum of COMMITs; the batch is in the ``Accepted`` record with the same digest."""

    commits: tuple[Authenticated[Commit], ...]


@dataclass(frozen=True, slots=True)
class Fetched:
    """Record: a batch that came, with its proof, from a peer."""

    certified: CertifiedBatch


@dataclass(frozen=True, slots=True)
class CheckpointTaken:
    """Record: our CHECKPOINT vote."""

    checkpoint: Authenticated[Checkpoint]


@dataclass(frozen=True, slots=True)
class Stable:
    """Record: a stable checkpoint certificate."""

    certificate: CheckpointCertificate


@dataclass(frozen=True, slots=True)
class LeftView:
    """Record: our VIEW-CHANGE; we speak in no view below it any more."""

    view_change: Authenticated[ViewChange]


@dataclass(frozen=True, slots=True)
class EnteredView:
    """Record: the NEW-VIEW by which we entered its view."""

    new_view: Authenticated[NewView]


@dataclass(frozen=True, slots=True)
class Proven:
    """Record: evidence against a replica."""

    evidence: Evidence


@dataclass(frozen=True, slots=True)
class Asked:
    """Record: what we knew to have said when a start fell mute.

    It holds for every further start until ``Spoke``: what we learn while mute tells nothing of what we said before.
    """

    view: View
    low: Seq  # what we voted on up to here is covered by a stable checkpoint
    checkpoint: Seq  # the highest that we voted for, or stable
    proposed: frozenset[Seq]  # above ``low`` in ``view``: PRE-PREPAREs,
    prepared: frozenset[Seq]  # PREPAREs,
    committed: frozenset[Seq]  # COMMITs


@dataclass(frozen=True, slots=True)
class Silenced:
    """Record: we lost what we said, and stay silent, also after the next start, until ``Spoke``."""

    until: Seq  # a checkpoint at or above everything we may have voted on; 0: not known yet
    above: View  # nothing we said is in a view above this one


@dataclass(frozen=True, slots=True)
class Spoke:
    """Record: the silence of this start, or the longer one of a replica that lost its disk, is over."""


Record: TypeAlias = (
    Accepted
    | Prepared
    | Committed
    | Fetched
    | CheckpointTaken
    | Stable
    | LeftView
    | EnteredView
    | Proven
    | Asked
    | Silenced
    | Spoke
)


@dataclass(frozen=True, slots=True)
class Persist:
    """Make the record durable before anything of this round is sent."""

    record: Record


@dataclass(frozen=True, slots=True)
class Send:
    """Send to one peer."""

    to: ReplicaId
    message: PeerMessage


@dataclass(frozen=True, slots=True)
class Broadcast:
    """Send to every other replica."""

    message: PeerMessage


@dataclass(frozen=True, slots=True)
class SendReply:
    """Answer a client."""

    client: ClientKey
    reply: Reply | Refusal


@dataclass(frozen=True, slots=True)
class SaveSnapshot:
    """Save the state at checkpoint ``seq`` durably, then report ``SnapshotSaved``."""

    seq: Seq
    root: Digest


@dataclass(frozen=True, slots=True)
class TruncateLog:
    """Everything at or below stable checkpoint ``seq`` is covered by a durable snapshot and its certificate."""

    seq: Seq


class Rejection(StrEnum):
    """Why a message was not acted on: the peer's or client's fault, or plain staleness.  Counted, never a crash."""

    DUPLICATE = "duplicate"
    STALE = "stale"
    OUTSIDE_WATERMARKS = "outside watermarks"
    NOT_PRIMARY = "not the primary of the view"
    PRIMARY_PREPARE = "the primary sends no prepare"
    CONFLICTING = "conflicting statement"
    WRONG_DIGEST = "digest does not match"
    BAD_BATCH = "batch not acceptable"
    CLOCK = "proposal time outside the bound of the local clock"
    BAD_CERTIFICATE = "certificate does not prove its claim"
    BAD_NEW_VIEW = "new-view differs from the recomputed one"
    WRONG_SIGNER = "signer is not the sender of the statement"
    NOT_WANTED = "not asked for"
    OVERLOADED = "overloaded"
    OUTSIDE_WINDOW = "number outside the session's window"
    ALREADY_EXECUTED = "already executed"
    NOT_EVIDENCE = "statements do not conflict"
    NOT_OURS = "our own statement came back"
    UNANSWERABLE = "lost its disk and cannot say"


@dataclass(frozen=True, slots=True)
class Rejected:
    """Observation: a message was rejected."""

    sender: ReplicaId | ClientKey
    message_type: str
    reason: Rejection


@dataclass(frozen=True, slots=True)
class Executed:
    """Observation: ``seq`` was executed."""

    seq: Seq
    view: View
    batch: Batch
    operations: int  # executed for the first time, in this batch


@dataclass(frozen=True, slots=True)
class BecameStable:
    """Observation: a stable checkpoint."""

    seq: Seq
    root: Digest


class ViewChangeCause(StrEnum):
    """What started a view change."""

    REQUEST_TIMEOUT = "a request was not executed in time"
    NEW_VIEW_TIMEOUT = "no new-view in time"
    EQUIVOCATION = "the primary is a proven equivocator"
    SLOW_PRIMARY = "the primary proposes later than it could"
    PRIMARY_LEFT = "the primary left the view"
    COURTESY = "a replica was alone in a view change for long"
    JOINED = "f+1 replicas left the view"
    ESCORT = "a replica that lost its disk rejoins in a later view"


@dataclass(frozen=True, slots=True)
class ViewChangeStarted:
    """Observation: we left the view below ``view``."""

    view: View
    cause: ViewChangeCause


@dataclass(frozen=True, slots=True)
class ViewEntered:
    """Observation: normal operation in ``view``."""

    view: View
    primary: ReplicaId


@dataclass(frozen=True, slots=True)
class EvidenceFound:
    """Observation: a replica is proven faulty."""

    evidence: Evidence


@dataclass(frozen=True, slots=True)
class Convicted:
    """Observation: executing ``seq`` put on record that a replica is proven faulty."""

    accused: ReplicaId
    seq: Seq


@dataclass(frozen=True, slots=True)
class Diverged:
    """Observation: our state at ``seq`` is not what a quorum certified; it is fetched from peers.

    Until then we execute nothing and say nothing that depends on the state.
    """

    seq: Seq
    ours: Digest  # of a state found damaged in itself: of what it really holds
    certified: Digest


@dataclass(frozen=True, slots=True)
class Difference:
    """One key of the state and the SHA-256 of its value, in ours and in the certified one; None: it is not there."""

    key: bytes
    ours: Digest | None
    certified: Digest | None


@dataclass(frozen=True, slots=True)
class Repaired:
    """Observation: the certified state at ``seq`` is in the place of our wrong one."""

    seq: Seq
    differences: tuple[Difference, ...]  # the first of them, in the order of the tree


@dataclass(frozen=True, slots=True)
class CannotRepair:
    """The replica has to stop: its state went wrong again soon after a repair, or there is none to repair it with."""

    seq: Seq
    repaired: Seq | None  # the checkpoint of the last repair


@dataclass(frozen=True, slots=True)
class CatchingUp:
    """Observation: state transfer to ``seq`` goes on; received is what came since it began, to whatever target."""

    seq: Seq
    nodes_received: int
    bytes_received: int  # of these nodes
    nodes_wanted: int  # known to be missing; 0: the state is complete
    since_ns: int  # when it began, monotonic


@dataclass(frozen=True, slots=True)
class FellSilent:
    """Observation: what we said before is lost or unknown; we sign nothing until ``until`` is stable.

    And not in a view up to ``above``.  0 and 0 as long as too few peers have told us.
    """

    until: Seq
    above: View


@dataclass(frozen=True, slots=True)
class Rejoined:
    """Observation: we speak (again)."""

    was_silenced: bool  # False: nothing was missing


Effect: TypeAlias = (
    Persist
    | Send
    | Broadcast
    | SendReply
    | SaveSnapshot
    | TruncateLog
    | Rejected
    | Executed
    | BecameStable
    | ViewChangeStarted
    | ViewEntered
    | EvidenceFound
    | Convicted
    | Diverged
    | Repaired
    | CannotRepair
    | CatchingUp
    | FellSilent
    | Rejoined
)


@dataclass(slots=True)
class Outbox:
    """Collects the effects of one step, in order."""

    effects: list[Effect] = field(default_factory=list)

    def persist(self, record: Record) -> None:
        self.effects.append(Persist(record))

    def send(self, to: ReplicaId, message: PeerMessage) -> None:
        self.effects.append(Send(to, message))

    def broadcast(self, message: PeerMessage) -> None:
        self.effects.append(Broadcast(message))

    def reply(self, client: ClientKey, reply: Reply | Refusal) -> None:
        self.effects.append(SendReply(client, reply))

    def reject(self, sender: ReplicaId | ClientKey, message: object, reason: Rejection) -> None:
        inner = message.message if isinstance(message, Authenticated) else message
        self.effects.append(Rejected(sender, type(inner).__name__, reason))

    def note(self, effect: Effect) -> None:
        """Add an observation or any other effect."""
        self.effects.append(effect)
