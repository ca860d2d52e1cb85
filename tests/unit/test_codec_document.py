"""docs/protocol.md says what the code does.  `python tests/unit/test_codec_document.py` prints the example anew."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from bft.auth import KeySigner
from bft.codec import PROTOCOL_VERSION, Limits, MessageType, encode_frame
from bft.core.messages import NULL_DIGEST, Batch, Commit, ReplyStatus, Request, RequestKind
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


LIMITING = re.findall(r"^\| `(\w+)` \| (\d+) \|", DOCUMENT.read_text(), re.MULTILINE)


@pytest.mark.parametrize(("name", "default"), LIMITING)
def test_a_parameters_default_is_the_documents(name, default):
    assert getattr(Parameters(n=4), name) == int(default)


@pytest.mark.parametrize("suffix", ["bytes_max", "operations_max", "requests_max", "sessions_max", "age_max_ns"])
def test_every_limit_that_a_client_can_meet_is_in_the_document(suffix):
    held_inside = {"pending_requests_max", "pending_bytes_max", "archive_bytes_max"}  # never seen on the wire
    limits = {field.name for field in fields(Parameters) if field.name.endswith(suffix)} - held_inside
    assert limits
    assert limits <= {name for name, _ in LIMITING}


@pytest.mark.parametrize("status", ReplyStatus)
def test_every_status_is_in_the_document(status):
    words = status.name.lower().replace("_", " ").replace("outside window", "outside the window")
    assert f"{status.value} {words}" in " ".join(DOCUMENT.read_text().split())


if __name__ == "__main__":
    print(worked_example())  # noqa: T201 - printing it is what this is for
