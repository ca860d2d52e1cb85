"""`bft receipt verify` needs nothing but files."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bft.auth import KeySigner
from bft.config import load_cluster
from bft.core.messages import BatchResult, Checkpoint, CheckpointCertificate
from bft.errors import ExitCode
from bft.receipt import Receipt, make_receipt
from bft.state_proof import StateProof
from bft.statemachine import kv
from bft.statemachine.results import encode_error, encode_ok
from bft.statemachine.store import application_key, system_key
from bft.statemachine.trie import MerkleTrie
from crypto import merkle
from crypto.keys import PrivateKey
from tests.unit.client.world import KEY, outcome_of, signed_request


def write(cluster: Path, operation: bytes = b"", result: bytes = encode_ok(b"\x05")) -> Path:
    """A receipt of a lone put that replicas 0 and 1 signed."""
    config = load_cluster(cluster)
    request = signed_request(operation or kv.encode_put(b"greeting", b"hello"))
    request = KeySigner(KEY, config.domain).sign(request.message)
    outcome = outcome_of(request, results=(result,))
    root = merkle.root([outcome.leaf])
    vouched = []
    for replica in (0, 1):
        key = PrivateKey.load(cluster / f"replica-{replica}" / "replica.key")
        vouched.append((KeySigner(key, config.domain).sign(BatchResult(0, outcome.seq, root, replica)), 0, 1, ()))
    receipt = make_receipt(config, request, outcome, position=0, vouched=vouched)
    assert receipt is not None
    receipt.save(cluster / "r")
    return cluster / "r"


def test_a_receipt_is_verified_with_cluster_toml_alone(bft, cluster, tmp_path):
    file = write(cluster)
    alone = tmp_path / "cluster.toml"
    alone.write_bytes((cluster / "cluster.toml").read_bytes())
    result = bft("receipt", "verify", file, "--cluster", alone)
    assert (result.code, result.err) == (ExitCode.OK, "")
    assert "valid: replicas 0, 1 of" in result.out
    assert KEY.public.hex() in result.out
    assert "asked            put 'greeting' 'hello'\n" in result.out
    assert "and was told     5\n" in result.out


def test_a_receipt_as_json(bft, cluster):
    found = json.loads(bft("receipt", "verify", write(cluster), "--cluster", cluster, "--json").out)
    assert (found["valid"], found["client"], found["seq"], found["signers"]) == (True, KEY.public.hex(), 5, [0, 1])
    assert (found["result_base64"], found["error"]) == ("BQ==", None)


def test_an_error_is_shown_as_one(bft, cluster):
    file = write(cluster, result=encode_error("bad_key", "too\nlong"))
    assert "told     error bad_key: 'too\\nlong'\n" in bft("receipt", "verify", file, "--cluster", cluster).out
    error = json.loads(bft("receipt", "verify", file, "--cluster", cluster, "--json").out)["error"]
    assert error == {"code": "bad_key", "message": "too\nlong"}


@pytest.mark.parametrize(
    "operation", [b"\x1b[31mred", b"\x91" * 900 + b"\x00", b"\x95\x01\xc0\xc2\xa1\x1b\x90", b"x" * 10_000]
)
def test_a_strange_operation_reaches_no_terminal_as_it_is(bft, cluster, operation):
    result = bft("receipt", "verify", write(cluster, operation), "--cluster", cluster)
    assert result.code == ExitCode.OK
    assert "\x1b" not in result.out
    assert len(result.out) < 2000


def refused(bft, file: Path, cluster: Path) -> str:
    result = bft("receipt", "verify", file, "--cluster", cluster)
    assert result.code == ExitCode.VERIFICATION
    assert result.err.startswith(f"error: {file} proves nothing: ")
    assert result.err.count("\n") == 1
    assert result.out == ""
    return str(result.err)


@pytest.mark.parametrize("damage", [lambda f: f[:-1], lambda f: f + b"x", lambda _: b"", lambda _: b"\xff" * 40])
def test_a_damaged_file_proves_nothing(bft, cluster, damage):
    file = write(cluster)
    file.write_bytes(damage(file.read_bytes()))
    refused(bft, file, cluster)


def test_a_receipt_of_another_cluster_proves_nothing(bft, cluster, tmp_path):
    other = tmp_path / "other"
    assert bft("cluster", "init", other, "--replicas", "4", "--base-port", "1").code == ExitCode.OK
    assert "a receipt of cluster" in refused(bft, write(cluster), other)


def test_a_forged_receipt_proves_nothing(bft, cluster):
    file = write(cluster)
    receipt = Receipt.load(file)
    replace(receipt, seq=receipt.seq + 1).save(file)
    assert "signed no batch" in refused(bft, file, cluster)


def test_a_missing_receipt_is_one_line(bft, cluster, tmp_path):
    result = bft("receipt", "verify", tmp_path / "none", "--cluster", cluster)
    assert result.code == ExitCode.ENVIRONMENT
    assert result.err == f"error: {tmp_path / 'none'}: No such file or directory\n"


def write_proof(cluster: Path, key: bytes, *, signers: tuple[int, ...] = (0, 1, 2)) -> Path:
    """A proof of a state in which `greeting` is hello."""
    config = load_cluster(cluster)
    stored = bytes([1]) + bytes(24) + b"hello"
    held = {application_key(kv.stored_key(b"greeting")): stored, system_key(b"clock"): (10**18).to_bytes(8, "big")}
    state = MerkleTrie().update(held)
    keys = [PrivateKey.load(cluster / f"replica-{replica}" / "replica.key") for replica in signers]
    checkpoints = [
        KeySigner(key, config.domain).sign(Checkpoint(128, state.root, replica))
        for replica, key in zip(signers, keys, strict=True)
    ]
    StateProof.of(config, CheckpointCertificate(tuple(checkpoints)), state, kv.stored_key(key)).save(cluster / "p")
    return cluster / "p"


def test_a_proof_of_what_is_stored_is_verified_as_well(bft, cluster):
    result = bft("receipt", "verify", write_proof(cluster, b"greeting"), "--cluster", cluster)
    assert (result.code, result.err) == (ExitCode.OK, "")
    assert "replicas 0, 1, 2 of" in result.out
    assert "key         'greeting'\n  held        'hello'\n" in result.out
    assert "checkpoint  128, at 2001-09-09T01:46:40+00:00" in result.out
    result = bft("receipt", "verify", write_proof(cluster, b"farewell"), "--cluster", cluster)
    assert "held        nothing\n" in result.out
    found = json.loads(bft("receipt", "verify", write_proof(cluster, b"greeting"), "--cluster", cluster, "--json").out)
    assert (found["valid"], found["seq"], found["value_base64"]) == (True, 128, "aGVsbG8=")


def test_a_proof_with_too_few_signers_exits_with_8(bft, cluster):
    result = bft("receipt", "verify", write_proof(cluster, b"greeting", signers=(0, 1)), "--cluster", cluster)
    assert result.code == ExitCode.VERIFICATION
    assert "proves nothing: 2 replicas signed the checkpoint; it takes 3 to 4" in result.err
