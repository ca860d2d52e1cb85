"""The protocol's messages, one frozen type each (Castro & Liskov, OSDI'99 §4, TOCS'02 §2-4).

A statement that a replica or client signs travels as ``Authenticated[T]``.  Messages without a signature
(``Proposal``, ``Status``, ``Fetch*`` and their answers, ``Reply``) are trusted only as far as the link they came on
and the signed statements inside them.  Views, sequence numbers and times are unsigned 64-bit integers.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import Generic, TypeAlias, TypeVar

from crypto.digests import sha256, tagged

View: TypeAlias = int
Seq: TypeAlias = int
ReplicaId: TypeAlias = int
Digest: TypeAlias = bytes  # SHA-256, 32 bytes
ClientKey: TypeAlias = bytes  # raw Ed25519 public key, 32 bytes: this is who the client *is*
SessionId: TypeAlias = int

M_co = TypeVar("M_co", covariant=True)


@dataclass(frozen=True)
class Authenticated(Generic[M_co]):
    """A statement whose signature, and every signature nested in it, was verified (or made here).

    Only ``bft.auth`` and a ``Signer`` construct it; the core therefore checks protocol meaning alone.
    """

    message: M_co
    payload: bytes  # the exact signed bytes; encoding is canonical, so re-encoding gives them again
    signature: bytes  # Ed25519, 64 bytes

    @cached_property
    def digest(self) -> Digest:
        """Names these exact signed bytes; two signatures of one payload differ."""
        return sha256(self.payload, self.signature)


class RequestKind(IntEnum):
    """What the replicas do with a request's operations."""

    APPLICATION = 0  # each operation goes to the service's ``apply``
    REGISTER = 1  # opens a session: operations = (X.509 certificate in DER,); session = 0, number = a fresh nonce,
    # by convention the client's clock in ns: when the table is full only a recent one evicts


@dataclass(frozen=True, slots=True)
class Request:
    """REQUEST: a bundle of operations under one client signature, executed in order.  OSDI'99 §4.1

    Deviation (§4.1): the paper's timestamp is a (session, number) pair with a window, so that several requests of
    one client can be in flight and none can be censored by executing a later one first.
    """

    client: ClientKey
    session: SessionId  # given by the replicas in answer to REGISTER
    number: int  # 1, 2, 3, ... within the session
    acked: int  # the client holds the results of every number <= acked and sends none of them again
    kind: RequestKind
    operations: tuple[bytes, ...]  # 1..operations_max

    @property
    def id(self) -> RequestId:
        return (self.client, self.session, self.number)


RequestId: TypeAlias = tuple[ClientKey, SessionId, int]


@dataclass(frozen=True)
class Batch:
    """What one sequence number orders: requests, the time at which the primary proposed them, proofs for the record."""

    time_ns: int  # the primary's wall clock, ns since 1970; 0 only in the null batch
    requests: tuple[Authenticated[Request], ...]
    evidence: tuple[Evidence, ...] = ()  # EVIDENCE_IN_BATCH_MAX at most: a proof may be large

    @cached_property
    def digest(self) -> Digest:
        """Binds the time and the exact bytes of every signed request, in order, and of every proof.

        A part of 32 bytes is a request's digest; the proofs' part is longer.
        """
        parts = [r.digest for r in self.requests]
        if self.evidence:
            parts.append(b"evidence" + b"".join(e.digest for e in self.evidence))
        return tagged(b"bft-batch-v1", self.time_ns.to_bytes(8, "big"), *parts)

    @property
    def size(self) -> int:
        """Bytes of the payloads of the requests, and of the statements that the evidence is about."""
        proofs = sum(len(e.first.payload) + len(e.second.payload) for e in self.evidence)
        return sum(len(r.payload) for r in self.requests) + proofs


EVIDENCE_IN_BATCH_MAX = 1  # at most n proofs are ever recorded, so there is no hurry
NULL_BATCH = Batch(0, ())  # the null request: consumes its sequence number, executes nothing.  OSDI'99 §4.4
NULL_DIGEST = NULL_BATCH.digest


@dataclass(frozen=True, slots=True)
class PrePrepare:
    """PRE-PREPARE: the primary of ``view`` assigns ``seq`` to the batch with ``digest``.  OSDI'99 §4.2

    The header only: the batch rides along in ``Proposal``, bound by the digest, so certificates stay small.
    It counts as the primary's prepare vote.
    """

    view: View
    seq: Seq
    digest: Digest
    replica: ReplicaId  # view mod n


@dataclass(frozen=True, slots=True)
class Proposal:
    """A PRE-PREPARE with its batch; only the header is signed, ``batch.digest`` equals its digest."""

    header: Authenticated[PrePrepare]
    batch: Batch


