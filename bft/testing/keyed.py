"""Real Ed25519 and the real codec in a simulated world: messages travel as bytes and come in through `bft.auth`."""

from __future__ import annotations

from typing import Any, TypeVar, cast

from bft.auth import Authenticator, KeySigner
from bft.codec import Limits, encode_body, encode_payload
from bft.core.messages import (
    Authenticated,
    ClientKey,
    PeerMessage,
    Refusal,
    ReplicaId,
    Reply,
    Request,
    SignedMessage,
)
from bft.core.parameters import Parameters
from bft.errors import InvalidMessage
from bft.testing.symbolic import Registry, nested
from crypto.digests import tagged
from crypto.keys import PrivateKey
from crypto.signatures import Domain

S = TypeVar("S", bound=SignedMessage)

_DOMAIN = Domain("simulated", 1)
_SIGNATURE_SIZE = 64


class KeyedRegistry(Registry):
    """Signs with real keys; what arrives is decoded and verified anew at each receiver, as a node does it."""

    def __init__(self, parameters: Parameters) -> None:
        super().__init__(parameters.n)
        keys = [PrivateKey.from_seed(_seed(b"replica", replica)) for replica in range(parameters.n)]
        limits = Limits.of(parameters)
        self._signers = [KeySigner(key, _DOMAIN) for key in keys]
        self._client_signers: dict[ClientKey, KeySigner] = {}
        public = [key.public.raw for key in keys]
        self._doors = [Authenticator(_DOMAIN, public, limits) for _ in range(parameters.n)]
        self._client_door = Authenticator(_DOMAIN, public, limits)
        self._signed: set[tuple[bytes, bytes]] = set()  # payload and signature of all that was signed here

    def client_key(self, index: int) -> ClientKey:
        key = PrivateKey.from_seed(_seed(b"client", index))
        self._client_signers[key.public.raw] = KeySigner(key, _DOMAIN)
        return key.public.raw

    def mint(self, message: S) -> Authenticated[S]:
        known = self._minted.get(message)
        if known is None:
            owner = (
                self._client_signers[message.client] if isinstance(message, Request) else self._signers[message.replica]
            )
            known = self._minted[message] = owner.sign(message)
            self._signed.add((known.payload, known.signature))
        return cast("Authenticated[S]", known)

    def forge(self, request: Request) -> Authenticated[Request]:
        return Authenticated(request, encode_payload(request), bytes(_SIGNATURE_SIZE))

    def is_genuine(self, statement: Authenticated[Any]) -> bool:
        """By its bytes: what was decoded is another object than what was signed."""
        return (statement.payload, statement.signature) in self._signed and all(
            self.is_genuine(inner) for inner in nested(statement.message)
        )

    def seal(self, message: PeerMessage | Reply | Refusal) -> Any:
        return encode_body(message)

    def open(self, receiver: ReplicaId, sender: ReplicaId, sealed: Any) -> PeerMessage | None:
        kind, body = sealed
        try:
            return self._doors[receiver].open_peer(sender, kind, body)
        except InvalidMessage as error:
            self._refuse(error)
            return None

    def open_request(self, receiver: ReplicaId, client: ClientKey, sealed: Any) -> Authenticated[Request] | None:
        try:
            return self._doors[receiver].open_request(client, sealed[1])
        except InvalidMessage as error:
            self._refuse(error)
            return None

    def open_reply(self, sender: ReplicaId, sealed: Any) -> Reply | Refusal | None:
        kind, body = sealed
        door = self._client_door
        try:
            if kind.name == "REFUSAL":
                return door.open_refusal(body)
            reply = door.open_reply(sender, body)
        except InvalidMessage as error:
            self._refuse(error)
            return None
        return reply if door.verify_reply(reply) else None

    def _refuse(self, error: InvalidMessage) -> None:
        self.refused["refused at the gate"] += 1


def _seed(whose: bytes, number: int) -> bytes:
    return tagged(b"bft-testing-key", whose, number.to_bytes(8, "big"))
