"""Ed25519 keys: known answers, refused encodings, key files."""

import os
import pickle
from pathlib import Path

import pytest

from crypto.keys import InvalidKey, PrivateKey, PublicKey, verify

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
ORDER_8_Y = 2707385501144840649318225287225658788936804267575313519463743609750303021306
SIGN_OF_X = 1 << 255

# RFC 8032 §7.1: secret, public, message, signature
RFC_8032 = {
    "test-1": (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    "test-2": (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    "test-3": (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
}


def encoded(number: int) -> bytes:
    return number.to_bytes(32, "little")


def small_order_encodings() -> dict[str, bytes]:
    """All encodings, canonical or not, with either sign, of the eight points of the torsion subgroup."""
    ys = {"0": 0, "1": 1, "-1": P - 1, "8": ORDER_8_Y, "-8": P - ORDER_8_Y, "p": P, "p+1": P + 1}
    return {f"y={name}{sign}": encoded(y | bit) for name, y in ys.items() for sign, bit in (("", 0), ("-", SIGN_OF_X))}


@pytest.mark.parametrize(("secret", "public", "message", "signature"), RFC_8032.values(), ids=RFC_8032)
class TestKnownAnswers:
    """RFC 8032 §7.1"""

    def test_a_seed_gives_its_public_key(self, secret, public, message, signature):
        assert PrivateKey.from_seed(bytes.fromhex(secret)).public == PublicKey.from_hex(public)

    def test_a_signature_is_the_expected_one(self, secret, public, message, signature):
        assert PrivateKey.from_seed(bytes.fromhex(secret)).sign(bytes.fromhex(message)).hex() == signature

    def test_the_signature_verifies(self, secret, public, message, signature):
        assert verify(bytes.fromhex(public), bytes.fromhex(message), bytes.fromhex(signature))

    def test_another_message_does_not_verify(self, secret, public, message, signature):
        assert not verify(bytes.fromhex(public), bytes.fromhex(message) + b"x", bytes.fromhex(signature))


@pytest.mark.parametrize("raw", small_order_encodings().values(), ids=small_order_encodings())
def test_a_small_order_key_is_refused(raw):
    with pytest.raises(InvalidKey, match="small order"):
        PublicKey(raw)


@pytest.mark.parametrize("raw", small_order_encodings().values(), ids=small_order_encodings())
def test_the_forgery_that_a_small_order_key_allows_does_not_verify(raw):
    """R = identity, S = 0 satisfies the textbook equation for a small-order key and a suitable message."""
    forged = encoded(1) + encoded(0)
    assert not any(verify(raw, bytes([i]), forged) for i in range(16))


@pytest.mark.parametrize("offset", [*range(2, 19)])
@pytest.mark.parametrize("sign", [0, SIGN_OF_X])
def test_a_non_canonical_key_is_refused(offset, sign):
    with pytest.raises(InvalidKey, match="canonical"):
        PublicKey(encoded((P + offset) | sign))


def test_bytes_that_are_no_point_are_refused():
    with pytest.raises(InvalidKey, match="not a point"):
        PublicKey(encoded(2))  # (y² - 1) / (dy² + 1) is no square for y = 2


def test_a_point_outside_the_prime_order_subgroup_is_refused():
    """A valid key plus the point of order 2, (0, -1), which maps (x, y) to (-x, -y)."""
    number = int.from_bytes(PrivateKey.from_seed(b"\x07" * 32).public.raw, "little")
    y, sign = number & (SIGN_OF_X - 1), number & SIGN_OF_X
    with pytest.raises(InvalidKey, match="subgroup"):
        PublicKey(encoded((P - y) | (sign ^ SIGN_OF_X)))


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_a_key_of_another_length_is_refused(length):
    with pytest.raises(InvalidKey, match="32 bytes"):
        PublicKey(bytes(length))


@pytest.mark.parametrize("text", ["", "00", "zz" * 32, "0x" + "11" * 31, " " * 64, "1 " * 32])
def test_text_that_is_no_hexadecimal_key_is_refused(text):
    with pytest.raises(InvalidKey):
        PublicKey.from_hex(text)


def test_a_public_key_survives_its_hexadecimal_form():
    key = PrivateKey.generate().public
    assert PublicKey.from_hex(key.hex()) == key


@pytest.mark.parametrize("length", [0, 1, 32, 63, 65, 128])
def test_a_signature_of_another_length_is_false_and_raises_nothing(length):
    assert not verify(PrivateKey.generate().public.raw, b"data", bytes(length))


@pytest.mark.parametrize("length", [0, 31, 33])
def test_verifying_under_a_key_of_another_length_is_false(length):
    assert not verify(bytes(length), b"data", bytes(64))


def test_every_flipped_bit_of_a_signature_makes_it_false():
    key = PrivateKey.from_seed(b"\x01" * 32)
    signature = key.sign(b"data")
    for bit in range(512):
        flipped = (int.from_bytes(signature, "little") ^ (1 << bit)).to_bytes(64, "little")
        assert not verify(key.public.raw, b"data", flipped)


def test_a_signature_cannot_be_turned_into_another_valid_one():
    """S + L satisfies the equation too; RFC 8032 §5.1.7 requires S < L."""
    key = PrivateKey.from_seed(b"\x01" * 32)
    signature = key.sign(b"data")
    s = int.from_bytes(signature[32:], "little") + L
    assert not verify(key.public.raw, b"data", signature[:32] + encoded(s))


def test_a_saved_key_loads_as_the_same_key(tmp_path):
    key = PrivateKey.generate()
    key.save(tmp_path / "k")
    assert PrivateKey.load(tmp_path / "k").public == key.public


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_a_key_file_has_mode_0600_under_any_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        PrivateKey.generate().save(tmp_path / "k")
    finally:
        os.umask(before)
    assert (tmp_path / "k").stat().st_mode & 0o7777 == 0o600


def test_saving_never_overwrites(tmp_path):
    first = PrivateKey.generate()
    first.save(tmp_path / "k")
    with pytest.raises(FileExistsError):
        PrivateKey.generate().save(tmp_path / "k")
    assert PrivateKey.load(tmp_path / "k").public == first.public


def test_a_failed_save_leaves_no_file(tmp_path, monkeypatch):
    def full_disk(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_disk)
        with pytest.raises(OSError, match="No space"):
            PrivateKey.generate().save(tmp_path / "k")
    assert not (tmp_path / "k").exists()


def test_saving_syncs_the_file_and_its_directory(tmp_path, monkeypatch):
    synced = []
    fsync = os.fsync

    def recording(descriptor):
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", recording)
    PrivateKey.generate().save(tmp_path / "k")
    assert synced == [tmp_path / "k", tmp_path]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o666])
def test_a_key_file_open_to_others_is_refused_with_advice(tmp_path, mode):
    PrivateKey.generate().save(tmp_path / "k")
    (tmp_path / "k").chmod(mode)
    with pytest.raises(InvalidKey, match="chmod 600"):
        PrivateKey.load(tmp_path / "k")


def test_a_missing_key_file_is_reported_with_its_name(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent"):
        PrivateKey.load(tmp_path / "absent")


def test_a_fifo_in_place_of_a_key_is_refused_without_hanging(tmp_path):
    os.mkfifo(tmp_path / "k", 0o600)
    with pytest.raises(InvalidKey, match="regular"):
        PrivateKey.load(tmp_path / "k")


def encrypted_pem() -> bytes:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

    key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))


def p256_pem() -> bytes:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        PrivateKey.from_seed(b"\x01" * 32).to_pem()[:-40],
        encrypted_pem(),
        p256_pem(),
        b"x" * 100_000,
    ],
    ids=["empty", "text", "truncated", "encrypted", "another-algorithm", "huge"],
)
def test_a_file_that_holds_no_usable_key_is_refused_in_one_line(tmp_path, content):
    (tmp_path / "k").touch(mode=0o600)
    (tmp_path / "k").write_bytes(content)
    with pytest.raises(InvalidKey) as refusal:
        PrivateKey.load(tmp_path / "k")
    assert "\n" not in str(refusal.value)
    assert str(tmp_path / "k") in str(refusal.value)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_seed_of_another_length_is_refused(length):
    with pytest.raises(InvalidKey):
        PrivateKey.from_seed(bytes(length))


def test_repr_does_not_show_the_secret():
    key = PrivateKey.from_seed(bytes(range(32)))
    shown = f"{key!r} {key}"
    assert bytes(range(32)).hex() not in shown
    assert repr(bytes(range(32))) not in shown


def test_a_private_key_is_not_pickled():
    with pytest.raises(TypeError):
        pickle.dumps(PrivateKey.generate())
