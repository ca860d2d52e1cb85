"""A proof of what is stored holds against nothing but the cluster's public keys, and only whole."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bft.auth import KeySigner
from bft.core.messages import Checkpoint, CheckpointCertificate
from bft.core.parameters import Parameters
from bft.errors import VerificationFailed
from bft.receipt import Receipt
from bft.state_proof import Proven, StateProof, is_state_proof
from bft.statemachine.store import application_key, system_key
from bft.statemachine.trie import MerkleTrie
from tests.unit.client.world import REPLICA_KEYS, cluster_of

CLUSTER = cluster_of(Parameters(n=4))
TIME_NS = 1_700_000_000_000_000_000
CONTENT = {application_key(b"k%d" % number): b"value %d" % number for number in range(40)}
STATE = MerkleTrie().update(CONTENT | {system_key(b"clock"): TIME_NS.to_bytes(8, "big")})


def certificate(*replicas: int, state: MerkleTrie = STATE, seq: int = 128) -> CheckpointCertificate:
    return CheckpointCertificate(
        tuple(
            KeySigner(REPLICA_KEYS[replica], CLUSTER.domain).sign(Checkpoint(seq, state.root, replica))
            for replica in replicas
        )
    )


def proof_of(key: bytes, *signers: int) -> StateProof:
    return StateProof.of(CLUSTER, certificate(*(signers or (0, 1, 2))), STATE, key)


PROOF = proof_of(b"k7")


@pytest.mark.parametrize(
    ("key", "value"), [(b"k7", b"value 7"), (b"k39", b"value 39"), (b"nothing", None), (b"", None)]
)
def test_what_is_stored_and_what_is_not_can_be_proven(key, value):
    proven = StateProof.decode(proof_of(key, 3, 0, 2).encode()).verify(CLUSTER)
    assert proven == Proven("test", 0, key, value, 128, TIME_NS, (0, 2, 3))


def test_a_saved_proof_is_a_small_file_that_tells_itself_from_a_receipt(tmp_path):
    path = tmp_path / "k7.proof"
    PROOF.save(path)
    assert path.stat().st_size < 3000
    assert is_state_proof(path)
    assert StateProof.load(path) == PROOF
    with pytest.raises(VerificationFailed):
        Receipt.load(path)


@given(data=st.data())
def test_a_proof_with_one_byte_changed_is_refused(data):
    encoded = bytearray(PROOF.encode())
    encoded[data.draw(st.integers(0, len(encoded) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(VerificationFailed):
        StateProof.decode(bytes(encoded)).verify(CLUSTER)


@given(cut=st.integers(0, len(PROOF.encode()) - 1))
def test_a_proof_cut_short_is_refused(cut):
    with pytest.raises(VerificationFailed):
        StateProof.decode(PROOF.encode()[:cut])


@pytest.mark.parametrize("signers", [(), (0,), (0, 1)])
def test_a_checkpoint_with_fewer_signers_than_a_quorum_proves_nothing(signers):
    checkpoints = tuple((each.payload, each.signature) for each in certificate(*signers).checkpoints)
    with pytest.raises(VerificationFailed, match="takes 3 to 4"):
        replace(PROOF, checkpoints=checkpoints).verify(CLUSTER)


def test_a_replica_does_not_count_twice():
    first, second, _ = PROOF.checkpoints
    with pytest.raises(VerificationFailed, match="distinct"):
        replace(PROOF, checkpoints=(first, second, second)).verify(CLUSTER)


def test_checkpoints_of_different_states_are_no_certificate():
    other = certificate(2, state=MerkleTrie()).checkpoints[0]
    mixed = (*PROOF.checkpoints[:2], (other.payload, other.signature))
    with pytest.raises(VerificationFailed, match="different checkpoints"):
        replace(PROOF, checkpoints=mixed).verify(CLUSTER)


def test_a_forged_signature_is_refused():
    (payload, signature), *rest = PROOF.checkpoints
    forged = ((payload, bytes([signature[0] ^ 1]) + signature[1:]), *rest)
    with pytest.raises(VerificationFailed, match="replica 0 did not sign"):
        replace(PROOF, checkpoints=forged).verify(CLUSTER)


@pytest.mark.parametrize("wrong", [cluster_of(Parameters(n=4), "other"), cluster_of(Parameters(n=4), epoch=1)])
def test_another_cluster_or_epoch_is_refused(wrong):
    with pytest.raises(VerificationFailed, match="not of"):
        PROOF.verify(wrong)
    with pytest.raises(VerificationFailed, match="did not sign"):  # also if the proof is made to say so
        replace(PROOF, cluster=wrong.cluster, epoch=wrong.epoch).verify(wrong)


def test_a_proof_of_one_key_is_none_of_another():
    for key in (b"k8", b"nothing"):
        with pytest.raises(VerificationFailed, match="do not lead"):
            replace(PROOF, key=key).verify(CLUSTER)


def test_absence_is_not_proven_by_leaving_nodes_out():
    for kept in range(len(PROOF.nodes)):
        with pytest.raises(VerificationFailed, match="do not lead"):
            replace(PROOF, nodes=PROOF.nodes[:kept]).verify(CLUSTER)


def test_the_time_has_to_be_proven_too():
    with pytest.raises(VerificationFailed):
        replace(PROOF, clock=PROOF.nodes).verify(CLUSTER)
