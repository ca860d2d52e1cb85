"""Every frame's body: what travels between replicas, and between a replica and a client."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, cast

from bft.codec.limits import NIBBLES_MAX, PATH_DIGESTS_MAX, PROVE_KEY, REFUSAL_REASON, REPLY, WATCH_OPERATION, Limits
from bft.codec.statements import (
    SIGNED_FIELDS,
    Decoded,
    Decoder,
    message_type,
    signed_fields,
    stable_fields,
)
from bft.codec.wire import (
    ARRAYS_MIN,
    MessageType,
    array,
    blob,
    digest,
    fields_of,
    fixed,
    flag,
    natural,
    pack,
    text,
    unpack,
)
from bft.core.messages import (
    EVIDENCE_IN_BATCH_MAX,
    Authenticated,
    Batch,
    Batches,
    Bodies,
    CertifiedBatch,
    Evidence,
    FetchBatches,
    FetchBodies,
    FetchState,
    Outcome,
    PeerMessage,
    Proposal,
    QueryStable,
    Refusal,
    Reply,
    ReplyStable,
    ReplyStatus,
    StableCheckpoint,
    StateChunk,
    Statement,
    Status,
)
from bft.errors import InvalidMessage
from crypto.certificates import Role, is_name

PROTOCOL_VERSION: Final = 1
_HEAD_BYTES: Final = 2  # version and type, which the length counts


@dataclass(frozen=True, slots=True)
class Hello:
    """HELLO: the first frame of each direction of every link; not signed, TLS vouches for the sender.

    Both sides close a link whose other end names another cluster or epoch, or not the identity of its certificate.
    """

    cluster: str
    epoch: int
    role: Role
    name: str  # a replica's is its number in decimal


@dataclass(frozen=True, slots=True)
class Query:
    """QUERY: a client asks one replica to evaluate a read-only operation; not signed, not ordered."""

    nonce: int  # the answer repeats it
    operation: bytes


@dataclass(frozen=True, slots=True)
class QueryAnswer:
    """QUERY-ANSWER: what `operation` evaluates to in the sender's state after executing `seq`; not signed."""

    nonce: int
    seq: int
    result: bytes


@dataclass(frozen=True, slots=True)
class Watch:
    """WATCH: a QUERY whose answer may wait for up to `wait_ms` until there is news; not signed, not ordered.

    A link's next one with the same `watch` takes its place: the earlier one is not answered any more.
    """

    watch: int  # of the client's choice
    nonce: int  # the QUERY-ANSWER repeats it
    wait_ms: int
    operation: bytes


@dataclass(frozen=True, slots=True)
class Prove:
    """PROVE: a client asks one replica what is stored under a key of the service's, with a proof; not signed."""

    nonce: int
    key: bytes


@dataclass(frozen=True, slots=True)
class Proof:
    """PROOF: answers PROVE by the bytes of a `bft.state_proof.StateProof`; empty if the sender has none to give."""

    nonce: int
    proof: bytes


FrameMessage: TypeAlias = PeerMessage | Reply | Refusal | Hello | Query | QueryAnswer | Watch | Prove | Proof

_STATUSES: Final = {int(status): status for status in ReplyStatus}
_ROLES: Final = {str(role): role for role in Role}
_IN_EVIDENCE: Final = (  # what a replica can contradict itself in
    MessageType.PRE_PREPARE,
    MessageType.PREPARE,
    MessageType.COMMIT,
    MessageType.CHECKPOINT,
    MessageType.VIEW_CHANGE,
)


_VOTES: Final = frozenset(  # the kinds that REPLY-STABLE returns
    {MessageType.PRE_PREPARE, MessageType.PREPARE, MessageType.COMMIT, MessageType.CHECKPOINT}
)


def encode_frame(message: FrameMessage) -> bytes:
    """The frame of `message`: u32 length of what follows, u8 version, u8 type, body."""
    kind, body = encode_body(message)
    head = (len(body) + _HEAD_BYTES).to_bytes(4, "big")
    return b"".join((head, _HEADS[kind], body))


