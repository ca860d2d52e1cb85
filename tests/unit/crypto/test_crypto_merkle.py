"""The Merkle tree against a transcription of RFC 9162 §2.1, and its proofs against tampering."""

from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto.merkle import all_proofs, inclusion_proof, root, verify_inclusion

SIZES = range(1, 34)


def leaves_of(count: int) -> list[bytes]:
    return [b"leaf %d" % i for i in range(count)]


def rfc_root(leaves: list[bytes]) -> bytes:
    """MTH of RFC 9162 §2.1.1, top-down as the text has it."""
    if len(leaves) == 0:
        return sha256().digest()
    if len(leaves) == 1:
        return sha256(b"\x00" + leaves[0]).digest()
    split = rfc_split(len(leaves))
    return sha256(b"\x01" + rfc_root(leaves[:split]) + rfc_root(leaves[split:])).digest()


def rfc_path(leaves: list[bytes], index: int) -> tuple[bytes, ...]:
    """PATH of RFC 9162 §2.1.3.1."""
    if len(leaves) == 1:
        return ()
    split = rfc_split(len(leaves))
    if index < split:
        return (*rfc_path(leaves[:split], index), rfc_root(leaves[split:]))
    return (*rfc_path(leaves[split:], index - split), rfc_root(leaves[:split]))


def rfc_split(count: int) -> int:
    return 1 << ((count - 1).bit_length() - 1)


@pytest.mark.parametrize("count", [0, *SIZES])
def test_the_root_is_the_rfcs(count):
    assert root(leaves_of(count)) == rfc_root(leaves_of(count))


def test_the_root_of_certificate_transparencys_test_vector():
    """The eight leaves that the CT implementations test with."""
    leaves = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
    assert (
        root([bytes.fromhex(leaf) for leaf in leaves]).hex()
        == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"
    )


@pytest.mark.parametrize("count", SIZES)
def test_every_proof_is_the_rfcs_and_verifies(count):
    leaves = leaves_of(count)
    for index, leaf in enumerate(leaves):
        proof = inclusion_proof(leaves, index)
        assert proof == rfc_path(leaves, index)
        assert verify_inclusion(root(leaves), leaf, index, count, proof)


@pytest.mark.parametrize("count", [0, *SIZES])
def test_all_proofs_are_the_single_ones(count):
    leaves = leaves_of(count)
    assert all_proofs(leaves) == (root(leaves), [inclusion_proof(leaves, i) for i in range(count)])


@pytest.mark.parametrize("count", SIZES)
def test_a_proof_holds_at_its_own_index_only(count):
    leaves = leaves_of(count)
    top, proofs = all_proofs(leaves)
    for index, proof in enumerate(proofs):
        for other in range(-1, count + 2):
            assert verify_inclusion(top, leaves[index], other, count, proof) == (other == index)


@pytest.mark.parametrize("count", SIZES)
def test_a_proof_that_is_longer_shorter_or_changed_fails(count):
    leaves = leaves_of(count)
    top, proofs = all_proofs(leaves)
    for index, proof in enumerate(proofs):
        assert not verify_inclusion(top, leaves[index], index, count, (*proof, bytes(32)))
        assert not verify_inclusion(top, leaves[index], index, count, (bytes(32), *proof))
        for i in range(len(proof)):
            assert not verify_inclusion(top, leaves[index], index, count, proof[:i] + proof[i + 1 :])
            for changed in (bytes(32), proof[i] + b"\0", proof[i][:-1], b""):
                tampered = (*proof[:i], changed, *proof[i + 1 :])
                assert not verify_inclusion(top, leaves[index], index, count, tampered)


@pytest.mark.parametrize("count", SIZES)
def test_another_leaf_or_root_fails(count):
    leaves = leaves_of(count)
    top, proofs = all_proofs(leaves)
    for index, proof in enumerate(proofs):
        assert not verify_inclusion(top, b"other", index, count, proof)
        assert not verify_inclusion(bytes(32), leaves[index], index, count, proof)
        assert not verify_inclusion(top[:-1], leaves[index], index, count, proof)


def test_an_inner_node_does_not_pass_for_a_leaf():
    leaves = leaves_of(4)
    left = sha256(b"\x00" + leaves[0]).digest() + sha256(b"\x00" + leaves[1]).digest()
    assert not verify_inclusion(root(leaves), left, 0, 2, (root(leaves[2:]),))


@pytest.mark.parametrize(("index", "count"), [(0, 0), (0, -1), (-1, 1), (1, 1), (2**70, 2**70), (-(2**70), 2**70)])
def test_an_index_outside_the_tree_fails(index, count):
    assert not verify_inclusion(root([b"x"]), b"x", index, count, ())


def test_a_count_beyond_all_bounds_fails_at_once():
    assert not verify_inclusion(root([b"x"]), b"x", 0, 2**10_000, ())


@pytest.mark.parametrize("index", [-1, 3])
def test_a_proof_of_an_absent_leaf_is_refused(index):
    with pytest.raises(IndexError):
        inclusion_proof(leaves_of(3), index)


@given(st.lists(st.binary(max_size=5), min_size=1, max_size=70), st.data())
@settings(max_examples=60, deadline=None)
def test_any_leaf_of_any_tree_is_proven(leaves, data):
    index = data.draw(st.integers(0, len(leaves) - 1))
    top, proofs = all_proofs(leaves)
    assert top == rfc_root(leaves)
    assert verify_inclusion(top, leaves[index], index, len(leaves), proofs[index])
