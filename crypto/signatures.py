r"""Domain-separated signatures: what was signed in one cluster, epoch or message kind means nothing in another.

Signed bytes, integers big endian:

    "bft-signature-v1\0" | u16 length of cluster | cluster (UTF-8) | u64 epoch | u8 kind | payload

Every part before the payload has a fixed or a stated length, so two different inputs never encode alike.
"""

from dataclasses import dataclass, field

from crypto.keys import PrivateKey
from crypto.keys import verify as verify_raw

_TAG = b"bft-signature-v1\0"
_CLUSTER_BYTES_MAX = 2**16 - 1
_EPOCH_MAX = 2**64 - 1
_KINDS = tuple(bytes((kind,)) for kind in range(256))


@dataclass(frozen=True, slots=True)
class Domain:
    """The (cluster, epoch) in which a signature is valid.  Raises ValueError when a part does not fit its field."""

    cluster: str
    epoch: int  # 0 <= epoch < 2**64
    _prefix: bytes = field(init=False, repr=False, compare=False)  # everything before the kind, built once

    def __post_init__(self) -> None:
        cluster = self.cluster.encode()
        if len(cluster) > _CLUSTER_BYTES_MAX:
            raise ValueError(f"a cluster id has at most {_CLUSTER_BYTES_MAX} bytes")
        if not 0 <= self.epoch <= _EPOCH_MAX:
            raise ValueError("an epoch is an unsigned 64-bit number")
        prefix = _TAG + len(cluster).to_bytes(2, "big") + cluster + self.epoch.to_bytes(8, "big")
        object.__setattr__(self, "_prefix", prefix)

    def signing_input(self, kind: int, payload: bytes) -> bytes:
        """The exact bytes to sign for a message of `kind` (0..255, else ValueError)."""
        if not 0 <= kind <= 255:
            raise ValueError("a message kind is one byte")
        return b"".join((self._prefix, _KINDS[kind], payload))


def sign(key: PrivateKey, domain: Domain, kind: int, payload: bytes) -> bytes:
    """`key`'s 64-byte signature of `payload` as a message of `kind` in `domain`."""
    return key.sign(domain.signing_input(kind, payload))


def verify(public_raw: bytes, domain: Domain, kind: int, payload: bytes, signature: bytes) -> bool:
    """Whether `signature` is `public_raw`'s over `payload` as a message of `kind` in `domain`."""
    return verify_raw(public_raw, domain.signing_input(kind, payload), signature)