def encode_body(message: FrameMessage) -> tuple[MessageType, bytes]:
    """The type of the frame of `message` and its body."""
    if isinstance(message, Authenticated):
        return message_type(message.message), pack((message.payload, message.signature))
    kind, fields = _FIELDS[type(message)]
    return kind, pack(fields(message))


def decode_body(frame_type: int, body: bytes, limits: Limits) -> Decoded[Any]:
    """Read the body of a frame of this type, whose length `FrameSplitter` has checked.  Raises InvalidMessage."""
    decoder = Decoder(limits)
    read = _BODIES.get(frame_type)
    if read is not None:
        message = read(decoder, body)
    elif frame_type in _BARE:
        payload_and_signature = unpack(body, fields=SIGNED_FIELDS, array_max=SIGNED_FIELDS)
        message = decoder.signed(MessageType(frame_type), decoder.reader(frame_type), payload_and_signature)
    else:
        raise InvalidMessage(f"{frame_type} is not a type of frame")
    return Decoded(message, decoder.claims())


# --- writing


def _signed_all(statements: tuple[Authenticated[Any], ...]) -> tuple[tuple[bytes, bytes], ...]:
    return tuple([(s.payload, s.signature) for s in statements])


def _batch_fields(batch: Batch) -> tuple[Any, ...]:
    return (batch.time_ns, _signed_all(batch.requests), tuple([_evidence_fields(e) for e in batch.evidence]))


def _proposal_fields(m: Proposal) -> tuple[Any, ...]:
    return (signed_fields(m.header), _batch_fields(m.batch))


def _evidence_fields(m: Evidence) -> tuple[Any, ...]:
    first, second = m.first, m.second
    return (
        int(message_type(first.message)),
        signed_fields(first),
        int(message_type(second.message)),
        signed_fields(second),
    )


def _status_fields(m: Status) -> tuple[Any, ...]:
    return (m.view, m.active, m.last_executed, m.stable, m.oldest_batch, m.accused)


def _batches_fields(m: Batches) -> tuple[Any, ...]:
    return (tuple([(_batch_fields(c.batch), _signed_all(c.commits)) for c in m.batches]),)


def _reply_stable_fields(m: ReplyStable) -> tuple[Any, ...]:
    votes = tuple([(int(message_type(v.message)), signed_fields(v)) for v in m.votes])
    return (m.nonce, m.view, stable_fields(m.stable), votes, _signed_all(m.view_changes))


def _reply_fields(m: Reply) -> tuple[Any, ...]:
    o = m.outcome
    outcome = (o.client, o.session, o.number, o.request_digest, o.seq, int(o.status), o.results)
    return (outcome, signed_fields(m.result), m.index, m.count, m.path)


_FIELDS: Final[dict[type, tuple[MessageType, Callable[[Any], tuple[Any, ...]]]]] = {
    Proposal: (MessageType.PROPOSAL, _proposal_fields),
    Evidence: (MessageType.EVIDENCE, _evidence_fields),
    Status: (MessageType.STATUS, _status_fields),
    FetchBatches: (MessageType.FETCH_BATCHES, lambda m: (m.after,)),
    Batches: (MessageType.BATCHES, _batches_fields),
    FetchBodies: (MessageType.FETCH_BODIES, lambda m: (m.digests,)),
    Bodies: (MessageType.BODIES, lambda m: (tuple([_batch_fields(b) for b in m.batches]),)),
    StableCheckpoint: (MessageType.STABLE_CHECKPOINT, lambda m: (stable_fields(m.certificate),)),
    FetchState: (MessageType.FETCH_STATE, lambda m: (m.seq, m.paths)),
    StateChunk: (MessageType.STATE_CHUNK, lambda m: (m.seq, m.nodes)),
    QueryStable: (MessageType.QUERY_STABLE, lambda m: (m.nonce, m.until, m.above)),
    ReplyStable: (MessageType.REPLY_STABLE, _reply_stable_fields),
    Reply: (MessageType.REPLY, _reply_fields),
    Refusal: (MessageType.REFUSAL, lambda m: (m.session, m.number, m.reason)),
    Hello: (MessageType.HELLO, lambda m: (m.cluster, m.epoch, str(m.role), m.name)),
    Query: (MessageType.QUERY, lambda m: (m.nonce, m.operation)),
    QueryAnswer: (MessageType.QUERY_ANSWER, lambda m: (m.nonce, m.seq, m.result)),
    Watch: (MessageType.WATCH, lambda m: (m.watch, m.nonce, m.wait_ms, m.operation)),
    Prove: (MessageType.PROVE, lambda m: (m.nonce, m.key)),
    Proof: (MessageType.PROOF, lambda m: (m.nonce, m.proof)),
}
_HEADS: Final = {kind: bytes((PROTOCOL_VERSION, kind)) for kind in MessageType}

