"""Proofs of what is stored: under this key was this value, or nothing, at this stable checkpoint.

A proof holds the checkpoint's certificate, signed by a quorum, and the nodes of the state's Merkle tree from the
certified root to the key's place; and the same for the agreed time, so that the value's age can be told.  Anybody
verifies it offline with the replicas' public keys.  The file's format, byte by byte: docs/receipts.md.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from bft.codec import Limits, MessageType
from bft.codec.wire import blob, digest, fixed, natural, pack, text
from bft.config import ClusterConfig
from bft.core.messages import Checkpoint, CheckpointCertificate, Digest, ReplicaId, Seq
from bft.core.quorum import Quorums
from bft.errors import InvalidMessage, VerificationFailed
from bft.receipt import flat_items, public_keys, save_whole, statement_in
from bft.statemachine.store import application_key, system_key
from bft.statemachine.trie import DEPTH_MAX, Leaf, MerkleTrie, Proof, decode_node, verify_proof
from crypto.digests import tagged
from crypto.signatures import verify

MAGIC: Final = "bft-proof"
FORMAT_VERSION: Final = 1
FILE_BYTES_MAX: Final = 32 << 20
_SIGNERS_MAX: Final = 1 << 12
_NODES_MAX: Final = DEPTH_MAX + 1
_SIGNATURE_BYTES: Final = 64
_TIME_BYTES: Final = 8
_CLOCK: Final = system_key(b"clock")  # the agreed time, as the core keeps it
_BEGINNING: Final = pack((MAGIC, FORMAT_VERSION, b"", b""))[: 1 + 1 + len(MAGIC)]  # heads of array and text, text
_CHECKSUM_TAG: Final = b"bft-proof-v1"


@dataclass(frozen=True, slots=True)
class Proven:
    """What a proof was found to prove."""

    cluster: str
    epoch: int
    key: bytes  # the service's
    value: bytes | None  # None: nothing was stored
    seq: Seq  # the stable checkpoint
    time_ns: int  # the agreed time of its last batch, ns since 1970
    signers: tuple[ReplicaId, ...]  # ascending, a quorum

    def __str__(self) -> str:
        held = "nothing" if self.value is None else repr(self.value)
        signers = ", ".join(map(str, self.signers))
        return f"{self.cluster}: under {self.key!r} was {held} at checkpoint {self.seq}, signed by replicas {signers}"


@dataclass(frozen=True, slots=True)
class StateProof:
    """A claim that anybody can check; nothing in it is proven before `verify` returns."""

    cluster: str
    epoch: int
    key: bytes
    checkpoints: tuple[tuple[bytes, bytes], ...]  # payload of a CHECKPOINT and its signature, ascending by replica
    nodes: tuple[bytes, ...]  # from the root to the key's place
    clock: tuple[bytes, ...]  # from the root to the agreed time

    @classmethod
    def of(cls, config: ClusterConfig, certificate: CheckpointCertificate, state: MerkleTrie, key: bytes) -> Self:
        """What a replica gives: `state` is that of the certified checkpoint."""
        signed = sorted(certificate.checkpoints, key=lambda each: each.message.replica)
        return cls(
            config.cluster,
            config.epoch,
            key,
            tuple([(each.payload, each.signature) for each in signed]),
            state.prove(application_key(key)).nodes,
            state.prove(_CLOCK).nodes,
        )

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
            raise VerificationFailed(f"not a proof: it has more than {FILE_BYTES_MAX} bytes")
        try:
            magic, version, content, checksum = flat_items(data, "proof", at_least=4, at_most=4)
            if magic != MAGIC:
                raise InvalidMessage(f"it does not begin with {MAGIC}")
            if natural(version, "format version") != FORMAT_VERSION:
                raise InvalidMessage(f"format version {version}, and this program reads {FORMAT_VERSION}")
            blob(content, "content", FILE_BYTES_MAX)
            if digest(checksum, "checksum") != tagged(_CHECKSUM_TAG, content):
                raise InvalidMessage("its bytes were damaged or changed")
            cluster, epoch, key, checkpoints, nodes, clock = flat_items(content, "content", at_least=6, at_most=6)
            return cls(
                text(cluster, "cluster", 64),
                natural(epoch, "epoch"),
                blob(key, "key", FILE_BYTES_MAX),
                tuple([_decode_checkpoint(raw) for raw in _items(checkpoints, "checkpoints", _SIGNERS_MAX)]),
                _items(nodes, "nodes", _NODES_MAX),
                _items(clock, "clock", _NODES_MAX),
            )
        except InvalidMessage as error:
            raise VerificationFailed(f"not a proof: {error}") from error

    def encode(self) -> bytes:
        """The file's bytes; one proof has one encoding."""
        checkpoints = pack(tuple([pack(each) for each in self.checkpoints]))
        content = pack((self.cluster, self.epoch, self.key, checkpoints, pack(self.nodes), pack(self.clock)))
        return pack((MAGIC, FORMAT_VERSION, content, tagged(_CHECKSUM_TAG, content)))

    def save(self, path: str | Path) -> None:
        """Write the proof to a file, whole and durable or not at all; replaces one that is there.  Raises OSError."""
        save_whole(path, self.encode())

    # --- proof

    def verify(self, cluster: ClusterConfig | str | Path) -> Proven:
        """What it proves, by nothing but the public keys of ``cluster`` (its cluster.toml, or the directory).

        Raises VerificationFailed with the reason; ConfigurationError or EnvironmentFailure about ``cluster``.
        """
        config = cluster if isinstance(cluster, ClusterConfig) else public_keys(Path(cluster))
        if (self.cluster, self.epoch) != (config.cluster, config.epoch):
            raise VerificationFailed(
                f"a proof of cluster {self.cluster!r} in epoch {self.epoch}, "
                f"not of {config.cluster!r} in epoch {config.epoch}"
            )
        seq, root, signers = self._verify_certificate(config)
        value = _held(root, application_key(self.key), self.nodes)
        time = _held(root, _CLOCK, self.clock)
        if time is None or len(time) != _TIME_BYTES:
            raise VerificationFailed("the certified state has no agreed time")
        return Proven(config.cluster, config.epoch, self.key, value, seq, int.from_bytes(time, "big"), signers)

    def _verify_certificate(self, config: ClusterConfig) -> tuple[Seq, Digest, tuple[ReplicaId, ...]]:
        """The checkpoint, and who signed it: a quorum of distinct replicas, every signature good."""
        limits = Limits.of(config.parameters)
        quorum = Quorums.of(limits.n).quorum
        if not quorum <= len(self.checkpoints) <= limits.n:
            raise VerificationFailed(
                f"{len(self.checkpoints)} replicas signed the checkpoint; it takes {quorum} to {limits.n}"
            )
        said: set[tuple[Seq, Digest]] = set()
        signers: list[ReplicaId] = []
        for payload, signature in self.checkpoints:
            checkpoint = statement_in(MessageType.CHECKPOINT, payload, limits, Checkpoint)
            key = config.replica_keys[checkpoint.replica]
            if not verify(key, config.domain, MessageType.CHECKPOINT, payload, signature):
                raise VerificationFailed(f"a checkpoint that replica {checkpoint.replica} did not sign")
            signers.append(checkpoint.replica)
            said.add((checkpoint.seq, checkpoint.root))
        if signers != sorted(set(signers)):
            raise VerificationFailed("the replicas are not distinct and in ascending order")
        if len(said) != 1:
            raise VerificationFailed("the replicas signed different checkpoints")
        ((seq, root),) = said
        return seq, root, tuple(signers)


