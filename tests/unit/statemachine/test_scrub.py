"""The scrub finds what changed by itself, and nothing else."""

import pytest

from bft.statemachine.store import Store, application_key
from bft.statemachine.trie import Inner

KEY = application_key(b"k7")


@pytest.fixture
def store():
    store = Store()
    for i in range(100):
        store.application.set(b"k%d" % i, b"value")
    store.checkpoint()
    return store


def passed(scrub, bytes_max=1000):
    while not scrub.done:
        if (damage := scrub.advance(bytes_max)) is not None:
            return damage
    return None


def test_a_sound_state_passes_also_while_it_is_written(store):
    scrub = store.scrub()
    for i in range(100, 150):
        assert scrub.advance(1000) is None
        store.application.set(b"k%d" % (i - 60), b"new")
        if i % 10 == 0:
            store.checkpoint()
    assert passed(scrub) is None


def test_a_slice_is_bounded_and_always_gets_on(store):
    scrub = store.scrub()
    slices = 0
    while not scrub.done:
        scrub.advance(1)
        slices += 1
    assert slices > 100


def test_a_flipped_value_in_the_tree_is_found(store):
    leaf = store.trie.leaf(KEY)
    object.__setattr__(leaf, "value", b"valuf")
    damage = passed(store.scrub())
    assert damage.key == KEY
    assert damage.expected == leaf.hash != damage.found


def test_a_flipped_working_value_is_found(store):
    store.application._data[KEY] = b"valuf"
    assert passed(store.scrub()).key == KEY


def test_a_lost_working_value_is_found(store):
    del store.application._data[KEY]
    assert passed(store.scrub()).found == b""


def test_a_flipped_hash_of_an_inner_node_is_found(store):
    inner = next(child for child in store.trie.top.children if isinstance(child, Inner))
    object.__setattr__(inner, "hash", bytes(32))
    assert passed(store.scrub()).key is None
