"""The receiving side of state transfer against honest, lying and stopping sources."""

from collections.abc import Callable
from hashlib import sha256

import pytest

from bft.statemachine.sync import StateSync
from bft.statemachine.trie import EMPTY_ROOT, Inner, Leaf, MerkleTrie, path_of


def trie_of(*numbers: int, value: bytes = b"value") -> MerkleTrie:
    return MerkleTrie().update({b"key-%d" % i: value for i in numbers})


def read(source: MerkleTrie, path: bytes) -> bytes:
    encoding = source.read_node(path)
    assert encoding is not None
    return encoding


def fetch_all(sync: StateSync, source: MerkleTrie, limit: int = 7) -> int:
    """Serve everything that is wanted; the number of nodes it took."""
    served = 0
    while paths := sync.missing(limit):
        for path in paths:
            assert sync.accept(path, read(source, path))
            served += 1
    return served


def certified(*encodings: bytes) -> bytes:
    return sha256(encodings[0]).digest()


def inner(children: dict[int, bytes]) -> bytes:
    bitmap = sum(1 << nibble for nibble in children)
    return b"\x01" + bitmap.to_bytes(2) + b"".join(sha256(children[n]).digest() for n in sorted(children))


def test_an_empty_replica_fetches_the_whole_state():
    source = trie_of(*range(200))
    sync = StateSync(source.root, MerkleTrie())
    fetch_all(sync, source)
    assert sync.complete
    assert sync.result().root == source.root
    assert dict(sync.result().items()) == dict(source.items())


def test_the_empty_state_needs_no_node():
    sync = StateSync(EMPTY_ROOT, trie_of(1, 2, 3))
    assert sync.complete
    assert dict(sync.result().items()) == {}


def test_the_state_that_one_has_needs_no_node():
    source = trie_of(*range(50))
    sync = StateSync(source.root, trie_of(*range(50)))
    assert sync.complete
    assert sync.missing(10) == []


def test_a_state_of_one_key_is_fetched():
    source = trie_of(1)
    sync = StateSync(source.root, trie_of(*range(2, 40)))
    assert fetch_all(sync, source) == 1
    assert sync.result().root == source.root


def test_only_what_differs_is_fetched():
    old = trie_of(*range(3000))
    source = old.update({b"key-1": b"changed", b"key-2": None, b"new": b"value"})
    assert fetch_all(StateSync(source.root, old), source) < 25


def test_a_leaf_pushed_down_by_a_new_neighbour_is_not_fetched_again():
    first = next(b"key-%d" % i for i in range(1000))
    second = next(k for i in range(1, 100_000) if path_of(k := b"key-%d" % i)[:2] == path_of(first)[:2] and k != first)
    old = MerkleTrie().update({first: b"value"})
    source = old.update({second: b"value"})
    sync = StateSync(source.root, old)
    asked = []
    while paths := sync.missing(1):
        asked.append(paths[0])
        sync.accept(paths[0], read(source, paths[0]))
    assert sync.complete
    assert not any(holds(source, path, first) for path in asked)


def source_node(source: MerkleTrie, path: bytes):
    node = source.top
    for nibble in path:
        assert isinstance(node, Inner)
        node = node.child(nibble)
    return node


def holds(source: MerkleTrie, path: bytes, key: bytes) -> bool:
    node = source_node(source, path)
    return isinstance(node, Leaf) and node.key == key


@pytest.mark.parametrize(
    "lie",
    [
        lambda encoding: encoding[:-1],
        lambda encoding: encoding + b"\x00",
        lambda encoding: bytes([encoding[0] ^ 1]) + encoding[1:],
        lambda encoding: b"",
        lambda encoding: b"\x02",
        lambda encoding: b"\x01\xff\xff" + bytes(512),
    ],
)
def test_a_lie_is_refused_and_changes_nothing(lie: Callable[[bytes], bytes]):
    source = trie_of(*range(30))
    sync = StateSync(source.root, MerkleTrie())
    (path,) = sync.missing(1)
    before = sync.progress
    assert not sync.accept(path, lie(read(source, path)))
    assert sync.progress == before
    assert sync.accept(path, read(source, path))


def test_a_node_of_another_path_is_refused():
    source = trie_of(*range(100))
    sync = StateSync(source.root, MerkleTrie())
    sync.accept(sync.missing(1)[0], read(source, b""))
    first, second = sync.missing(2)
    assert not sync.accept(first, read(source, second))


def test_a_node_that_was_not_wanted_is_refused():
    source = trie_of(*range(100))
    sync = StateSync(source.root, MerkleTrie())
    assert not sync.accept(b"\x00", read(source, b"\x00"))
    assert sync.progress == (0, 1)