# --- reading


def _batch(d: Decoder, raw: Any, *, proven: bool = False) -> Batch:
    """A batch; `proven`: its digest is vouched for by a quorum, so its requests' signatures are no claims.

    Those of evidence always are: an accusation must hold whatever more than f replicas say.
    """
    time_ns, requests, evidence = fields_of(raw, "batch", 3)
    array(evidence, "evidence", at_most=EVIDENCE_IN_BATCH_MAX)
    array(requests, "requests", at_most=d.limits.batch_requests_max)
    read = d.unclaimed_request if proven else d.signed_request
    signed_requests = tuple([read(r) for r in requests])
    if (size := sum(len(r.payload) for r in signed_requests)) > d.limits.batch_bytes:
        raise InvalidMessage(f"a batch has {size} bytes, more than {d.limits.batch_bytes}")
    proofs = tuple([_proof(d, fields_of(e, "evidence", 4)) for e in evidence])
    return Batch(natural(time_ns, "time"), signed_requests, proofs)


def _proposal(d: Decoder, body: bytes) -> Proposal:
    header, batch = unpack(body, fields=2, array_max=max(d.limits.batch_requests_max, 4))
    return Proposal(d.signed(MessageType.PRE_PREPARE, d.pre_prepare, header), _batch(d, batch))


def _in_evidence(d: Decoder, number: Any, raw: Any) -> Authenticated[Statement]:
    natural(number, "type of a statement")
    if number not in _IN_EVIDENCE:
        raise InvalidMessage(f"type {number} is not one that evidence is about")
    kind = MessageType(number)
    return d.signed(kind, cast("Callable[[bytes], Statement]", d.reader(kind)), raw)


def _evidence(d: Decoder, body: bytes) -> Evidence:
    return _proof(d, unpack(body, fields=4, array_max=4))


def _proof(d: Decoder, fields: tuple[Any, ...]) -> Evidence:
    first_type, first, second_type, second = fields
    evidence = Evidence(_in_evidence(d, first_type, first), _in_evidence(d, second_type, second))
    if evidence.first.message.replica != evidence.second.message.replica:
        raise InvalidMessage("the statements of one piece of evidence have different signers")
    return evidence


def _status(d: Decoder, body: bytes) -> Status:
    view, active, last_executed, stable, oldest_batch, accused = unpack(body, fields=6, array_max=max(d.limits.n, 6))
    array(accused, "accused", at_most=d.limits.n)
    if any(natural(replica, "replica") >= d.limits.n for replica in accused) or list(accused) != sorted(set(accused)):
        raise InvalidMessage("the accused are not replicas in ascending order")
    return Status(
        natural(view, "view"),
        flag(active, "active"),
        natural(last_executed, "last_executed"),
        natural(stable, "stable"),
        natural(oldest_batch, "oldest_batch"),
        accused,
    )


def _fetch_batches(_: Decoder, body: bytes) -> FetchBatches:
    (after,) = unpack(body, fields=1, array_max=1)
    return FetchBatches(natural(after, "after"))


def _certified(d: Decoder, raw: Any) -> CertifiedBatch:
    batch, commits = fields_of(raw, "certified batch", 2)
    array(commits, "commits", at_least=1, at_most=d.limits.n)
    signed, read = d.signed, d.commit
    return CertifiedBatch(_batch(d, batch, proven=True), tuple([signed(MessageType.COMMIT, read, c) for c in commits]))


