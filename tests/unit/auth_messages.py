"""A cluster of four, its keys, and one genuine message of every kind, for the tests of the gate."""

from dataclasses import replace
from typing import Any, TypeVar

from bft.auth import Authenticator, KeySigner
from bft.codec import Limits, encode_body
from bft.core.messages import (
    Authenticated,
    Batch,
    Batches,
    Bodies,
    CertifiedBatch,
    Checkpoint,
    CheckpointCertificate,
    Commit,
    Evidence,
    NewView,
    PeerMessage,
    Prepare,
    PreparedCertificate,
    PrePrepare,
    Proposal,
    ReplicaId,
    Request,
    RequestKind,
    SignedMessage,
    StableCheckpoint,
    ViewChange,
)
from bft.core.parameters import Parameters
from crypto.keys import PrivateKey
from crypto.signatures import Domain

S = TypeVar("S", bound=SignedMessage)

N = 4
PARAMETERS = Parameters(n=N)
LIMITS = Limits.of(PARAMETERS)
DOMAIN = Domain("demo-1", 7)
KEYS = [PrivateKey.from_seed(bytes([i]) * 32) for i in range(N)]
REPLICA_KEYS = [key.public.raw for key in KEYS]
SIGNERS = [KeySigner(key, DOMAIN) for key in KEYS]
CLIENT_KEY = PrivateKey.from_seed(b"c" * 32)
CLIENT = KeySigner(CLIENT_KEY, DOMAIN)
D = bytes(range(32))


def sign(message: S) -> Authenticated[S]:
    """The statement, signed by the replica in whose name it is."""
    assert not isinstance(message, Request)
    return SIGNERS[message.replica].sign(message)


def request(number: int = 1, signer: KeySigner = CLIENT, client: bytes = CLIENT_KEY.public.raw):
    return signer.sign(Request(client, 1, number, 0, RequestKind.APPLICATION, (b"put",)))


def forged(statement: Authenticated[S]) -> Authenticated[S]:
    """The same statement under a signature that nobody made."""
    return replace(statement, signature=bytes([statement.signature[0] ^ 1]) + statement.signature[1:])


# View 5, whose primary is replica 1, prepared and committed BATCH right after checkpoint LOW; replica 2 begins view 6.
LOW = PARAMETERS.checkpoint_interval
SEQ = LOW + 1
BATCH = Batch(10**18, tuple(request(i) for i in range(1, 4)))
HEADER = sign(PrePrepare(5, SEQ, BATCH.digest, 1))
PREPARES = tuple(sign(Prepare(HEADER, i)) for i in (0, 2, 3))
COMMITS = tuple(sign(Commit(5, SEQ, BATCH.digest, i)) for i in (0, 1, 2))
STABLE = CheckpointCertificate(tuple(sign(Checkpoint(LOW, D, i)) for i in (0, 1, 2)))
PREPARED = PreparedCertificate(HEADER, PREPARES)
VIEW_CHANGES = tuple(sign(ViewChange(6, STABLE, (PREPARED,), i)) for i in (0, 2, 3))
NEW_HEADER = sign(PrePrepare(6, SEQ, BATCH.digest, 2))
NEW_VIEW = sign(NewView(6, VIEW_CHANGES, (NEW_HEADER,), 2))
CERTIFIED = CertifiedBatch(BATCH, COMMITS)
OTHER_COMMIT = sign(Commit(5, SEQ, D, 0))  # replica 0 contradicts COMMITS[0]
MESSAGES: dict[str, Any] = {
    "request": BATCH.requests[0],
    "prepare": PREPARES[0],
    "commit": COMMITS[0],
    "checkpoint": STABLE.checkpoints[0],
    "view-change": VIEW_CHANGES[0],
    "new-view": NEW_VIEW,
    "proposal": Proposal(HEADER, BATCH),
    "evidence": Evidence(COMMITS[0], OTHER_COMMIT),
    "batches": Batches((CERTIFIED,)),
    "bodies": Bodies((BATCH,)),
    "stable-checkpoint": StableCheckpoint(STABLE),
}


def gate(domain: Domain = DOMAIN, **more: Any) -> Authenticator:
    return Authenticator(domain, REPLICA_KEYS, LIMITS, **more)


def link_of(message: PeerMessage) -> ReplicaId:
    """Whose link the message may come on: a proposal only on its primary's, the rest on anybody's."""
    return message.header.message.replica if isinstance(message, Proposal) else 0


def open_at(authenticator: Authenticator, message: PeerMessage, sender: ReplicaId | None = None) -> PeerMessage:
    return authenticator.open_peer(link_of(message) if sender is None else sender, *encode_body(message))


async def open_async_at(authenticator: Authenticator, message: PeerMessage) -> PeerMessage:
    return await authenticator.open_peer_async(link_of(message), *encode_body(message))
