"""A backup file: whole or not there, and believed only as far as certificate and root prove it."""

import pytest

from bft.auth import KeySigner
from bft.codec import encode_body
from bft.config import Address, ClusterConfig, ReplicaEntry
from bft.core import messages as m
from bft.core.parameters import Parameters
from bft.errors import DataDirectoryError, VerificationFailed
from bft.statemachine.replicated import genesis_content
from bft.statemachine.store import application_key, system_key
from bft.statemachine.trie import MerkleTrie
from bft.storage import backup
from crypto.keys import PrivateKey
from crypto.signatures import Domain

KEYS = [PrivateKey.from_seed(bytes(31) + bytes([i + 1])) for i in range(4)]
DOMAIN = Domain("c", 0)
NOWHERE = Address("127.0.0.1", 1)
STATE = MerkleTrie().update({application_key(b"k%d" % i): b"v%d" % i for i in range(20)})


@pytest.fixture
def config(tmp_path):
    entries = tuple(ReplicaEntry(i, key.public.raw, NOWHERE, NOWHERE, NOWHERE) for i, key in enumerate(KEYS))
    return ClusterConfig("c", 0, "x:Y", tmp_path / "ca.crt", entries, Parameters(n=4))


def certificate(root: bytes = STATE.root, *, signers=(0, 1, 2), seq: int = 128) -> bytes:
    votes = tuple(KeySigner(KEYS[i], DOMAIN).sign(m.Checkpoint(seq, root, i)) for i in signers)
    return encode_body(m.StableCheckpoint(m.CheckpointCertificate(votes)))[1]


def test_what_was_written_is_proven_by_the_public_keys_alone(config, tmp_path):
    backup.write(tmp_path / "b", certificate(), STATE.items())
    found = backup.verify(tmp_path / "b", config)
    assert (found.certificate.seq, found.state.root) == (128, STATE.root)


def test_a_file_is_never_overwritten_and_an_interrupted_one_leaves_nothing(tmp_path):
    (tmp_path / "b").write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        backup.write(tmp_path / "b", certificate(), STATE.items())

    def interrupted():
        yield b"a", b"b"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        backup.write(tmp_path / "c", certificate(), interrupted())
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
    assert (tmp_path / "b").read_bytes() == b"precious"


@pytest.mark.parametrize(
    "forged",
    [certificate(signers=(0, 1)), certificate(signers=(0, 1, 1)), certificate(bytes(32)), b"", b"\xc1"],
    ids=["too few", "one twice", "another root", "none", "garbage"],
)
def test_what_no_quorum_certified_is_refused(config, tmp_path, forged):
    backup.write(tmp_path / "b", forged, STATE.items())
    with pytest.raises(VerificationFailed):
        backup.verify(tmp_path / "b", config)


def test_any_flipped_bit_or_missing_end_is_detected(config, tmp_path):
    backup.write(tmp_path / "b", certificate(), STATE.items())
    whole = (tmp_path / "b").read_bytes()
    for position in range(0, len(whole), 11):
        (tmp_path / "b").write_bytes(whole[:position] + bytes([whole[position] ^ 16]) + whole[position + 1 :])
        with pytest.raises(VerificationFailed):
            backup.verify(tmp_path / "b", config)
        (tmp_path / "b").write_bytes(whole[:position])
        with pytest.raises(VerificationFailed):
            backup.verify(tmp_path / "b", config)


def test_a_genesis_keeps_the_services_keys_the_time_and_the_count_and_no_session(tmp_path):
    position = (7).to_bytes(8) + (9).to_bytes(8) + (11).to_bytes(8)
    items = {
        application_key(b"k"): b"v",
        system_key(b"clock"): b"time",
        system_key(b"statemachine/position"): position,
        system_key(b"session/1"): b"s",
    }
    backup.write_genesis(tmp_path / "g", genesis_content(items.items()).items())
    kept = backup.read_genesis(tmp_path / "g")
    assert kept == {
        application_key(b"k"): b"v",
        system_key(b"clock"): b"time",
        system_key(b"statemachine/position"): (7).to_bytes(8) + bytes(8) + (11).to_bytes(8),
    }


def test_a_missing_genesis_is_said(tmp_path):
    with pytest.raises(DataDirectoryError, match="names a genesis_root"):
        backup.read_genesis(tmp_path / "g")