@dataclass(frozen=True, slots=True)
class Prepare:
    """PREPARE: ``replica``, a backup, accepts the primary's proposal.  OSDI'99 §4.2

    Carries the primary's signed header: two backups that were told different things prove it the moment they talk.
    """

    header: Authenticated[PrePrepare]
    replica: ReplicaId

    @property
    def view(self) -> View:
        return self.header.message.view

    @property
    def seq(self) -> Seq:
        return self.header.message.seq

    @property
    def digest(self) -> Digest:
        return self.header.message.digest


@dataclass(frozen=True, slots=True)
class Commit:
    """COMMIT: ``replica`` holds a prepared certificate for this (view, seq, digest).  OSDI'99 §4.2"""

    view: View
    seq: Seq
    digest: Digest
    replica: ReplicaId


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """CHECKPOINT: after executing ``seq`` the replicated state has Merkle root ``root``.  OSDI'99 §4.3"""

    seq: Seq
    root: Digest
    replica: ReplicaId


@dataclass(frozen=True, slots=True)
class PreparedCertificate:
    """A header and matching PREPAREs of distinct backups: a quorum of votes in all.  OSDI'99 §4.2"""

    header: Authenticated[PrePrepare]
    prepares: tuple[Authenticated[Prepare], ...]

    @property
    def view(self) -> View:
        return self.header.message.view

    @property
    def seq(self) -> Seq:
        return self.header.message.seq

    @property
    def digest(self) -> Digest:
        return self.header.message.digest


@dataclass(frozen=True, slots=True)
class CheckpointCertificate:
    """A quorum of equal CHECKPOINTs of distinct replicas: a stable checkpoint.  Empty only at genesis."""

    checkpoints: tuple[Authenticated[Checkpoint], ...]

    @property
    def seq(self) -> Seq:
        return self.checkpoints[0].message.seq if self.checkpoints else 0

    @property
    def root(self) -> Digest:
        return self.checkpoints[0].message.root if self.checkpoints else b""


GENESIS = CheckpointCertificate(())


@dataclass(frozen=True, slots=True)
class CertifiedBatch:
    """A batch with a quorum of equal COMMITs of distinct replicas: proof that ``seq`` is this batch, for ever."""

    batch: Batch
    commits: tuple[Authenticated[Commit], ...]

    @property
    def seq(self) -> Seq:
        return self.commits[0].message.seq

    @property
    def view(self) -> View:
        return self.commits[0].message.view


@dataclass(frozen=True, slots=True)
class ViewChange:
    """VIEW-CHANGE: ``replica`` left every view below ``view`` and proves what it had prepared.  OSDI'99 §4.4"""

    view: View
    stable: CheckpointCertificate
    prepared: tuple[PreparedCertificate, ...]  # ascending by seq, one each: that of the highest view
    replica: ReplicaId


@dataclass(frozen=True, slots=True)
class NewView:
    """NEW-VIEW: the primary of ``view`` shows why it may begin and what it re-proposes.  OSDI'99 §4.4"""

    view: View
    view_changes: tuple[Authenticated[ViewChange], ...]  # a quorum, distinct senders, ascending by sender
    pre_prepares: tuple[Authenticated[PrePrepare], ...]  # equals what everybody recomputes: min_s + 1 .. max_s
    replica: ReplicaId  # view mod n


Statement: TypeAlias = PrePrepare | Prepare | Commit | Checkpoint | ViewChange


@dataclass(frozen=True, slots=True)
class Evidence:
    """Two signatures of one replica over conflicting statements: proof of misbehaviour.

    Verifiable by anyone with the replicas' public keys.  No schedule makes a correct replica sign both; what conflicts
    is said in ``bft.core.evidence``.
    """

    first: Authenticated[Statement]
    second: Authenticated[Statement]  # of the same type, or a VIEW-CHANGE after a COMMIT

    @property
    def accused(self) -> ReplicaId:
        return self.first.message.replica

    @property
    def digest(self) -> Digest:
        """Names the exact bytes of both; of what type they are, the signatures say."""
        return tagged(b"bft-evidence-v1", self.first.digest, self.second.digest)


@dataclass(frozen=True, slots=True)
class Status:
    """STATUS: where the sender stands.  TOCS'02 §4.6 (retransmission by status messages)

    Deviation (DESIGN §4): not signed.  It only asks for retransmissions to its sender, whom the link authenticates.
    """

    view: View
    active: bool  # in normal operation, not in a view change
    last_executed: Seq
    stable: Seq
    oldest_batch: Seq  # lowest sequence number whose certified batch the sender can serve; last_executed + 1 if none
    accused: tuple[ReplicaId, ...] = ()  # against whom the sender holds proofs, ascending


@dataclass(frozen=True, slots=True)
class FetchBatches:
    """Asks one peer for the certified batches after ``after``, in order."""

    after: Seq


