"""Receipts: that this operation of this client had this result at this sequence number, for anybody to check offline.

A receipt holds the client's signed request and the signed batch results of f+1 replicas, each with the Merkle path from
the request's outcome to the root that the replica signed.  At least one of any f+1 replicas is correct, and a correct
one signs only what it executed.  The file's format, byte by byte: docs/receipts.md.
"""

import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self, TypeAlias, TypeVar

from msgpack import Unpacker, UnpackException

from bft.codec import Limits, MessageType, decode_payload
from bft.codec.wire import blob, digest, fixed, natural, pack, text
from bft.config import ClusterConfig
from bft.config.cluster import FILE_NAME
from bft.core.messages import (
    Authenticated,
    BatchResult,
    ClientKey,
    Digest,
    Outcome,
    ReplicaId,
    ReplyStatus,
    Request,
    RequestKind,
    Seq,
    SessionId,
    SignedMessage,
)
from bft.core.quorum import Quorums
from bft.errors import InvalidMessage, VerificationFailed
from bft.statemachine.results import Error, Ok, decode_result
from crypto import merkle
from crypto.digests import DIGEST_SIZE, tagged
from crypto.keys import InvalidKey, PublicKey
from crypto.signatures import verify

T = TypeVar("T", bound=SignedMessage)

MAGIC: Final = "bft-receipt"
FORMAT_VERSION: Final = 1
FILE_BYTES_MAX: Final = 32 << 20  # a reply has at most 16 MiB, and a request far less
_RESULTS_MAX: Final = 1 << 16
_VOUCHERS_MAX: Final = 1 << 12
_PATH_DIGESTS_MAX: Final = 64
_SIGNATURE_BYTES: Final = 64
_CHECKSUM_TAG: Final = b"bft-receipt-v1"

# What a reply says beside its outcome: the signed root, and the outcome's index, count and path under it.
SignedPath: TypeAlias = tuple[Authenticated[BatchResult], int, int, tuple[Digest, ...]]


@dataclass(frozen=True, slots=True)
class Voucher:
    """One replica's word: it signed a root, and the path leads from the outcome to it."""

    payload: bytes  # of a BATCH_RESULT
    signature: bytes
    sides: int  # bit i: the i-th sibling, from the leaf on, stands to the left
    path: bytes  # the siblings' hashes from leaf to root, 32 bytes each

    @classmethod
    def of(cls, signed: SignedPath) -> Self:
        """As it came with a reply.  Tells left from right where a reply tells index and count, which nobody signed."""
        result, index, count, path = signed
        return cls(result.payload, result.signature, _sides(index, count), b"".join(path))


@dataclass(frozen=True, slots=True)
class Verified:
    """What a receipt was found to prove."""

    cluster: str
    epoch: int
    client: ClientKey
    session: SessionId
    number: int  # of the request in its session
    position: int  # of the operation in the request
    operation: bytes
    result: Ok | Error
    seq: Seq  # where it executed
    signers: tuple[ReplicaId, ...]  # ascending, at least f+1

    def __str__(self) -> str:
        said = self.result.value if isinstance(self.result, Ok) else f"error {self.result.code}"
        return (
            f"client {self.client.hex()} of {self.cluster}: operation {self.operation!r} had result {said!r} "
            f"at sequence number {self.seq}, signed by replicas {', '.join(map(str, self.signers))}"
        )


