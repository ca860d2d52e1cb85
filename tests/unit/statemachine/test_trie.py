"""The Merkle trie: shape, cost, proofs, node access."""

from hashlib import sha256

import pytest

from bft.statemachine import trie as trie_module
from bft.statemachine.trie import (
    EMPTY_ROOT,
    Inner,
    InnerShape,
    Leaf,
    MerkleTrie,
    Proof,
    decode_node,
    path_of,
    verify_proof,
)


def key(i: int) -> bytes:
    return b"key-%d" % i


def trie_of(count: int) -> MerkleTrie:
    return MerkleTrie().update({key(i): b"value-%d" % i for i in range(count)})


def keys_sharing_nibbles(count: int) -> tuple[bytes, bytes]:
    """Two keys whose paths agree in exactly `count` leading nibbles."""
    seen: dict[bytes, bytes] = {}
    for i in range(1 << 20):
        prefix = path_of(key(i))[:count]
        other = seen.setdefault(prefix, key(i))
        if other != key(i) and path_of(other)[count] != path_of(key(i))[count]:
            return other, key(i)
    raise LookupError("no such pair")


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The lengths of what is hashed as a node (paths excluded)."""
    lengths: list[int] = []

    def counting(data: bytes):
        if data[:1] in (b"\x00", b"\x01"):
            lengths.append(len(data))
        return sha256(data)

    monkeypatch.setattr(trie_module, "sha256", counting)
    return lengths


def test_the_empty_root_is_a_fixed_constant():
    assert MerkleTrie().root == EMPTY_ROOT == sha256(b"\x02").digest()


def test_a_lone_leaf_is_the_root_and_hashes_as_documented():
    encoding = b"\x00" + b"\x00\x00\x00\x01" + b"k" + b"value"
    assert MerkleTrie().update({b"k": b"value"}).root == sha256(encoding).digest()


def test_an_inner_node_hashes_its_bitmap_and_children_as_documented():
    a, b = keys_sharing_nibbles(0)
    top = MerkleTrie().update({a: b"1", b: b"2"})
    leaves = sorted((path_of(k)[0], Leaf(k, v).hash) for k, v in ((a, b"1"), (b, b"2")))
    bitmap = sum(1 << nibble for nibble, _ in leaves)
    assert top.root == sha256(b"\x01" + bitmap.to_bytes(2) + leaves[0][1] + leaves[1][1]).digest()


def test_moving_a_byte_from_key_to_value_changes_the_root():
    assert MerkleTrie().update({b"ab": b"c"}).root != MerkleTrie().update({b"a": b"bc"}).root


def test_removing_one_of_two_deep_leaves_collapses_the_whole_chain():
    a, b = keys_sharing_nibbles(3)
    assert MerkleTrie().update({a: b"1", b: b"2"}).update({b: None}).root == MerkleTrie().update({a: b"1"}).root


def test_a_change_to_what_is_already_there_returns_the_same_trie():
    trie = trie_of(50)
    assert trie.update({key(3): b"value-3", b"absent": None}) is trie


def test_an_update_leaves_the_old_version_as_it_was():
    trie = trie_of(50)
    root, items = trie.root, dict(trie.items())
    trie.update({key(i): None for i in range(25)} | {key(i): b"new" for i in range(25, 75)})
    assert trie.root == root
    assert dict(trie.items()) == items


def test_hashing_one_change_costs_a_path_not_the_state(hashed):
    trie = trie_of(5000)
    hashed.clear()
    trie.update({key(1): b"changed"})
    assert 1 <= len(hashed) <= 8


def test_changes_under_one_node_hash_it_once(hashed):
    trie = trie_of(5000)
    hashed.clear()
    trie.update({key(i): b"changed" for i in range(500)})
    together = len(hashed)
    hashed.clear()
    for i in range(500):
        trie = trie.update({key(i): b"changed"})
    assert together < len(hashed) / 2


def test_an_unchanged_value_hashes_nothing(hashed):
    trie = trie_of(200)
    hashed.clear()
    trie.update({key(i): b"value-%d" % i for i in range(200)})
    assert hashed == []


def test_every_key_is_provable():
    trie = trie_of(300)
    assert all(verify_proof(trie.root, key(i), b"value-%d" % i, trie.prove(key(i))) for i in range(300))


def test_every_absent_key_is_provably_absent():
    trie = trie_of(300)
    assert all(verify_proof(trie.root, key(i), None, trie.prove(key(i))) for i in range(300, 600))


@pytest.mark.parametrize("count", [0, 1])
def test_absence_from_a_tiny_trie_is_provable(count):
    trie = trie_of(count)
    assert verify_proof(trie.root, b"absent", None, trie.prove(b"absent"))


@pytest.mark.parametrize("claimed", [None, b"", b"value-8", b"value-7x"])
def test_a_proof_of_presence_shows_no_other_value(claimed):
    trie = trie_of(100)
    assert not verify_proof(trie.root, key(7), claimed, trie.prove(key(7)))


def test_a_proof_of_absence_shows_no_value():
    trie = trie_of(100)
    assert not verify_proof(trie.root, b"absent", b"value", trie.prove(b"absent"))


def test_a_proof_of_one_absent_key_does_not_show_that_a_present_one_is_absent():
    trie = trie_of(100)
    assert not any(verify_proof(trie.root, key(i), None, trie.prove(b"absent")) for i in range(100))


def test_a_proof_with_any_flipped_bit_is_refused():
    trie = trie_of(40)
    proof = trie.prove(key(5))
    for at, node in enumerate(proof.nodes):
        for byte in range(len(node)):
            flipped = node[:byte] + bytes([node[byte] ^ 1]) + node[byte + 1 :]
            nodes = (*proof.nodes[:at], flipped, *proof.nodes[at + 1 :])
            assert not verify_proof(trie.root, key(5), b"value-5", Proof(nodes))


def absent_key(trie: MerkleTrie, *, at_a_leaf: bool) -> bytes:
    """Return an absent key whose place is taken by another key's leaf, or by nothing."""
    return next(k for k in map(key, range(500, 900)) if (trie.prove(k).nodes[-1][:1] == b"\x00") == at_a_leaf)


