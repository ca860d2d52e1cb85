"""Signatures without cryptography: a statement is signed iff its owner's handle put it into the registry."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast

import msgpack

from bft.core.messages import (
    Authenticated,
    Batch,
    Batches,
    BatchResult,
    Bodies,
    Checkpoint,
    ClientKey,
    Commit,
    Evidence,
    NewView,
    PeerMessage,
    Prepare,
    PrePrepare,
    Proposal,
    Refusal,
    ReplicaId,
    Reply,
    ReplyStable,
    Request,
    SignedMessage,
    StableCheckpoint,
    ViewChange,
)
from crypto.digests import tagged

S = TypeVar("S", bound=SignedMessage)
OnSigned = Callable[[ReplicaId, Authenticated[Any]], None]


class Registry:
    """All that was ever signed in one simulated world; what `bft.auth` is to a real one.

    A statement is genuine iff this very object came out of a signer, which makes verification one set look-up; the
    registry keeps every statement alive, so that an identity is never used twice.
    """

    def __init__(self, n: int) -> None:
        self.n = n
        self.on_signed: OnSigned | None = None
        self.refused: Counter[str] = Counter()  # what was not let in, and why
        self._minted: dict[SignedMessage, Authenticated[Any]] = {}
        self._genuine: set[int] = set()  # identities of the values of `_minted`
        self._verified: set[int] = set()  # of these, the ones whose nested statements are genuine too

    def mint(self, message: S) -> Authenticated[S]:
        """Sign, for the handles below only.  The same message again gives the same statement, as Ed25519 would."""
        known = self._minted.get(message)
        if known is None:
            number = len(self._minted) + 1
            payload = _request_payload(message) if isinstance(message, Request) else b""
            known = Authenticated(message, payload, number.to_bytes(8, "big"))
            self._minted[message] = known
            self._genuine.add(id(known))
        return cast("Authenticated[S]", known)

    def is_genuine(self, statement: Authenticated[Any]) -> bool:
        """Whether the statement, and everything inside it, was signed by whom it names and is well-formed."""
        identity = id(statement)
        if identity in self._verified:
            return True
        message = statement.message
        genuine = (
            identity in self._genuine
            and self._well_formed(message)
            and all(self.is_genuine(inner) for inner in nested(message))
        )
        if genuine:
            self._verified.add(identity)
        return genuine

    def accepts(self, message: PeerMessage) -> bool:
        """Whether `bft.auth` would let the message in."""
        if id(message) in self._verified:
            return True
        return all(map(self.is_genuine, statements_of(message)))

    # --- the way of a message; here it is the message itself

    def client_key(self, index: int) -> ClientKey:
        """Who client number `index` is."""
        return tagged(b"bft-testing-client", index.to_bytes(8, "big"))

    def forge(self, request: Request) -> Authenticated[Request]:
        """What a request looks like to whom does not verify it."""
        return Authenticated(request, _request_payload(request), b"forged")

    def seal(self, message: PeerMessage | Reply | Refusal) -> Any:
        """What travels."""
        return message

    def open(self, receiver: ReplicaId, sender: ReplicaId, sealed: Any) -> PeerMessage | None:
        """What a replica lets in of what another sent; None: nothing."""
        message: PeerMessage = sealed
        return message if self.accepts(message) else None

    def open_request(self, receiver: ReplicaId, client: ClientKey, sealed: Any) -> Authenticated[Request] | None:
        """What a replica lets in of what came on a client's link."""
        request: Authenticated[Request] = sealed
        return request if self.is_genuine(request) else None

    def open_reply(self, sender: ReplicaId, sealed: Any) -> Reply | Refusal | None:
        """What a client makes of what a replica sent."""
        reply: Reply | Refusal = sealed
        return reply

    def _well_formed(self, message: SignedMessage) -> bool:
        if isinstance(message, Request):
            return True
        if not 0 <= message.replica < self.n:
            return False
        return not isinstance(message, PrePrepare | NewView) or message.replica == message.view % self.n


class SymbolicSigner:
    """A replica's handle; the only way to its signatures."""

    def __init__(self, registry: Registry, replica: ReplicaId) -> None:
        self._registry = registry
        self._replica = replica

    def sign(self, message: S) -> Authenticated[S]:
        """Raises ValueError for a statement in another's name."""
        if isinstance(message, Request) or message.replica != self._replica:
            raise ValueError(f"replica {self._replica} cannot sign {message!r}")
        statement = self._registry.mint(message)
        if self._registry.on_signed is not None:
            self._registry.on_signed(self._replica, statement)
        return statement


class ClientSigner:
    """A client's handle."""

    def __init__(self, registry: Registry, client: ClientKey) -> None:
        self._registry = registry
        self._client = client

    def sign(self, request: Request) -> Authenticated[Request]:
        """Raises ValueError for a request in another's name."""
        if request.client != self._client:
            raise ValueError("a client signs its own requests only")
        return self._registry.mint(request)


_CERTIFICATE_PREFIX = b"symbolic certificate of "


def symbolic_certificate(client: ClientKey) -> bytes:
    """What `SymbolicAdmission` admits."""
    return _CERTIFICATE_PREFIX + client


class SymbolicAdmission:
    """Admits the holder of `symbolic_certificate` for its own key."""

    def client_name(self, certificate: bytes, *, client: ClientKey, time_ns: int) -> str | None:
        return f"client-{client[:4].hex()}" if certificate == symbolic_certificate(client) else None


def statements_of(message: PeerMessage) -> Iterable[Authenticated[Any]]:
    """The signed statements that a peer message consists of, the outermost level."""
    match message:
        case Authenticated():
            return (message,)
        case Proposal():
            return (message.header, *_in_batch(message.batch))
        case Evidence():
            return (message.first, message.second)
        case Batches():
            return [s for c in message.batches for s in (*_in_batch(c.batch), *c.commits)]
        case Bodies():
            return [s for batch in message.batches for s in _in_batch(batch)]
        case ReplyStable():
            return (*message.stable.checkpoints, *message.votes, *message.view_changes)
        case StableCheckpoint():
            return message.certificate.checkpoints
        case _:
            return ()


def _in_batch(batch: Batch) -> Iterable[Authenticated[Any]]:
    if not batch.evidence:
        return batch.requests
    return (*batch.requests, *[s for evidence in batch.evidence for s in (evidence.first, evidence.second)])


def nested(message: SignedMessage) -> Iterable[Authenticated[Any]]:
    """The signed statements inside a signed one, the next level."""
    match message:
        case Prepare():
            return (message.header,)
        case ViewChange():
            certificates = [s for c in message.prepared for s in (c.header, *c.prepares)]
            return (*message.stable.checkpoints, *certificates)
        case NewView():
            return (*message.view_changes, *message.pre_prepares)
        case Request() | PrePrepare() | Commit() | Checkpoint() | BatchResult():
            return ()


def _request_payload(request: Request) -> bytes:
    """The real encoding: a request's digest names it in batches and outcomes."""
    fields = (request.client, request.session, request.number, request.acked, int(request.kind), request.operations)
    return bytes(msgpack.packb(fields))