@dataclass(frozen=True, slots=True)
class Receipt:
    """A claim that anybody can check; nothing in it is proven before `verify` returns."""

    cluster: str
    epoch: int
    request: bytes  # payload of the REQUEST, a bundle of operations, exactly as the client signed it
    signature: bytes  # the client's
    position: int  # which operation of the bundle the receipt is about
    seq: Seq
    results: tuple[bytes, ...]  # of the bundle's operations, as the replicas report them
    vouchers: tuple[Voucher, ...]  # ascending by replica

    # --- from and to bytes

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a file that `save` wrote.  Raises VerificationFailed or OSError."""
        with Path(path).open("rb") as file:
            return cls.decode(file.read(FILE_BYTES_MAX + 1))

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read what `encode` returned.  Raises VerificationFailed, whatever the bytes are."""
        if len(data) > FILE_BYTES_MAX:
            raise VerificationFailed(f"not a receipt: it has more than {FILE_BYTES_MAX} bytes")
        try:
            magic, version, content, checksum = flat_items(data, "receipt", at_least=4, at_most=4)
            if magic != MAGIC:
                raise InvalidMessage(f"it does not begin with {MAGIC}")
            if natural(version, "format version") != FORMAT_VERSION:
                raise InvalidMessage(f"format version {version}, and this program reads {FORMAT_VERSION}")
            blob(content, "content", FILE_BYTES_MAX)
            if digest(checksum, "checksum") != tagged(_CHECKSUM_TAG, content):
                raise InvalidMessage("its bytes were damaged or changed")
            return cls._decode_content(content)
        except InvalidMessage as error:
            raise VerificationFailed(f"not a receipt: {error}") from error

    @classmethod
    def _decode_content(cls, content: bytes) -> Self:
        fields = flat_items(content, "content", at_least=8, at_most=8)
        cluster, epoch, request, signature, position, seq, results, vouchers = fields
        # Bytes within bytes, so that each is read flat: nesting would let a small file ask for much memory.
        held = flat_items(blob(results, "results", FILE_BYTES_MAX), "results", at_least=1, at_most=_RESULTS_MAX)
        vouched = flat_items(blob(vouchers, "vouchers", FILE_BYTES_MAX), "vouchers", at_least=1, at_most=_VOUCHERS_MAX)
        return cls(
            text(cluster, "cluster", 64),
            natural(epoch, "epoch"),
            blob(request, "request", FILE_BYTES_MAX),
            fixed(signature, "signature", _SIGNATURE_BYTES),
            natural(position, "position"),
            natural(seq, "seq"),
            tuple([blob(result, "result", FILE_BYTES_MAX) for result in held]),
            tuple([_decode_voucher(blob(raw, "voucher", FILE_BYTES_MAX)) for raw in vouched]),
        )

    def encode(self) -> bytes:
        """The file's bytes; one receipt has one encoding."""
        vouchers = tuple([pack((v.payload, v.signature, v.sides, v.path)) for v in self.vouchers])
        content = pack(
            (
                self.cluster,
                self.epoch,
                self.request,
                self.signature,
                self.position,
                self.seq,
                pack(self.results),
                pack(vouchers),
            )
        )
        return pack((MAGIC, FORMAT_VERSION, content, tagged(_CHECKSUM_TAG, content)))

    def save(self, path: str | Path) -> None:
        """Write the receipt to a file, whole and durable or not at all; replaces one that is there.  Raises OSError."""
        save_whole(path, self.encode())

    # --- proof

    def verify(self, cluster: ClusterConfig | str | Path) -> Verified:
        """What the receipt proves, by nothing but the public keys of ``cluster`` (its cluster.toml, or the directory).

        Raises VerificationFailed with the reason; ConfigurationError or EnvironmentFailure about ``cluster``.
        """
        config = cluster if isinstance(cluster, ClusterConfig) else public_keys(Path(cluster))
        if (self.cluster, self.epoch) != (config.cluster, config.epoch):
            raise VerificationFailed(
                f"a receipt of cluster {self.cluster!r} in epoch {self.epoch}, "
                f"not of {config.cluster!r} in epoch {config.epoch}"
            )
        limits = Limits.of(config.parameters)
        request = self._verify_request(config, limits)
        outcome = self._outcome(request)
        signers = self._verify_vouchers(outcome.leaf, config, limits)
        try:
            result = decode_result(self.results[self.position])
        except ValueError as error:
            raise VerificationFailed("the replicas vouch for a result that no service gives") from error
        return Verified(
            config.cluster,
            config.epoch,
            request.client,
            request.session,
            request.number,
            self.position,
            request.operations[self.position],
            result,
            self.seq,
            signers,
        )

    def _verify_request(self, config: ClusterConfig, limits: Limits) -> Request:
        """The bundle, signed by its client, which has the operation that the receipt is about."""
        request = statement_in(MessageType.REQUEST, self.request, limits, Request)
        try:
            PublicKey(request.client)
        except InvalidKey as error:
            raise VerificationFailed(f"the client's key: {error}") from error
        if not verify(request.client, config.domain, MessageType.REQUEST, self.request, self.signature):
            raise VerificationFailed(f"the request is not signed by client {request.client.hex()}")
        if request.kind is not RequestKind.APPLICATION:
            raise VerificationFailed("the request opens a session and has no operation")
        if self.position >= len(request.operations):
            raise VerificationFailed(f"the request has no operation {self.position}")
        if len(self.results) > len(request.operations):
            raise VerificationFailed("there are more results than operations")
        if self.position >= len(self.results):
            raise VerificationFailed(f"operation {self.position} of the request was not executed")
        return request

    def _outcome(self, request: Request) -> Outcome:
        """What the replicas must have signed; all that the request determines is taken from the request."""
        signed = Authenticated(request, self.request, self.signature)
        return Outcome(
            request.client,
            request.session,
            request.number,
            signed.digest,
            self.seq,
            ReplyStatus.EXECUTED,
            self.results,
        )

    def _verify_vouchers(self, leaf: bytes, config: ClusterConfig, limits: Limits) -> tuple[ReplicaId, ...]:
        """Who vouches for the outcome: at least f+1 distinct replicas, and every voucher is good."""
        weak = Quorums.of(limits.n).weak
        if not weak <= len(self.vouchers) <= limits.n:
            raise VerificationFailed(
                f"{len(self.vouchers)} replicas vouch for the result; it takes {weak} to {limits.n}"
            )
        signers = tuple([_verify_voucher(voucher, leaf, config, limits) for voucher in self.vouchers])
        if len(set(signers)) < len(signers):
            raise VerificationFailed("a replica is counted twice")
        if list(signers) != sorted(signers):
            raise VerificationFailed("the replicas are not in ascending order")
        return signers