@pytest.mark.parametrize("which", ["present", "absent, at a leaf", "absent, at an inner node"])
def test_a_shortened_or_extended_proof_is_refused(which):
    trie = trie_of(40)
    wanted = key(5) if which == "present" else absent_key(trie, at_a_leaf=which == "absent, at a leaf")
    nodes, value = trie.prove(wanted).nodes, trie.get(wanted)
    assert verify_proof(trie.root, wanted, value, Proof(nodes))
    assert not verify_proof(trie.root, wanted, value, Proof(nodes[:-1]))
    assert not verify_proof(trie.root, wanted, value, Proof((*nodes, nodes[-1])))
    assert not verify_proof(trie.root, wanted, value, Proof(()))


def test_a_proof_against_another_root_is_refused():
    trie = trie_of(40)
    other = trie.update({key(39): b"changed"})
    assert not verify_proof(other.root, key(5), b"value-5", trie.prove(key(5)))


def test_the_empty_root_takes_no_nodes_as_proof():
    assert not verify_proof(EMPTY_ROOT, b"k", None, Proof((b"\x02",)))


def test_a_nodes_encoding_hashes_to_its_hash():
    trie = trie_of(100)
    pending = [(b"", trie.top)]
    while pending:
        path, node = pending.pop()
        encoding = trie.read_node(path)
        assert node is not None
        assert encoding is not None
        assert sha256(encoding).digest() == node.hash
        if isinstance(node, Inner):
            pending += [(path + bytes([n]), node.child(n)) for n in range(16) if node.child(n)]


@pytest.mark.parametrize("path", [b"\x10", b"\xff" * 64, b"\x00" * 65, b"\x01" * 5000])
def test_a_path_that_leads_nowhere_has_no_node(path):
    assert trie_of(100).read_node(path) is None


@pytest.mark.parametrize(
    "encoding",
    [
        b"",
        b"\x00",
        b"\x00\x00\x00\x00",
        b"\x00\x00\x00\x00\x02k",
        b"\x00\xff\xff\xff\xffk",
        b"\x01",
        b"\x01\x00\x00",
        b"\x01\x00\x03" + bytes(32),
        b"\x01\x00\x01" + bytes(33),
        b"\x02",
        b"\x03",
    ],
)
def test_a_malformed_node_does_not_decode(encoding):
    assert decode_node(encoding) is None


def test_an_inner_node_decodes_to_the_hashes_of_its_children():
    trie = trie_of(100)
    encoding = trie.read_node(b"")
    assert isinstance(trie.top, Inner)
    assert encoding is not None
    assert decode_node(encoding) == InnerShape(trie.top.bitmap, tuple(child.hash for child in trie.top.children))
