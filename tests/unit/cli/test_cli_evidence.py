"""`bft evidence verify` and `bft ca`: both need nothing but files."""

import json
from pathlib import Path

import pytest

from bft.auth import KeySigner
from bft.codec import encode_frame
from bft.config import load_cluster
from bft.core.messages import Authenticated, Evidence, PrePrepare
from bft.errors import ExitCode
from crypto.certificates import Certificate, Role
from crypto.keys import PrivateKey


def header(cluster: Path, digest: bytes, *, signer: int = 0, seq: int = 7) -> Authenticated[PrePrepare]:
    key = PrivateKey.load(cluster / f"replica-{signer}" / "replica.key")
    return KeySigner(key, load_cluster(cluster).domain).sign(PrePrepare(view=0, seq=seq, digest=digest, replica=0))


def write(path: Path, first: Authenticated[PrePrepare], second: Authenticated[PrePrepare]) -> Path:
    path.write_bytes(encode_frame(Evidence(first, second)))
    return path


def test_a_proof_is_verified_with_the_public_keys_alone(bft, cluster, tmp_path):
    proof = write(tmp_path / "proof", header(cluster, b"a" * 32), header(cluster, b"b" * 32))
    public = tmp_path / "public"
    public.mkdir()
    for name in ("cluster.toml", "ca.crt"):
        (public / name).write_bytes((cluster / name).read_bytes())
    result = bft("evidence", "verify", proof, "--cluster", public / "cluster.toml")
    assert result.code == ExitCode.OK
    assert "valid: replica 0" in result.out
    assert (b"a" * 32).hex() in result.out
    assert (b"b" * 32).hex() in result.out


def test_a_proof_as_json(bft, cluster, tmp_path):
    proof = write(tmp_path / "proof", header(cluster, b"a" * 32), header(cluster, b"b" * 32))
    found = json.loads(bft("evidence", "verify", proof, "--cluster", cluster, "--json").out)
    assert (found["valid"], found["accused"], found["view"], found["seq"]) == (True, 0, 0, 7)


def refused(bft, cluster: Path, proof: Path) -> str:
    result = bft("evidence", "verify", proof, "--cluster", cluster)
    assert result.code == ExitCode.VERIFICATION
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    return str(result.err)


def test_statements_that_agree_prove_nothing(bft, cluster, tmp_path):
    same = header(cluster, b"a" * 32)
    assert "no conflict" in refused(bft, cluster, write(tmp_path / "proof", same, same))


def test_statements_about_different_slots_prove_nothing(bft, cluster, tmp_path):
    proof = write(tmp_path / "proof", header(cluster, b"a" * 32), header(cluster, b"b" * 32, seq=8))
    assert "no conflict" in refused(bft, cluster, proof)


def test_a_forged_statement_proves_nothing(bft, cluster, tmp_path):
    proof = write(tmp_path / "proof", header(cluster, b"a" * 32), header(cluster, b"b" * 32, signer=1))
    assert "did not sign" in refused(bft, cluster, proof)


@pytest.mark.parametrize("damage", [lambda f: f[:-1], lambda f: f + b"x", lambda _: b"", lambda _: b"\xff" * 40])
def test_a_damaged_file_proves_nothing(bft, cluster, tmp_path, damage):
    proof = write(tmp_path / "proof", header(cluster, b"a" * 32), header(cluster, b"b" * 32))
    proof.write_bytes(damage(proof.read_bytes()))
    refused(bft, cluster, proof)


def test_a_missing_proof_is_one_line(bft, cluster, tmp_path):
    result = bft("evidence", "verify", tmp_path / "none", "--cluster", cluster)
    assert result.code == ExitCode.ENVIRONMENT
    assert result.err == f"error: {tmp_path / 'none'}: No such file or directory\n"


def test_evidence_of_a_cluster_that_does_not_run_is_one_line(bft, cluster):
    result = bft("evidence", "list", cluster)
    assert result.code == ExitCode.UNAVAILABLE
    assert result.err.count("\n") == 1


# --- certificates


def test_an_issued_client_is_certified_by_the_cluster(bft, cluster):
    assert bft("ca", "issue", cluster, "alice").code == ExitCode.OK
    certificate = Certificate.from_pem((cluster / "clients" / "alice" / "client.crt").read_bytes())
    assert certificate.subject_identity.role is Role.CLIENT
    assert certificate.subject_identity.name == "alice"
    assert PrivateKey.load(cluster / "clients" / "alice" / "client.key").public == certificate.public_key


def test_an_administrator_is_issued_on_request(bft, cluster):
    bft("ca", "issue", cluster, "ops", "--admin", "--days", "2")
    certificate = Certificate.from_pem((cluster / "clients" / "ops" / "client.crt").read_bytes())
    assert certificate.subject_identity.role is Role.ADMIN


def test_an_identity_is_never_overwritten(bft, cluster):
    key = (cluster / "clients" / "default" / "client.key").read_bytes()
    result = bft("ca", "issue", cluster, "default")
    assert result.code == ExitCode.ENVIRONMENT
    assert (cluster / "clients" / "default" / "client.key").read_bytes() == key


@pytest.mark.parametrize("name", ["", "..", "a/b", "a b", "x" * 65])
def test_a_name_that_is_none_is_refused(bft, cluster, name):
    assert bft("ca", "issue", cluster, name).code == ExitCode.USAGE


def test_without_the_ca_key_nothing_is_issued(bft, cluster):
    (cluster / "ca" / "ca.key").unlink()
    result = bft("ca", "issue", cluster, "alice")
    assert result.code == ExitCode.ENVIRONMENT
    assert "ca.key" in result.err
    assert not (cluster / "clients" / "alice").exists()


def test_the_certificates_are_listed(bft, cluster):
    found = json.loads(bft("ca", "show", cluster, "--json").out)
    names = [certificate["identity"].rsplit("/", 2)[-2:] for certificate in found[1:]]
    assert sorted(names) == [["admin", "admin"], ["client", "default"], *(["replica", str(i)] for i in range(4))]