def make_receipt(
    config: ClusterConfig,
    request: Authenticated[Request],
    outcome: Outcome,
    *,
    position: int,
    vouched: Iterable[SignedPath],
) -> Receipt | None:
    """The receipt of operation ``position``, made of the first f+1 vouchers that hold; None if there are fewer.

    ``vouched`` comes from distinct replicas.  What does not hold is passed over: links are authenticated, so a client
    accepts an outcome without looking at the signatures, and a faulty replica may well send the right one badly signed.
    """
    limits = Limits.of(config.parameters)
    weak = Quorums.of(limits.n).weak
    leaf = outcome.leaf
    good: dict[ReplicaId, Voucher] = {}
    for signed in vouched:
        voucher = Voucher.of(signed)
        try:
            good[_verify_voucher(voucher, leaf, config, limits)] = voucher
        except VerificationFailed:
            continue
        if len(good) == weak:
            vouchers = tuple([good[signer] for signer in sorted(good)])
            return Receipt(
                config.cluster,
                config.epoch,
                request.payload,
                request.signature,
                position,
                outcome.seq,
                outcome.results,
                vouchers,
            )
    return None


def _verify_voucher(voucher: Voucher, leaf: bytes, config: ClusterConfig, limits: Limits) -> ReplicaId:
    """Who signed the root that the path leads to.  Raises VerificationFailed."""
    result = statement_in(MessageType.BATCH_RESULT, voucher.payload, limits, BatchResult)
    signer = result.replica
    key = config.replica_keys[signer]
    if not verify(key, config.domain, MessageType.BATCH_RESULT, voucher.payload, voucher.signature):
        raise VerificationFailed(f"a root that replica {signer} did not sign")
    path = [voucher.path[at : at + DIGEST_SIZE] for at in range(0, len(voucher.path), DIGEST_SIZE)]
    # A full tree of this height folds in exactly the siblings of the path, on exactly these sides; those are bound by
    # the root, while the size of the tree is not.
    if not merkle.verify_inclusion(result.root, leaf, voucher.sides, 1 << len(path), path):
        raise VerificationFailed(f"replica {signer} signed no batch with this request, result and sequence number")
    return signer


def _sides(index: int, count: int) -> int:
    """On which side each sibling stands on the way up from leaf ``index`` of ``count``; levels without one skipped."""
    sides = height = 0
    last = count - 1
    while last > 0:
        if index & 1 or index < last:
            sides |= (index & 1) << height
            height += 1
        index >>= 1
        last >>= 1
    return sides


def _decode_voucher(raw: bytes) -> Voucher:
    payload, signature, sides, path = flat_items(raw, "voucher", at_least=4, at_most=4)
    if len(blob(path, "path", _PATH_DIGESTS_MAX * DIGEST_SIZE)) % DIGEST_SIZE:
        raise InvalidMessage("a path is not made of digests")
    return Voucher(
        blob(payload, "batch result", FILE_BYTES_MAX),
        fixed(signature, "signature", _SIGNATURE_BYTES),
        natural(sides, "sides"),
        path,
    )


def flat_items(data: bytes, name: str, *, at_least: int, at_most: int) -> tuple[Any, ...]:
    """The items of the array that ``data`` encodes canonically, none of them an array in its turn.

    So the memory needed is that of ``data`` and a little for each item.  Raises InvalidMessage.
    """
    unpacker = Unpacker(
        use_list=False,
        max_buffer_size=max(len(data), 1),
        max_array_len=0,
        max_map_len=0,
        max_ext_len=0,
        max_str_len=64,
    )
    try:
        unpacker.feed(data)
        count = unpacker.read_array_header()
        if not at_least <= count <= at_most:
            raise InvalidMessage(f"{name} has {count} items, not {at_least} to {at_most}")
        items = tuple([unpacker.unpack() for _ in range(count)])
        canonical = pack(items) == data
    except (ValueError, TypeError, OverflowError, UnpackException) as error:
        raise InvalidMessage(f"{name} is no array of plain values") from error
    if not canonical:
        raise InvalidMessage(f"{name} is not canonically encoded")
    return items


def statement_in(kind: MessageType, payload: bytes, limits: Limits, expected: type[T]) -> T:
    """The statement in a payload; nothing of it is proven.  Raises VerificationFailed."""
    try:
        statement = decode_payload(kind, payload, limits).unverified
    except InvalidMessage as error:
        raise VerificationFailed(f"not a {expected.__name__}: {error}") from error
    if not isinstance(statement, expected):
        raise VerificationFailed(f"not a {expected.__name__}")
    return statement


def save_whole(path: str | Path, data: bytes) -> None:
    """Write a file, whole and durable or not at all; replaces one that is there.  Raises OSError."""
    target = Path(path)
    partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        with partial.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def public_keys(path: Path) -> ClusterConfig:
    """The public half of a cluster's directory; unlike whoever connects, a verifier has no use for the CA."""
    return ClusterConfig.load(path / FILE_NAME if path.is_dir() else path)
