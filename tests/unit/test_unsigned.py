"""The replicas that sign nothing, for the benchmark alone: they really do not, and nobody in earnest believes them."""

import sys

import pytest

import bft.auth
import bft.receipt
import crypto.certificates
import crypto.keys
from bft.testing.unsigned import UNSIGNED, signatures_left_out
from crypto import signatures
from crypto.keys import PrivateKey
from crypto.pool import VerifierPool
from crypto.signatures import Domain

DOMAIN = Domain("test", 0)


def in_the_gate(public_raw: bytes, data: bytes, signature: bytes) -> bool:
    return bool(vars(bft.auth)["verify"](public_raw, data, signature))


def in_the_pool(public_raw: bytes, data: bytes, signature: bytes) -> bool:
    return VerifierPool(0).verify_all([(public_raw, data, signature)])


def test_inside_the_block_nothing_is_signed_and_everything_is_believed():
    key = PrivateKey.generate()
    with signatures_left_out():
        assert key.sign(b"data") == UNSIGNED
        assert in_the_gate(key.public.raw, b"data", UNSIGNED)
        assert in_the_pool(key.public.raw, b"data", UNSIGNED)
        assert signatures.verify(key.public.raw, DOMAIN, 1, b"data", UNSIGNED)


def test_outside_of_it_what_was_signed_so_is_refused():
    key = PrivateKey.generate()
    with signatures_left_out():
        signature = signatures.sign(key, DOMAIN, 1, b"data")
    assert not signatures.verify(key.public.raw, DOMAIN, 1, b"data", signature)
    assert not in_the_gate(key.public.raw, b"data", signature)
    assert in_the_gate(key.public.raw, b"data", key.sign(b"data"))


def test_no_module_but_that_of_certificates_still_verifies():
    real = crypto.keys.verify
    with signatures_left_out():
        holding = {
            name
            for name, module in sys.modules.items()
            if name.partition(".")[0] in ("bft", "crypto") and any(value is real for value in vars(module).values())
        }
    assert holding == {"crypto.certificates"}


def test_it_ends_also_when_the_block_fails():
    real = crypto.keys.verify
    with pytest.raises(RuntimeError), signatures_left_out():
        raise RuntimeError
    assert crypto.keys.verify is real