def test_a_node_is_accepted_once():
    source = trie_of(*range(30))
    sync = StateSync(source.root, MerkleTrie())
    sync.missing(1)
    assert sync.accept(b"", read(source, b""))
    progress = sync.progress
    assert not sync.accept(b"", read(source, b""))
    assert sync.progress == progress


def test_missing_hands_out_a_path_once_until_it_is_requeued():
    sync = StateSync(trie_of(*range(30)).root, MerkleTrie())
    assert sync.missing(5) == [b""]
    assert sync.missing(5) == []
    sync.requeue([b""])
    assert sync.missing(5) == [b""]


def test_requeueing_paths_that_are_not_outstanding_does_nothing():
    source = trie_of(*range(30))
    sync = StateSync(source.root, MerkleTrie())
    sync.missing(1)
    sync.accept(b"", read(source, b""))
    progress = sync.progress
    sync.requeue([b"", b"\x00\x01\x02", b"\xff"])
    assert sync.progress == progress
    assert b"" not in sync.missing(100)


def test_an_answer_after_its_requeue_is_accepted_and_not_asked_again():
    source = trie_of(*range(30))
    sync = StateSync(source.root, MerkleTrie())
    sync.requeue(sync.missing(1))
    assert sync.accept(b"", read(source, b""))
    assert b"" not in sync.missing(100)


def test_nothing_stays_outstanding_when_complete():
    source = trie_of(*range(300))
    sync = StateSync(source.root, MerkleTrie())
    served = fetch_all(sync, source)
    assert sync.progress == (served, 0)


def test_the_frontier_stays_small_while_a_large_state_is_fetched():
    source = trie_of(*range(3000))
    sync = StateSync(source.root, MerkleTrie())
    widest = 0
    while paths := sync.missing(1):
        sync.accept(paths[0], read(source, paths[0]))
        widest = max(widest, sync.progress[1])
    assert widest <= 16 * 8


def test_the_result_of_an_incomplete_sync_is_refused():
    with pytest.raises(RuntimeError, match="not complete"):
        StateSync(trie_of(1).root, MerkleTrie()).result()


def test_an_inner_node_with_a_lone_leaf_is_refused():
    leaf = Leaf(b"k", b"value").encoding()
    top = inner({path_of(b"k")[0]: leaf})
    sync = StateSync(certified(top), MerkleTrie())
    (path,) = sync.missing(1)
    assert sync.accept(path, top)
    (path,) = sync.missing(1)
    assert not sync.accept(path, leaf)


def test_an_inner_node_with_a_lone_leaf_that_one_has_is_refused():
    top = inner({path_of(b"k")[0]: Leaf(b"k", b"value").encoding()})
    sync = StateSync(certified(top), MerkleTrie().update({b"k": b"value"}))
    assert not sync.accept(sync.missing(1)[0], top)


def test_a_leaf_outside_its_path_is_refused():
    leaf = Leaf(b"k", b"value").encoding()
    wrong = path_of(b"k")[0] ^ 1
    top = inner({wrong: leaf, (wrong + 2) % 16: b"\x00other"})
    sync = StateSync(certified(top), MerkleTrie())
    assert sync.accept(sync.missing(1)[0], top)
    assert not sync.accept(bytes([wrong]), leaf)


def test_a_chain_of_inner_nodes_ends_at_the_length_of_a_path():
    chain = [inner({0: b"bottom"})]
    for _ in range(64):
        chain.append(inner({0: chain[-1]}))
    chain.reverse()
    sync = StateSync(certified(*chain), MerkleTrie())
    accepted = [sync.accept(b"\x00" * depth, encoding) for depth, encoding in enumerate(chain)]
    assert accepted == [True] * 64 + [False]


def test_a_sync_goes_on_towards_a_newer_root_with_what_it_has():
    source = trie_of(*range(2000))
    newer = source.update({b"key-5": b"changed"})
    sync = StateSync(source.root, MerkleTrie())
    total = fetch_all(StateSync(source.root, MerkleTrie()), source)
    for _ in range(total - 100):
        (path,) = sync.missing(1)
        assert sync.accept(path, read(source, path))
    successor = sync.towards(newer.root)
    assert fetch_all(successor, newer) < total / 4
    assert successor.result().root == newer.root


def test_a_sync_that_changes_its_root_again_and_again_completes():
    source = trie_of(*range(500))
    sync = StateSync(source.root, trie_of(*range(1000, 1100)))
    for i in range(60):
        for path in sync.missing(20):
            assert sync.accept(path, read(source, path))
        source = source.update({b"key-%d" % i: b"changed"})
        sync = sync.towards(source.root)
    fetch_all(sync, source)
    assert sync.result().root == source.root
    assert dict(sync.result().items()) == dict(source.items())
