"""The store and its trie against a plain dictionary, under whatever order of operations hypothesis finds."""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bft.statemachine.keyspace import KeySpace
from bft.statemachine.sync import StateSync
from bft.statemachine.trie import Inner, Leaf, MerkleTrie, Node, path_of, verify_proof

# Few enough keys to collide often; some share several nibbles of their paths.
KEYS = st.integers(0, 400).map(lambda i: b"%d" % i)
VALUES = st.binary(max_size=3)
CONTENTS = st.dictionaries(KEYS, VALUES, max_size=120)


def nodes_of(trie: MerkleTrie) -> Iterator[tuple[bytes, Node]]:
    pending = [] if trie.top is None else [(b"", trie.top)]
    while pending:
        path, node = pending.pop()
        yield path, node
        if isinstance(node, Inner):
            children = [(nibble, node.child(nibble)) for nibble in range(16)]
            pending += [(path + bytes([nibble]), child) for nibble, child in children if child is not None]


@given(CONTENTS, st.randoms(use_true_random=False), st.integers(1, 30))
def test_the_root_does_not_depend_on_the_order_of_updates(content, rng, step):
    items = list(content.items())
    rng.shuffle(items)
    trie = MerkleTrie()
    for i in range(0, len(items), step):
        trie = trie.update(dict(items[i : i + step]))
    assert trie.root == MerkleTrie().update(content).root


@given(CONTENTS, CONTENTS)
def test_the_root_does_not_depend_on_what_was_there_before(content, other):
    trie = MerkleTrie().update(other)
    trie = trie.update({key: content.get(key) for key in sorted(other.keys() | content.keys())})
    assert trie.root == MerkleTrie().update(content).root
    assert dict(trie.items()) == content


@given(CONTENTS, CONTENTS, st.booleans())
def test_what_changed_between_two_states_turns_the_one_into_the_other_and_is_no_more_than_that(old, new, related):
    new = old | new if related else new
    before = MerkleTrie().update(old)
    changes = list(MerkleTrie().update(new).changes_since(before))
    assert before.update(dict(changes)).root == MerkleTrie().update(new).root
    assert sorted(key for key, _ in changes) == sorted(k for k in old.keys() | new.keys() if old.get(k) != new.get(k))


@given(CONTENTS, CONTENTS)
def test_different_contents_have_different_roots(content, other):
    same = MerkleTrie().update(content).root == MerkleTrie().update(other).root
    assert same == (content == other)


@given(CONTENTS, st.lists(KEYS, max_size=60))
def test_the_shape_is_canonical(content, removed):
    """A leaf at its shortest unique path, an inner node exactly where two or more leaves are."""
    trie = MerkleTrie().update(content).update(dict.fromkeys(removed))
    leaves = [path_of(key) for key in content if key not in removed]
    seen = 0
    for path, node in nodes_of(trie):
        under = sum(leaf[: len(path)] == path for leaf in leaves)
        if isinstance(node, Leaf):
            assert path_of(node.key)[: len(path)] == path
            assert under == 1
            seen += 1
        else:
            assert under >= 2
    assert seen == len(leaves)


@given(CONTENTS, KEYS, VALUES)
def test_a_proof_shows_what_the_content_says_and_nothing_else(content, key, claimed):
    trie = MerkleTrie().update(content)
    proof = trie.prove(key)
    assert verify_proof(trie.root, key, content.get(key), proof)
    assert verify_proof(trie.root, key, claimed, proof) == (content.get(key) == claimed)
    assert verify_proof(trie.root, key, None, proof) == (key not in content)


@given(CONTENTS, CONTENTS, st.randoms(use_true_random=False))
def test_a_sync_from_any_older_state_with_a_lying_source_yields_the_certified_state(old, new, rng):
    older, source = MerkleTrie().update(old), MerkleTrie().update(new)
    sync = StateSync(source.root, older)
    everything = [source.read_node(path) for path, _ in nodes_of(source)]
    for _ in range(10_000):
        if sync.complete:
            break
        for path in sync.missing(rng.randrange(1, 9)):
            right = source.read_node(path)
            assert right is not None
            match rng.randrange(4):
                case 0:
                    lie = rng.choice(everything) or b""
                    assert sync.accept(path, lie) == (lie == right)
                case 1:
                    sync.accept(path, rng.randbytes(rng.randrange(80)))
                case 2:
                    assert sync.accept(path, right)
            sync.requeue([path])
    assert sync.result().root == source.root
    assert dict(sync.result().items()) == new


