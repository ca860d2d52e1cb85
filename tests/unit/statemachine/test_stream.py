"""The root of a state that is read item by item."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bft.statemachine.stream import root_of
from bft.statemachine.trie import EMPTY_ROOT, MerkleTrie


@given(st.dictionaries(st.binary(max_size=3), st.binary(max_size=3), max_size=300))
def test_it_is_that_of_the_trie(items: dict[bytes, bytes]) -> None:
    trie = MerkleTrie().update(items)
    assert root_of(trie.items()) == trie.root


@pytest.mark.parametrize("count", [0, 1, 2, 17, 5_000])
def test_it_is_that_of_the_trie_whatever_its_size(count: int) -> None:
    trie = MerkleTrie().update({b"key-%d" % number: b"value" for number in range(count)})
    assert root_of(trie.items()) == trie.root
    assert (trie.root == EMPTY_ROOT) == (count == 0)


def test_an_item_out_of_its_place_is_refused() -> None:
    items = list(MerkleTrie().update({b"key-%d" % number: b"" for number in range(9)}).items())
    for wrong in ([*items, items[0]], [items[1], items[0]], [items[0], items[0]]):
        with pytest.raises(ValueError, match="place"):
            root_of(wrong)
