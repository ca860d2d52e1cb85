"""The one gate: bytes come in, statements whose every signature was verified go out.

A message is first read and checked in shape by `bft.codec`, which is cheap; the signatures that it depends on, nested
ones included, are then collected into one list, a `Plan`, and verified here or in a pool.  Only after the last of them
held does anybody see the message.  What was verified once, or signed here, is remembered by digest, so that a header
seen in every PREPARE, or a request that a client sent to all replicas, costs one verification.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, TypeVar

from bft.codec import Claim, Decoded, Limits, MessageType, decode_body, encode_payload, message_type
from bft.core.evidence import proves
from bft.core.messages import (
    Authenticated,
    Batches,
    Bodies,
    ClientKey,
    Commit,
    Evidence,
    NewView,
    PeerMessage,
    Prepare,
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
from bft.core.new_view import valid_new_view, valid_view_change
from bft.core.quorum import Quorums
from bft.errors import InvalidMessage
from crypto import merkle
from crypto.keys import InvalidKey, PrivateKey, PublicKey, verify
from crypto.pool import WORTHWHILE, Verification, VerifierPool
from crypto.signatures import Domain

S = TypeVar("S", bound=SignedMessage)

VERIFIED_MAX: Final = 65_536  # digests remembered, about 10 MiB
CLIENT_KEYS_MAX: Final = 16_384  # verdicts on client keys remembered
_NOT_BETWEEN_REPLICAS: Final = frozenset(  # a HELLO opens a link and is no message of it
    {
        MessageType.HELLO,
        MessageType.REPLY,
        MessageType.REFUSAL,
        MessageType.QUERY,
        MessageType.QUERY_ANSWER,
        MessageType.WATCH,
        MessageType.PROVE,
        MessageType.PROOF,
    }
)


class VerifiedStatements:
    """The signed statements that are known to be good, the least recently used forgotten first.

    Says nothing of statements inside them, which have entries of their own.  Good in one (cluster, epoch) only.
    """

    __slots__ = ("_entries", "_most")

    def __init__(self, most: int = VERIFIED_MAX) -> None:
        self._most = most
        self._entries: OrderedDict[bytes, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    @staticmethod
    def key(claim: Claim) -> bytes:
        """Names kind, payload (which names the signer) and signature."""
        return claim.statement.digest + claim.kind.to_bytes(1, "big")

    def add(self, key: bytes) -> None:
        """Remember a statement whose own signature holds."""
        entries = self._entries
        entries[key] = None
        entries.move_to_end(key)
        if len(entries) > self._most:
            entries.popitem(last=False)

    def knows(self, key: bytes) -> bool:
        """Whether this very signature over these very bytes was verified; marks it as used."""
        if key not in self._entries:
            return False
        self._entries.move_to_end(key)
        return True


class KeySigner:
    """Signs this replica's, or this client's, own statements; the core's `Signer`."""

    def __init__(self, key: PrivateKey, domain: Domain, verified: VerifiedStatements | None = None) -> None:
        self._key = key
        self._domain = domain
        self._verified = verified
        self.made = 0  # signatures

    def sign(self, message: S) -> Authenticated[S]:
        """The statement, encoded canonically and signed; the replica's gate then knows it already."""
        kind = message_type(message)
        payload = encode_payload(message)
        self.made += 1
        statement = Authenticated(message, payload, self._key.sign(self._domain.signing_input(kind, payload)))
        if self._verified is not None:
            self._verified.add(VerifiedStatements.key(Claim(kind, statement)))
        return statement


@dataclass(frozen=True, slots=True)
class Plan:
    """What must hold before a message is believed."""

    items: list[Verification]
    claims: list[Claim]  # one an item
    keys: list[bytes]  # one an item


