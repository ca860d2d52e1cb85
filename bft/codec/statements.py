"""What is signed: the payload of each statement, and the reading of statements within statements.

`Decoder` checks everything about a message that needs no protocol state: types, sizes, counts, that signers exist and
that a header is its view's primary's.  It verifies no signature.  Every signed statement it met is a `Claim` that
`bft.auth` verifies before anyone else sees the message.
"""

from collections.abc import Callable
from typing import Any, Final, Generic, NamedTuple, TypeAlias, TypeVar, cast

from bft.codec.limits import CHECKPOINT, COMMIT, PRE_PREPARE, PREPARE, Limits
from bft.codec.wire import MessageType, array, blob, digest, fields_of, fixed, natural, pack, unpack
from bft.core.messages import (
    Authenticated,
    BatchResult,
    Checkpoint,
    CheckpointCertificate,
    Commit,
    NewView,
    Prepare,
    PreparedCertificate,
    PrePrepare,
    Request,
    RequestKind,
    SignedMessage,
    ViewChange,
)
from bft.errors import InvalidMessage

T = TypeVar("T")
S = TypeVar("S", bound=SignedMessage)

SIGNED_FIELDS: Final = 2  # payload, signature
_REQUEST_KINDS: Final = {int(kind): kind for kind in RequestKind}


class Claim(NamedTuple):
    """A signed statement found in a message; true only if its signature verifies."""

    kind: MessageType
    statement: Authenticated[SignedMessage]


class Decoded(NamedTuple, Generic[T]):
    """A well-formed message of which nothing is proven: believe it only after every claim was verified.

    The statements inside are typed `Authenticated` already, so that they need not be built twice.  Only `bft.auth`, and
    recovery from a log that is our own, take `unverified` out.
    """

    unverified: T
    claims: tuple[Claim, ...]  # distinct; an outer statement comes before its inner ones


def encode_payload(message: SignedMessage) -> bytes:
    """The bytes that are signed for `message`."""
    return _PAYLOADS[type(message)][1](message)


def message_type(message: SignedMessage) -> MessageType:
    """The number that is bound into the signature."""
    return _PAYLOADS[type(message)][0]


def decode_payload(kind: int, payload: bytes, limits: Limits) -> Decoded[SignedMessage]:
    """Read the payload of a signed message.  Raises InvalidMessage."""
    decoder = Decoder(limits)
    return Decoded(decoder.reader(kind)(payload), decoder.claims())


def signed_fields(statement: Authenticated[SignedMessage]) -> tuple[bytes, bytes]:
    """How a signed statement stands on the wire, alone or inside another."""
    return (statement.payload, statement.signature)


def stable_fields(certificate: CheckpointCertificate) -> tuple[Any, ...]:
    """How a checkpoint certificate stands on the wire."""
    return tuple(signed_fields(c) for c in certificate.checkpoints)


def prepared_fields(certificate: PreparedCertificate) -> tuple[Any, ...]:
    """How a prepared certificate stands on the wire."""
    return (signed_fields(certificate.header), tuple(signed_fields(p) for p in certificate.prepares))


def _request(m: Request) -> bytes:
    return pack((m.client, m.session, m.number, m.acked, int(m.kind), m.operations))


def _pre_prepare(m: PrePrepare) -> bytes:
    return pack((m.view, m.seq, m.digest, m.replica))


def _prepare(m: Prepare) -> bytes:
    return pack((signed_fields(m.header), m.replica))


def _commit(m: Commit) -> bytes:
    return pack((m.view, m.seq, m.digest, m.replica))


def _checkpoint(m: Checkpoint) -> bytes:
    return pack((m.seq, m.root, m.replica))


def _view_change(m: ViewChange) -> bytes:
    return pack((m.view, stable_fields(m.stable), tuple(prepared_fields(c) for c in m.prepared), m.replica))


def _new_view(m: NewView) -> bytes:
    view_changes = tuple(signed_fields(v) for v in m.view_changes)
    return pack((m.view, view_changes, tuple(signed_fields(p) for p in m.pre_prepares), m.replica))


def _batch_result(m: BatchResult) -> bytes:
    return pack((m.view, m.seq, m.root, m.replica))