@dataclass(frozen=True, slots=True)
class Batches:
    """Answers ``FetchBatches``: consecutive, each carrying its own proof."""

    batches: tuple[CertifiedBatch, ...]


@dataclass(frozen=True, slots=True)
class FetchBodies:
    """Asks for the bodies of digests that a NEW-VIEW re-proposes and the sender lacks."""

    digests: tuple[Digest, ...]


@dataclass(frozen=True, slots=True)
class Bodies:
    """Answers ``FetchBodies``; each is proven by its digest."""

    batches: tuple[Batch, ...]


@dataclass(frozen=True, slots=True)
class StableCheckpoint:
    """Shows a laggard the latest stable checkpoint, so that it can transfer the state."""

    certificate: CheckpointCertificate


@dataclass(frozen=True, slots=True)
class FetchState:
    """Asks for nodes of the Merkle tree of the state at stable checkpoint ``seq``."""

    seq: Seq
    paths: tuple[bytes, ...]  # nibbles, one a byte, from the root


@dataclass(frozen=True, slots=True)
class StateChunk:
    """Answers ``FetchState``; each node is proven by the hash its parent holds.  Empty: checkpoint no longer held."""

    seq: Seq
    nodes: tuple[tuple[bytes, bytes], ...]  # (path, node encoding)


@dataclass(frozen=True, slots=True)
class QueryStable:
    """QUERY-STABLE: a replica that restarted asks what it said before, and says how long it stays silent.

    TOCS'02 §4.3.2 (estimation of H_M).  Deviation: not signed; the link vouches for the asker, the nonce for the
    answer.
    """

    nonce: int  # of this start of the asker; the answer repeats it; 0: none is wanted, this only tells the rest
    until: Seq  # it lost its disk and is silent until this checkpoint is stable; 0: it lost nothing, or cannot say yet
    above: View  # and until it is in a view above this one


@dataclass(frozen=True, slots=True)
class ReplyStable:
    """REPLY-STABLE: where the sender stands, and what it holds of the asker's own statements.

    ``stable`` and the statements are proven; ``view`` is a claim, of which only one in a quorum need be true.
    """

    nonce: int
    view: View  # the highest of which the sender said anything
    stable: CheckpointCertificate
    votes: tuple[Authenticated[PrePrepare | Prepare | Commit | Checkpoint], ...]  # at most 4 windows, the latest
    view_changes: tuple[Authenticated[ViewChange], ...]  # the one of the highest view, or none


class ReplyStatus(IntEnum):
    """How the replicas disposed of a request."""

    EXECUTED = 0
    UNKNOWN_SESSION = 1  # never registered, or evicted: register again
    OUTSIDE_WINDOW = 2  # number too far ahead of the session's contiguous prefix
    RESULT_DISCARDED = 3  # executed before, its cached result is gone
    REFUSED = 4  # a registration that is not acceptable; results = (reason,)


@dataclass(frozen=True, slots=True)
class BatchResult:
    """Signed once a batch by each replica: the results of ``seq`` have Merkle root ``root``."""

    view: View  # the view the replica is in: tells the client who is primary
    seq: Seq
    root: Digest
    replica: ReplicaId


@dataclass(frozen=True)
class Outcome:
    """What happened to one request, everywhere the same; its ``leaf`` is what clients match and receipts prove."""

    client: ClientKey
    session: SessionId
    number: int
    request_digest: Digest
    seq: Seq  # where it executed
    status: ReplyStatus
    results: tuple[bytes, ...]  # one an operation; fewer: result_bytes_max was reached, the rest was not executed

    @cached_property
    def leaf(self) -> bytes:
        """Merkle leaf that binds request, position and results."""
        numbers = b"".join(v.to_bytes(8, "big") for v in (self.session, self.number, self.seq, int(self.status)))
        return tagged(b"bft-outcome-v1", self.client, numbers, self.request_digest, *self.results)


@dataclass(frozen=True, slots=True)
class Reply:
    """REPLY: an outcome with its path to the replica's signed root.  OSDI'99 §4.1"""

    outcome: Outcome
    result: Authenticated[BatchResult]
    index: int
    count: int
    path: tuple[Digest, ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Tells a client that this replica did not take its request (a hint from one replica, not an outcome)."""

    session: SessionId
    number: int
    reason: str


SignedMessage: TypeAlias = Request | PrePrepare | Prepare | Commit | Checkpoint | ViewChange | NewView | BatchResult
PeerMessage: TypeAlias = (
    Authenticated[Request]
    | Authenticated[Prepare]
    | Authenticated[Commit]
    | Authenticated[Checkpoint]
    | Authenticated[ViewChange]
    | Authenticated[NewView]
    | Proposal
    | Evidence
    | Status
    | FetchBatches
    | Batches
    | FetchBodies
    | Bodies
    | StableCheckpoint
    | FetchState
    | StateChunk
    | QueryStable
    | ReplyStable
)