class Authenticator:
    """Opens what comes on the links of one cluster and epoch.  Raises InvalidMessage for everything unacceptable.

    `replica_keys[i]` is replica i's pinned raw public key.  `verified` is shared with the replica's own `KeySigner`.
    Without `pool` the async variants verify inline.  For one thread, as everything round the core.
    """

    def __init__(
        self,
        domain: Domain,
        replica_keys: Sequence[bytes],
        limits: Limits,
        *,
        pool: VerifierPool | None = None,
        verified: VerifiedStatements | None = None,
    ) -> None:
        if len(replica_keys) != limits.n:
            raise ValueError(f"{len(replica_keys)} keys for {limits.n} replicas")
        self._keys = tuple(PublicKey(key).raw for key in replica_keys)
        self._domain = domain
        self.limits = limits
        self._quorums = Quorums.of(limits.n)
        self._pool = pool
        self._verified = VerifiedStatements() if verified is None else verified
        self.verifications = 0  # of signatures; those that were known to be good are none
        self._client_key_refusal = lru_cache(maxsize=CLIENT_KEYS_MAX)(_client_key_refusal)

    # --- between replicas

    def open_peer(self, sender: ReplicaId, frame_type: int, body: bytes) -> PeerMessage:
        """The message in a frame that came on the link of replica `sender`.

        Whether `sender` may speak for the statement's signer is for the core to say: some statements are relayed.
        """
        decoded = self._decode_peer(sender, frame_type, body)
        self._verify(self.plan(decoded.claims))
        return decoded.unverified

    async def open_peer_async(self, sender: ReplicaId, frame_type: int, body: bytes) -> PeerMessage:
        """As `open_peer`, with the signatures verified in the pool."""
        decoded = self._decode_peer(sender, frame_type, body)
        await self._verify_async(self.plan(decoded.claims))
        return decoded.unverified

    def open_vote(
        self, sender: ReplicaId, frame_type: int, body: bytes, is_redundant: Callable[[Prepare | Commit], bool]
    ) -> PeerMessage | None:
        """As `open_peer`, for a PREPARE or COMMIT; None, and nothing verified, if `is_redundant` has no use for it.

        `is_redundant` sees the vote before its signatures are verified, and must not act on it.
        """
        decoded = self._decode_peer(sender, frame_type, body)
        message = decoded.unverified
        if not isinstance(message, Authenticated) or not isinstance(message.message, Prepare | Commit):
            raise InvalidMessage(f"a frame of type {frame_type} is no vote")
        if is_redundant(message.message):
            return None
        self._verify(self.plan(decoded.claims))
        return message

    # --- the client port of a replica

    def open_request(self, client_key: ClientKey, body: bytes) -> Authenticated[Request]:
        """The request in a REQUEST frame that came on the link of the client that TLS knows by `client_key`."""
        decoded = self._decode_request(client_key, body)
        self._verify(self.plan(decoded.claims))
        return decoded.unverified

    async def open_request_async(self, client_key: ClientKey, body: bytes) -> Authenticated[Request]:
        """As `open_request`, with the signature verified in the pool."""
        decoded = self._decode_request(client_key, body)
        await self._verify_async(self.plan(decoded.claims))
        return decoded.unverified

    # --- the SDK

    def open_reply(self, sender: ReplicaId, body: bytes) -> Reply:
        """The reply in a REPLY frame from replica `sender`; its own, but `result`'s signature is not verified.

        The link proves who sent it, and f + 1 equal outcomes from distinct links are the proof of the outcome.  Who
        wants a receipt asks `verify_reply` too.
        """
        reply: Reply = decode_body(MessageType.REPLY, body, self.limits).unverified
        if reply.result.message.replica != sender:
            raise InvalidMessage(f"replica {sender} sent a reply of replica {reply.result.message.replica}")
        return reply

    def open_refusal(self, body: bytes) -> Refusal:
        """The refusal in a REFUSAL frame; unsigned, so only as good as the link."""
        refusal: Refusal = decode_body(MessageType.REFUSAL, body, self.limits).unverified
        return refusal

    def verify_reply(self, reply: Reply) -> bool:
        """Whether the replica's signature covers the root, and the root the outcome: fit for a receipt."""
        result = reply.result
        claim = Claim(MessageType.BATCH_RESULT, result)
        if not (0 <= result.message.replica < self.limits.n and self._holds(claim)):
            return False
        return merkle.verify_inclusion(result.message.root, reply.outcome.leaf, reply.index, reply.count, reply.path)

    # --- signatures

    def is_genuine(self, statement: Authenticated[Any]) -> bool:
        """Whether the replica that the statement names signed it; what is nested in it is not looked at."""
        claim = Claim(message_type(statement.message), statement)
        return 0 <= statement.message.replica < self.limits.n and self._holds(claim)

    def plan(self, claims: Sequence[Claim]) -> Plan:
        """What these claims still need, in their order.  Raises InvalidMessage for a bad client key."""
        plan = Plan([], [], [])
        verified, signing_input = self._verified, self._domain.signing_input
        for claim in claims:
            key = VerifiedStatements.key(claim)
            if not verified.knows(key):
                statement = claim.statement
                plan.items.append(
                    (self._signer(claim), signing_input(claim.kind, statement.payload), statement.signature)
                )
                plan.claims.append(claim)
                plan.keys.append(key)
        return plan

    def _verify(self, plan: Plan) -> None:
        """Verify one after the other, up to the first that fails."""
        self.verifications += len(plan.items)
        for item, claim, key in zip(plan.items, plan.claims, plan.keys, strict=True):
            if not verify(*item):
                raise _forged(claim)
            self._verified.add(key)

    async def _verify_async(self, plan: Plan) -> None:
        if self._pool is None or len(plan.items) < WORTHWHILE:
            self._verify(plan)
            return
        self.verifications += len(plan.items)
        if not await self._pool.verify_all_async(plan.items):
            raise _forged(*plan.claims)
        for key in plan.keys:
            self._verified.add(key)

    def _holds(self, claim: Claim) -> bool:
        statement = claim.statement
        signing_input = self._domain.signing_input(claim.kind, statement.payload)
        return verify(self._signer(claim), signing_input, statement.signature)

    def _signer(self, claim: Claim) -> bytes:
        """The raw public key that the statement must be signed with; the codec checked that the replica exists."""
        message = claim.statement.message
        if not isinstance(message, Request):
            return self._keys[message.replica]
        if reason := self._client_key_refusal(message.client):
            raise InvalidMessage(f"a request's client key: {reason}")
        return message.client

    # --- shape

    def _unfounded(self, sender: ReplicaId, message: PeerMessage) -> str | None:
        """Why no signatures could make this message good.

        Looked at before any is verified: statements that only its sender signed cost it little and us much.
        """
        quorums, parameters = self._quorums, self.limits.parameters
        match message:
            case Proposal(header) if header.message.replica != sender:
                return "a proposal that is not the sender's own"
            case Authenticated(ViewChange() as view_change) if not valid_view_change(view_change, quorums, parameters):
                return "a VIEW-CHANGE whose certificates prove nothing"
            case Authenticated(NewView() as new_view) if not valid_new_view(new_view, quorums, parameters):
                return "a NEW-VIEW that does not follow from its VIEW-CHANGEs"
            case StableCheckpoint(certificate) if not quorums.proves_stable(certificate):
                return "a checkpoint certificate without a quorum"
            case ReplyStable(_, _, stable) if not quorums.proves_stable(stable):
                return "a checkpoint certificate without a quorum"
            case Batches(batches) if not all(quorums.proves_committed(certified) for certified in batches):
                return "a batch without a quorum of COMMITs"
        if not all(proves(evidence, quorums, parameters) for evidence in _evidence_in(message)):
            return "evidence of no conflict"
        return None

    def _decode_peer(self, sender: ReplicaId, frame_type: int, body: bytes) -> Decoded[PeerMessage]:
        if not 0 <= sender < self.limits.n:
            raise InvalidMessage(f"there is no replica {sender}")
        if frame_type in _NOT_BETWEEN_REPLICAS:
            raise InvalidMessage(f"a frame of type {frame_type} has no place between replicas")
        decoded: Decoded[PeerMessage] = decode_body(frame_type, body, self.limits)
        if reason := self._unfounded(sender, decoded.unverified):
            raise InvalidMessage(reason)
        return decoded

    def _decode_request(self, client_key: ClientKey, body: bytes) -> Decoded[Authenticated[Request]]:
        decoded: Decoded[Authenticated[Request]] = decode_body(MessageType.REQUEST, body, self.limits)
        if decoded.unverified.message.client != client_key:
            raise InvalidMessage("a request of another client than the link's")
        return decoded


def _evidence_in(message: PeerMessage) -> Sequence[Evidence]:
    match message:
        case Evidence():
            return (message,)
        case Proposal(_, batch):
            return batch.evidence
        case Batches(batches):
            return [evidence for certified in batches for evidence in certified.batch.evidence]
        case Bodies(batches):
            return [evidence for batch in batches for evidence in batch.evidence]
    return ()


def _client_key_refusal(raw: bytes) -> str | None:
    """Why no request of this key is accepted, or None."""
    try:
        PublicKey(raw)
    except InvalidKey as error:
        return str(error)
    return None


def _forged(*claims: Claim) -> InvalidMessage:
    """What to raise for the one claim that failed, or for several of which one failed."""
    if len(claims) > 1:
        return InvalidMessage(f"one of {len(claims)} signatures does not verify")
    message: Any = claims[0].statement.message
    signer = "its client" if isinstance(message, Request) else f"replica {message.replica}"
    return InvalidMessage(f"a {type(message).__name__} that {signer} did not sign")
