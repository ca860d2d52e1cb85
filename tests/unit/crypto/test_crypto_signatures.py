"""Domain separation: a signature is worth something in one cluster, epoch and kind only."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto.keys import PrivateKey
from crypto.signatures import Domain, sign, verify

KEY = PrivateKey.from_seed(b"\x05" * 32)
DOMAIN = Domain("demo-3f9a2c1b", 7)

domains = st.builds(Domain, st.text(max_size=4), st.integers(0, 2**64 - 1))
kinds = st.integers(0, 255)
payloads = st.binary(max_size=12)


def test_the_signing_input_is_laid_out_as_documented():
    assert Domain("ab", 258).signing_input(9, b"xyz") == (
        b"bft-signature-v1\0" + b"\0\x02ab" + b"\0\0\0\0\0\0\x01\x02" + b"\x09" + b"xyz"
    )


def test_a_signature_verifies_in_its_own_domain():
    assert verify(KEY.public.raw, DOMAIN, 1, b"payload", sign(KEY, DOMAIN, 1, b"payload"))


@pytest.mark.parametrize(
    ("domain", "kind", "payload"),
    [
        (Domain("demo-00000000", 7), 1, b"payload"),
        (Domain("demo-3f9a2c1b", 8), 1, b"payload"),
        (DOMAIN, 2, b"payload"),
        (DOMAIN, 1, b"payloae"),
    ],
    ids=["another-cluster", "another-epoch", "another-kind", "another-payload"],
)
def test_a_signature_does_not_verify_as_anything_else(domain, kind, payload):
    assert not verify(KEY.public.raw, domain, kind, payload, sign(KEY, DOMAIN, 1, b"payload"))


def test_a_bare_signature_of_the_payload_does_not_verify():
    assert not verify(KEY.public.raw, DOMAIN, 1, b"payload", KEY.sign(b"payload"))


@given(domains, kinds, payloads, domains, kinds, payloads)
def test_different_statements_never_have_the_same_signing_input(d1, k1, p1, d2, k2, p2):
    same = d1.signing_input(k1, p1) == d2.signing_input(k2, p2)
    assert same == ((d1, k1, p1) == (d2, k2, p2))


def test_a_byte_moved_between_cluster_and_payload_changes_the_signing_input():
    assert Domain("ab", 0).signing_input(0, b"") != Domain("a", 0).signing_input(0, b"b")


@pytest.mark.parametrize("kind", [-1, 256])
def test_a_kind_beyond_one_byte_is_refused(kind):
    with pytest.raises(ValueError, match="one byte"):
        DOMAIN.signing_input(kind, b"")


@pytest.mark.parametrize("epoch", [-1, 2**64])
def test_an_epoch_beyond_64_bits_is_refused(epoch):
    with pytest.raises(ValueError, match="64-bit"):
        Domain("demo", epoch)


def test_a_cluster_id_too_long_for_its_length_field_is_refused():
    with pytest.raises(ValueError, match="at most"):
        Domain("x" * 65536, 0)
