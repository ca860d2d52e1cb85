"""SHA-256, plain and tagged."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto.digests import DIGEST_SIZE, sha256, tagged

tags = st.binary(min_size=1, max_size=3).filter(lambda tag: b"\0" not in tag)
parts = st.lists(st.binary(max_size=10), max_size=3)


def test_sha256_gives_the_known_answer():
    """FIPS 180-4, "abc"."""
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256(b"abc").hex() == known
    assert sha256(b"a", b"", b"bc").hex() == known


def test_tagged_hashes_the_documented_bytes():
    assert tagged(b"t", b"ab", b"") == sha256(b"t\0" + b"\0\0\0\0\0\0\0\x02ab" + bytes(8))
    assert len(tagged(b"t")) == DIGEST_SIZE


@given(tags, parts, tags, parts)
def test_different_tags_or_parts_give_different_digests(tag_1, parts_1, tag_2, parts_2):
    same = tagged(tag_1, *parts_1) == tagged(tag_2, *parts_2)
    assert same == ((tag_1, parts_1) == (tag_2, parts_2))


def test_a_byte_moved_over_a_border_changes_the_digest():
    assert tagged(b"t", b"ab", b"c") != tagged(b"t", b"a", b"bc")


def test_a_tag_with_a_zero_byte_is_refused():
    with pytest.raises(ValueError, match="zero byte"):
        tagged(b"a\0b")