def _batches(d: Decoder, body: bytes) -> Batches:
    (batches,) = unpack(body, fields=1, array_max=d.limits.array_max, arrays_max=d.limits.certified_arrays_max)
    array(batches, "batches", at_most=d.limits.window)
    return Batches(tuple([_certified(d, raw) for raw in batches]))


def _fetch_bodies(d: Decoder, body: bytes) -> FetchBodies:
    (digests,) = unpack(body, fields=1, array_max=d.limits.window)
    array(digests, "digests", at_least=1, at_most=d.limits.window)
    return FetchBodies(tuple([digest(raw, "digest") for raw in digests]))


def _bodies(d: Decoder, body: bytes) -> Bodies:
    (batches,) = unpack(body, fields=1, array_max=d.limits.array_max, arrays_max=d.limits.certified_arrays_max)
    array(batches, "batches", at_most=d.limits.window)
    return Bodies(tuple([_batch(d, raw, proven=True) for raw in batches]))


def _stable_checkpoint(d: Decoder, body: bytes) -> StableCheckpoint:
    (certificate,) = unpack(body, fields=1, array_max=max(d.limits.n, 2))
    return StableCheckpoint(d.stable(certificate))


def _path(raw: Any) -> bytes:
    path = blob(raw, "path", NIBBLES_MAX)
    if path and max(path) > 15:
        raise InvalidMessage("a path is not made of nibbles")
    return path


def _fetch_state(d: Decoder, body: bytes) -> FetchState:
    seq, paths = unpack(body, fields=2, array_max=max(d.limits.nodes_max, 2))
    array(paths, "paths", at_least=1, at_most=d.limits.nodes_max)
    return FetchState(natural(seq, "seq"), tuple([_path(raw) for raw in paths]))


def _node(raw: Any, at_most: int) -> tuple[bytes, bytes]:
    path, encoding = fields_of(raw, "node", 2)
    return _path(path), blob(encoding, "node", at_most)


def _state_chunk(d: Decoder, body: bytes) -> StateChunk:
    seq, nodes = unpack(body, fields=2, array_max=max(d.limits.nodes_max, 2))
    array(nodes, "nodes", at_most=d.limits.nodes_max)
    return StateChunk(natural(seq, "seq"), tuple([_node(raw, len(body)) for raw in nodes]))


def _query_stable(_: Decoder, body: bytes) -> QueryStable:
    nonce, until, above = unpack(body, fields=3, array_max=3)
    return QueryStable(natural(nonce, "nonce"), natural(until, "until"), natural(above, "above"))


def _reply_stable(d: Decoder, body: bytes) -> ReplyStable:
    votes_max = 4 * d.limits.window
    nonce, view, stable, votes, view_changes = unpack(
        body, fields=5, array_max=max(votes_max, d.limits.n, 5), arrays_max=2 * votes_max + d.limits.n + ARRAYS_MIN
    )
    array(votes, "votes", at_most=votes_max)
    array(view_changes, "view-changes", at_most=1)
    return ReplyStable(
        natural(nonce, "nonce"),
        natural(view, "view"),
        d.stable(stable),
        tuple([_vote(d, raw) for raw in votes]),
        tuple([d.signed(MessageType.VIEW_CHANGE, d.view_change, raw) for raw in view_changes]),
    )


def _vote(d: Decoder, raw: Any) -> Authenticated[Any]:
    number, statement = fields_of(raw, "vote", 2)
    if natural(number, "type of a vote") not in _VOTES:
        raise InvalidMessage(f"type {number} is not that of a vote")
    return d.signed(MessageType(number), d.reader(number), statement)


def _reply(d: Decoder, body: bytes) -> Reply:
    raw, result, index, count, path = unpack(body, fields=5, array_max=d.limits.array_max)
    natural(index, "index")
    natural(count, "count")
    if not index < count <= d.limits.batch_requests_max:
        raise InvalidMessage(f"there is no result {index} of {count}")
    array(path, "path", at_most=PATH_DIGESTS_MAX)
    return Reply(
        _outcome(d, raw),
        d.signed(MessageType.BATCH_RESULT, d.batch_result, result),
        index,
        count,
        tuple([digest(raw, "path") for raw in path]),
    )