def is_state_proof(path: Path) -> bool:
    """Whether a file begins as one that `StateProof.save` wrote.  Raises OSError."""
    with path.open("rb") as file:
        return file.read(len(_BEGINNING)) == _BEGINNING


def _held(root: Digest, key: bytes, nodes: tuple[bytes, ...]) -> bytes | None:
    """What the state of this root holds for the key.  Raises VerificationFailed if the nodes do not show it."""
    last = decode_node(nodes[-1]) if nodes else None
    value = last.value if isinstance(last, Leaf) and last.key == key else None
    if not verify_proof(root, key, value, Proof(nodes)):
        raise VerificationFailed("the nodes do not lead from the certified root to the key")
    return value


def _items(data: object, name: str, at_most: int) -> tuple[bytes, ...]:
    items = flat_items(blob(data, name, FILE_BYTES_MAX), name, at_least=0, at_most=at_most)
    return tuple([blob(item, name, FILE_BYTES_MAX) for item in items])


def _decode_checkpoint(raw: bytes) -> tuple[bytes, bytes]:
    payload, signature = flat_items(raw, "checkpoint", at_least=2, at_most=2)
    return blob(payload, "checkpoint", FILE_BYTES_MAX), fixed(signature, "signature", _SIGNATURE_BYTES)
