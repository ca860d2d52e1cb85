"""docs/protocol.md says what the code does.  `python tests/unit/test_codec_document.py` prints the example anew."""

from pathlib import Path

import pytest

from bft.auth import KeySigner
from bft.codec import PROTOCOL_VERSION, Limits, MessageType, encode_frame
from bft.core.messages import NULL_DIGEST, Batch, Commit, Request, RequestKind
from bft.core.parameters import Parameters
from crypto.keys import PrivateKey
from crypto.signatures import Domain

DOCUMENT = Path(__file__).parents[2] / "docs" / "protocol.md"


def worked_example():
    """One COMMIT of replica 2, and the digest of a batch of one request, from fixed seeds."""
    domain = Domain("demo-00000000", 1)
    key, client = PrivateKey.from_seed(bytes([2]) * 32), PrivateKey.from_seed(bytes([0xC1]) * 32)
    message = Request(client.public.raw, 1, 1, 0, RequestKind.APPLICATION, (b"hello",))
    request = KeySigner(client, domain).sign(message)
    batch = Batch(1_700_000_000_000_000_000, (request,))
    commit = KeySigner(key, domain).sign(Commit(view=4, seq=300, digest=batch.digest, replica=2))
    lines = {
        "client seed": bytes([0xC1]) * 32,
        "client key": client.public.raw,
        "REQUEST payload": request.payload,
        "REQUEST signature": request.signature,
        "request digest": request.digest,
        "batch digest": batch.digest,
        "null batch digest": NULL_DIGEST,
        "replica seed": bytes([2]) * 32,
        "replica key": key.public.raw,
        "COMMIT payload": commit.payload,
        "signing input": domain.signing_input(MessageType.COMMIT, commit.payload),
        "COMMIT signature": commit.signature,
        "frame": encode_frame(commit),
    }
    return "\n".join(f"{name + ':':<19}{value.hex()}" for name, value in lines.items())


def test_the_worked_example_is_what_the_code_writes():
    assert f"```\n{worked_example()}\n```" in DOCUMENT.read_text()


@pytest.mark.parametrize("kind", MessageType)
def test_every_type_is_described_under_its_number(kind):
    assert f"\n| {kind.value} | {kind.name} |" in DOCUMENT.read_text()


def test_the_version_is_the_documents():
    assert f"protocol version {PROTOCOL_VERSION}" in DOCUMENT.read_text()


@pytest.mark.parametrize("n", [4, 7, 13])
def test_the_largest_frame_between_replicas_is_the_documents(n):
    longest = max(Limits.of(Parameters(n=n)).peer.values())
    assert f"\n| {n} | {longest} |" in DOCUMENT.read_text()


if __name__ == "__main__":
    print(worked_example())  # noqa: T201 - printing it is what this is for