@given(CONTENTS, CONTENTS, CONTENTS, st.integers(0, 60))
def test_a_sync_whose_target_moves_yields_the_last_one(old, first, second, served):
    sources = [MerkleTrie().update(first), MerkleTrie().update(second)]
    sync = StateSync(sources[0].root, MerkleTrie().update(old))
    for _ in range(served):
        for path in sync.missing(1):
            assert sync.accept(path, sources[0].read_node(path) or b"")
    sync = sync.towards(sources[1].root)
    while paths := sync.missing(5):
        for path in paths:
            assert sync.accept(path, sources[1].read_node(path) or b"")
    assert dict(sync.result().items()) == second


FEW_KEYS = st.integers(0, 15).map(lambda i: b"%d" % i)  # so that operations meet on the same key


class KeySpaceAgainstDict(RuleBasedStateMachine):
    """Puts, deletes, ranges, failed operations and checkpoints, in any order, leave what a dictionary would hold."""

    def __init__(self) -> None:
        super().__init__()
        self.space = KeySpace(b"a")
        self.model: dict[bytes, bytes] = {}
        self.before: dict[bytes, bytes] | None = None  # what a rollback has to bring back; None: no operation open
        self.trie = MerkleTrie()

    @precondition(lambda self: self.before is None)
    @rule()
    def begin(self) -> None:
        self.space.begin()
        self.before = dict(self.model)

    @precondition(lambda self: self.before is not None)
    @rule(key=FEW_KEYS, value=VALUES)
    def put(self, key: bytes, value: bytes) -> None:
        self.space.put(key, value)
        self.model[key] = value

    @precondition(lambda self: self.before is not None)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.model)) | FEW_KEYS if self.model else FEW_KEYS)
        assert self.space.delete(key) == (self.model.pop(key, None) is not None)

    @precondition(lambda self: self.before is not None)
    @rule()
    def commit(self) -> None:
        self.space.commit()
        self.before = None

    @precondition(lambda self: self.before is not None)
    @rule()
    def rollback(self) -> None:
        self.space.rollback()
        self.model, self.before = self.before or {}, None

    @precondition(lambda self: self.before is None)
    @rule(key=FEW_KEYS, value=st.none() | VALUES)
    def set(self, key: bytes, value: bytes | None) -> None:
        self.space.set(key, value)
        self.model.pop(key, None)
        if value is not None:
            self.model[key] = value

    @rule(start=FEW_KEYS, end=st.none() | FEW_KEYS, limit=st.none() | st.integers(0, 9), reverse=st.booleans())
    def range(self, start: bytes, end: bytes | None, limit: int | None, reverse: bool) -> None:
        inside = sorted(item for item in self.model.items() if item[0] >= start and (end is None or item[0] < end))
        expected = inside[::-1] if reverse else inside
        assert list(self.space.range(start, end, limit=limit, reverse=reverse)) == expected[:limit]

    @precondition(lambda self: self.before is None)
    @rule()
    def checkpoint(self) -> None:
        self.trie = self.trie.update(self.space.take_changes())
        assert self.trie.root == MerkleTrie().update({b"a" + key: value for key, value in self.model.items()}).root

    @invariant()
    def every_key_reads_as_in_the_model(self) -> None:
        assert all(self.space.get(key) == value for key, value in self.model.items())
        assert len(self.space._data) == len(self.model)


KeySpaceAgainstDict.TestCase.settings = settings(stateful_step_count=60)
test_a_key_space_behaves_as_a_dictionary = pytest.mark.timeout(60)(KeySpaceAgainstDict.TestCase)
