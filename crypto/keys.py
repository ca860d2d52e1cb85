"""Ed25519 keys.  Signing and verifying use libsodium, files use PKCS#8.  RFC 8032, RFC 8410"""

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from nacl.bindings import (
    crypto_core_ed25519_is_valid_point,
    crypto_sign,
    crypto_sign_open,
    crypto_sign_seed_keypair,
)
from nacl.exceptions import BadSignatureError

from crypto.files import UnsafeFile, read_secret, write_new

PUBLIC_KEY_SIZE = 32
SEED_SIZE = 32
SIGNATURE_SIZE = 64

_P = 2**255 - 19  # the field's prime
_Y_MASK = 2**255 - 1  # an encoding is y (255 bits) and the sign of x (1 bit)
# The y of the points of order 1, 2, 4 and 8: the whole torsion subgroup, whatever the sign of x.
_SMALL_ORDER_Y = frozenset(
    {
        0,
        1,
        _P - 1,
        2707385501144840649318225287225658788936804267575313519463743609750303021306,
        _P - 2707385501144840649318225287225658788936804267575313519463743609750303021306,
    }
)


class InvalidKey(ValueError):
    """A key or key file that must not be used; the message is one line and says why."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """An Ed25519 public key that is safe to verify with.

    Holds only canonical encodings of points of the prime-order subgroup: one key has one encoding, and no
    signature verifies under a key nobody owns.  Raises InvalidKey.
    """

    raw: bytes  # 32 bytes

    def __post_init__(self) -> None:
        if reason := _refusal(self.raw):
            raise InvalidKey(reason)

    @classmethod
    def from_hex(cls, text: str) -> Self:
        """Parse 64 hexadecimal digits.  Raises InvalidKey."""
        if len(text) != 2 * PUBLIC_KEY_SIZE:
            raise InvalidKey(f"a public key has {2 * PUBLIC_KEY_SIZE} hexadecimal digits, not {len(text)}")
        try:
            return cls(bytes.fromhex(text))
        except InvalidKey:
            raise
        except ValueError as error:
            raise InvalidKey("a public key has hexadecimal digits only") from error

    def hex(self) -> str:
        """The 64 lower-case hexadecimal digits that `from_hex` reads."""
        return self.raw.hex()

    def __str__(self) -> str:
        return self.raw.hex()


def _refusal(raw: bytes) -> str | None:
    """Why `raw` is no acceptable public key, or None."""
    if len(raw) != PUBLIC_KEY_SIZE:
        return f"a public key is {PUBLIC_KEY_SIZE} bytes"
    y = int.from_bytes(raw, "little") & _Y_MASK
    if y % _P in _SMALL_ORDER_Y:
        return "public key of small order"
    if y >= _P:
        return "public key is not canonically encoded"
    if not crypto_core_ed25519_is_valid_point(raw):
        return "public key is not a point of the prime-order subgroup of edwards25519"
    return None


class PrivateKey:
    """An Ed25519 private key.  Its secret never shows in repr, is not pickled and not compared."""

    __slots__ = ("_expanded", "_seed", "public")

    public: PublicKey

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_SIZE:
            raise InvalidKey(f"a private key's seed is {SEED_SIZE} bytes")
        raw, self._expanded = crypto_sign_seed_keypair(seed)
        self._seed = seed
        self.public = PublicKey(raw)

    @classmethod
    def generate(cls) -> Self:
        """Make a fresh key from the system's randomness."""
        return cls(secrets.token_bytes(SEED_SIZE))

    @classmethod
    def from_seed(cls, seed: bytes) -> Self:
        """The key of a 32-byte seed, the private key of RFC 8032.  Raises InvalidKey."""
        return cls(seed)

    @classmethod
    def from_pem(cls, pem: bytes) -> Self:
        """Parse an unencrypted PKCS#8 PEM.  Raises InvalidKey."""
        try:
            key = load_pem_private_key(pem, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise InvalidKey("not an unencrypted PKCS#8 PEM private key") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise InvalidKey("not an Ed25519 private key")
        return cls(key.private_bytes_raw())

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a key that `save` wrote.  Raises InvalidKey (also when others can read the file) or OSError."""
        try:
            pem = read_secret(path)
        except UnsafeFile as error:
            raise InvalidKey(f"private key {error}") from error
        try:
            return cls.from_pem(pem)
        except InvalidKey as error:
            raise InvalidKey(f"private key {path}: {error}") from error

    def save(self, path: Path) -> None:
        """Write the key to a new file of mode 0600, durable on return.  Raises FileExistsError or OSError."""
        write_new(path, self.to_pem(), mode=0o600)

    def to_pem(self) -> bytes:
        """The secret as unencrypted PKCS#8 PEM."""
        key = Ed25519PrivateKey.from_private_bytes(self._seed)
        return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def sign(self, data: bytes) -> bytes:
        """The 64-byte signature of exactly `data`; callers go through `crypto.signatures` for domain separation."""
        return crypto_sign(data, self._expanded)[:SIGNATURE_SIZE]

    def __repr__(self) -> str:
        return f"PrivateKey(public={self.public.hex()})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a private key is not pickled")


def verify(public_raw: bytes, data: bytes, signature: bytes) -> bool:
    """Whether `signature` is `public_raw`'s over `data`; malformed keys and signatures are simply False.

    Releases the GIL.  libsodium refuses small-order and non-canonical keys, a small-order R and S >= L, so that no
    third party can turn a valid signature into another valid one.
    """
    # The lengths are checked here because the C function trusts them.
    if len(public_raw) != PUBLIC_KEY_SIZE or len(signature) != SIGNATURE_SIZE:
        return False
    try:
        crypto_sign_open(signature + data, public_raw)
    except BadSignatureError:
        return False
    return True
