"""SHA-256 digests, plain and tagged."""

import hashlib

DIGEST_SIZE = 32


def sha256(*parts: bytes) -> bytes:
    """SHA-256 of the concatenated parts; where parts vary in length use `tagged`."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.digest()


def tagged(tag: bytes, *parts: bytes) -> bytes:
    """SHA-256 bound to a purpose and to the borders of its parts.

    Hashes tag | 0x00 | (u64 length | part)*, big endian.  A tag is a constant without a zero byte (ValueError
    otherwise), so different (tag, parts) never hash the same input.
    """
    if b"\0" in tag:
        raise ValueError("a digest's tag has no zero byte")
    pieces = [tag, b"\0"]
    for part in parts:
        pieces += (len(part).to_bytes(8, "big"), part)
    return hashlib.sha256(b"".join(pieces)).digest()  # one call: for the usual short parts calls cost more than bytes