def _outcome(d: Decoder, raw: Any) -> Outcome:
    client, session, number, request_digest, seq, status, results = fields_of(raw, "outcome", 7)
    known_status = _STATUSES.get(natural(status, "status"))
    if known_status is None:
        raise InvalidMessage(f"{status} is no status of a reply")
    return Outcome(
        fixed(client, "client key", 32),
        natural(session, "session"),
        natural(number, "number"),
        digest(request_digest, "request digest"),
        natural(seq, "seq"),
        known_status,
        d.items(results, "results", at_least=0, at_most=d.limits.operations_max),
    )


def _refusal(_: Decoder, body: bytes) -> Refusal:
    session, number, reason = unpack(body, fields=3, array_max=3)
    return Refusal(natural(session, "session"), natural(number, "number"), text(reason, "reason", REFUSAL_REASON))


def _hello(_: Decoder, body: bytes) -> Hello:
    cluster, epoch, role, name = unpack(body, fields=4, array_max=4)
    known_role = _ROLES.get(text(role, "role", 16))
    if known_role is None or not is_name(text(cluster, "cluster", 64)) or not is_name(text(name, "name", 64)):
        raise InvalidMessage("a hello that names no cluster, role or holder")
    return Hello(cluster, natural(epoch, "epoch"), known_role, name)


def _query(d: Decoder, body: bytes) -> Query:
    nonce, operation = unpack(body, fields=2, array_max=2)
    return Query(natural(nonce, "nonce"), blob(operation, "operation", d.limits.request_bytes))


def _query_answer(_: Decoder, body: bytes) -> QueryAnswer:
    nonce, seq, result = unpack(body, fields=3, array_max=3)
    return QueryAnswer(natural(nonce, "nonce"), natural(seq, "seq"), blob(result, "result", REPLY))


def _watch(_: Decoder, body: bytes) -> Watch:
    watch, nonce, wait_ms, operation = unpack(body, fields=4, array_max=4)
    return Watch(
        natural(watch, "watch"),
        natural(nonce, "nonce"),
        natural(wait_ms, "wait_ms"),
        blob(operation, "operation", WATCH_OPERATION),
    )


def _prove(_: Decoder, body: bytes) -> Prove:
    nonce, key = unpack(body, fields=2, array_max=2)
    return Prove(natural(nonce, "nonce"), blob(key, "key", PROVE_KEY))


def _proof_of_state(_: Decoder, body: bytes) -> Proof:
    nonce, proof = unpack(body, fields=2, array_max=2)
    return Proof(natural(nonce, "nonce"), blob(proof, "proof", REPLY))


_BODIES: Final[dict[int, Callable[[Decoder, bytes], Any]]] = {
    MessageType.PROPOSAL: _proposal,
    MessageType.EVIDENCE: _evidence,
    MessageType.STATUS: _status,
    MessageType.FETCH_BATCHES: _fetch_batches,
    MessageType.BATCHES: _batches,
    MessageType.FETCH_BODIES: _fetch_bodies,
    MessageType.BODIES: _bodies,
    MessageType.STABLE_CHECKPOINT: _stable_checkpoint,
    MessageType.FETCH_STATE: _fetch_state,
    MessageType.STATE_CHUNK: _state_chunk,
    MessageType.QUERY_STABLE: _query_stable,
    MessageType.REPLY_STABLE: _reply_stable,
    MessageType.REPLY: _reply,
    MessageType.REFUSAL: _refusal,
    MessageType.HELLO: _hello,
    MessageType.QUERY: _query,
    MessageType.QUERY_ANSWER: _query_answer,
    MessageType.WATCH: _watch,
    MessageType.PROVE: _prove,
    MessageType.PROOF: _proof_of_state,
}
_BARE: Final = frozenset(  # frames that are one signed statement
    {
        MessageType.REQUEST,
        MessageType.PREPARE,
        MessageType.COMMIT,
        MessageType.CHECKPOINT,
        MessageType.VIEW_CHANGE,
        MessageType.NEW_VIEW,
    }
)