_PAYLOADS: Final[dict[type, tuple[MessageType, Callable[[Any], bytes]]]] = {
    Request: (MessageType.REQUEST, _request),
    PrePrepare: (MessageType.PRE_PREPARE, _pre_prepare),
    Prepare: (MessageType.PREPARE, _prepare),
    Commit: (MessageType.COMMIT, _commit),
    Checkpoint: (MessageType.CHECKPOINT, _checkpoint),
    ViewChange: (MessageType.VIEW_CHANGE, _view_change),
    NewView: (MessageType.NEW_VIEW, _new_view),
    BatchResult: (MessageType.BATCH_RESULT, _batch_result),
}

_Key: TypeAlias = tuple[MessageType, bytes, bytes]  # kind, payload, signature


class Decoder:
    """Reads one message and collects its claims; a statement that occurs often is read, and claimed, once."""

    __slots__ = ("_order", "_seen", "limits")

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._order: list[_Key] = []  # a statement comes before those inside it
        self._seen: dict[_Key, Authenticated[SignedMessage]] = {}

    def claims(self) -> tuple[Claim, ...]:
        """The statements read so far, an outer one before its inner ones: a forged envelope costs one verification."""
        seen = self._seen
        return tuple([Claim(key[0], seen[key]) for key in self._order])

    def reader(self, kind: int) -> Callable[[bytes], SignedMessage]:
        """What reads the payloads of this kind."""
        read = _READERS.get(kind)
        if read is None:
            raise InvalidMessage(f"{kind} is not the type of a signed message")
        return lambda payload: read(self, payload)

    def signed(self, kind: MessageType, read: Callable[[bytes], S], raw: Any) -> Authenticated[S]:
        """A `[payload, signature]` whose payload `read` reads as a message of `kind`."""
        if type(raw) is not tuple or len(raw) != SIGNED_FIELDS:
            raise InvalidMessage("a signed statement is not [payload, signature]")
        payload, signature = raw
        if type(payload) is not bytes or type(signature) is not bytes or len(signature) != 64:
            raise InvalidMessage("a signed statement is not bytes and a signature of 64 bytes")
        key = (kind, payload, signature)
        known = self._seen.get(key)
        if known is not None:
            return cast("Authenticated[S]", known)
        self._order.append(key)
        statement = Authenticated(read(payload), payload, signature)
        self._seen[key] = statement
        return statement

    def unclaimed_request(self, raw: Any) -> Authenticated[Request]:
        """A signed request whose signature need not be verified: the digest of its batch is proven by a quorum."""
        payload, signature = fields_of(raw, "signed request", SIGNED_FIELDS)
        if type(payload) is not bytes or type(signature) is not bytes or len(signature) != 64:
            raise InvalidMessage("a signed statement is not bytes and a signature of 64 bytes")
        return Authenticated(self.request(payload), payload, signature)

    # --- statements nested in others and in frames

    def signed_request(self, raw: Any) -> Authenticated[Request]:
        return self.signed(MessageType.REQUEST, self.request, raw)

    def signed_pre_prepare(self, raw: Any) -> Authenticated[PrePrepare]:
        return self.signed(MessageType.PRE_PREPARE, self.pre_prepare, raw)

    def signed_commit(self, raw: Any) -> Authenticated[Commit]:
        return self.signed(MessageType.COMMIT, self.commit, raw)

    def stable(self, raw: Any) -> CheckpointCertificate:
        checkpoints = array(raw, "checkpoint certificate", at_most=self.limits.n)
        signed, read = self.signed, self.checkpoint
        return CheckpointCertificate(tuple([signed(MessageType.CHECKPOINT, read, c) for c in checkpoints]))

    def prepared(self, raw: Any) -> PreparedCertificate:
        header, prepares = fields_of(raw, "prepared certificate", 2)
        array(prepares, "prepared certificate", at_most=self.limits.n)
        signed, read = self.signed, self.prepare
        return PreparedCertificate(
            self.signed_pre_prepare(header), tuple([signed(MessageType.PREPARE, read, p) for p in prepares])
        )

    # --- payloads

    def _replica(self, value: Any) -> int:
        replica = natural(value, "replica")
        if replica >= self.limits.n:
            raise InvalidMessage(f"there is no replica {replica}")
        return replica

    def _primary(self, value: Any, view: int) -> int:
        replica = self._replica(value)
        if replica != view % self.limits.n:
            raise InvalidMessage(f"replica {replica} is not the primary of view {view}")
        return replica

    def request(self, payload: bytes) -> Request:
        blob(payload, "request", self.limits.request_bytes)
        most = self.limits.operations_max
        client, session, number, acked, kind, operations = unpack(payload, fields=6, array_max=max(most, 6))
        known_kind = _REQUEST_KINDS.get(natural(kind, "kind of request"))
        if known_kind is None:
            raise InvalidMessage(f"{kind} is no kind of request")
        return Request(
            fixed(client, "client key", 32),
            natural(session, "session"),
            natural(number, "number"),
            natural(acked, "acked"),
            known_kind,
            self.items(operations, "operations", at_least=1, at_most=most),
        )

    def items(self, value: Any, name: str, *, at_least: int, at_most: int) -> tuple[bytes, ...]:
        """An array of bytes of any length."""
        for item in array(value, name, at_least=at_least, at_most=at_most):
            if type(item) is not bytes:
                raise InvalidMessage(f"{name} are not bytes")
        return cast("tuple[bytes, ...]", value)

    def pre_prepare(self, payload: bytes) -> PrePrepare:
        blob(payload, "pre-prepare", PRE_PREPARE)
        view, seq, batch_digest, replica = unpack(payload, fields=4, array_max=4)
        return PrePrepare(
            natural(view, "view"), natural(seq, "seq"), digest(batch_digest, "digest"), self._primary(replica, view)
        )

    def prepare(self, payload: bytes) -> Prepare:
        blob(payload, "prepare", PREPARE)
        header, replica = unpack(payload, fields=2, array_max=2)
        return Prepare(self.signed_pre_prepare(header), self._replica(replica))

    def commit(self, payload: bytes) -> Commit:
        blob(payload, "commit", COMMIT)
        view, seq, batch_digest, replica = unpack(payload, fields=4, array_max=4)
        return Commit(
            natural(view, "view"), natural(seq, "seq"), digest(batch_digest, "digest"), self._replica(replica)
        )

    def checkpoint(self, payload: bytes) -> Checkpoint:
        blob(payload, "checkpoint", CHECKPOINT)
        seq, root, replica = unpack(payload, fields=3, array_max=3)
        return Checkpoint(natural(seq, "seq"), digest(root, "root"), self._replica(replica))

    def view_change(self, payload: bytes) -> ViewChange:
        limits = self.limits
        blob(payload, "view-change", limits.view_change)
        view, stable, prepared, replica = unpack(
            payload, fields=4, array_max=max(limits.n, limits.window, 4), arrays_max=limits.prepared_arrays_max
        )
        natural(view, "view")
        signer = self._replica(replica)
        array(prepared, "prepared certificates", at_most=limits.window)
        return ViewChange(view, self.stable(stable), tuple([self.prepared(c) for c in prepared]), signer)

    def new_view(self, payload: bytes) -> NewView:
        limits = self.limits
        blob(payload, "new-view", limits.new_view)
        view, changes, headers, replica = unpack(
            payload, fields=4, array_max=max(limits.n, limits.window, 4), arrays_max=limits.prepared_arrays_max
        )
        natural(view, "view")
        signer = self._primary(replica, view)
        array(changes, "view-changes", at_most=limits.n)
        array(headers, "pre-prepares", at_most=limits.window)
        signed, read = self.signed, self.view_change
        return NewView(
            view,
            tuple([signed(MessageType.VIEW_CHANGE, read, change) for change in changes]),
            tuple([self.signed_pre_prepare(header) for header in headers]),
            signer,
        )

    def batch_result(self, payload: bytes) -> BatchResult:
        blob(payload, "batch result", PRE_PREPARE)
        view, seq, root, replica = unpack(payload, fields=4, array_max=4)
        return BatchResult(natural(view, "view"), natural(seq, "seq"), digest(root, "root"), self._replica(replica))


_READERS: Final[dict[int, Callable[[Decoder, bytes], SignedMessage]]] = {
    MessageType.REQUEST: Decoder.request,
    MessageType.PRE_PREPARE: Decoder.pre_prepare,
    MessageType.PREPARE: Decoder.prepare,
    MessageType.COMMIT: Decoder.commit,
    MessageType.CHECKPOINT: Decoder.checkpoint,
    MessageType.VIEW_CHANGE: Decoder.view_change,
    MessageType.NEW_VIEW: Decoder.new_view,
    MessageType.BATCH_RESULT: Decoder.batch_result,
}
