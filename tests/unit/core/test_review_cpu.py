"""What a Byzantine replica can make others compute (DESIGN §3, rule 5)."""

import pytest

from bft.auth import Authenticator, KeySigner
from bft.codec import Limits
from bft.codec.frames import encode_body
from bft.core.messages import Authenticated, Batch, Batches, Bodies, CertifiedBatch, Commit, Request, RequestKind
from bft.core.parameters import Parameters
from crypto.keys import PrivateKey, verify
from crypto.signatures import Domain

PARAMETERS = Parameters(n=4)
DOMAIN = Domain("c", 0)
REPLICAS = [PrivateKey.from_seed(bytes([i]) * 32) for i in range(4)]
CLIENT = PrivateKey.from_seed(b"c" * 32)


def requests(count: int) -> tuple[Authenticated[Request], ...]:
    signer = KeySigner(CLIENT, DOMAIN)
    key = CLIENT.public.raw
    return tuple(signer.sign(Request(key, 1, i, 0, RequestKind.APPLICATION, (b"",))) for i in range(count))


def verifications(message: Bodies | Batches, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many signatures are verified to open the frame."""
    count = 0
    genuine = verify

    def counting(key: bytes, data: bytes, signature: bytes) -> bool:
        nonlocal count
        count += 1
        return genuine(key, data, signature)

    monkeypatch.setattr("bft.auth.verify", counting)
    kind, body = encode_body(message)
    keys = [key.public.raw for key in REPLICAS]
    Authenticator(DOMAIN, keys, Limits.of(PARAMETERS)).open_peer(3, kind, body)
    return count


def test_bodies_cost_no_verification(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body is proven by its digest, which a quorum prepared; 54 000 client signatures fit into one frame: 5 s."""
    assert verifications(Bodies((Batch(1, requests(50)),)), monkeypatch) == 0


def test_certified_batches_cost_their_commits_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The quorum of COMMITs proves the batch, requests included."""
    batch = Batch(1, requests(50))
    commits = tuple(KeySigner(REPLICAS[i], DOMAIN).sign(Commit(0, 1, batch.digest, i)) for i in range(3))
    assert verifications(Batches((CertifiedBatch(batch, commits),)), monkeypatch) == 3
