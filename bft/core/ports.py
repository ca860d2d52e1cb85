"""Everything the core asks of its surroundings synchronously; all else is an event or an effect.

Each port is deterministic and does no I/O that the protocol could observe.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, TypeVar

from bft.core.messages import Authenticated, ClientKey, Digest, Seq, SignedMessage

S = TypeVar("S", bound=SignedMessage)


class Signer(Protocol):
    """Signs this replica's own statements (Ed25519 is deterministic, so this is a pure function)."""

    def sign(self, message: S) -> Authenticated[S]:
        """The statement, encoded canonically and signed."""
        ...


class Admission(Protocol):
    """Judges a client's certificate; a pure function of its arguments and the cluster's CA."""

    def client_name(self, certificate: bytes, *, client: ClientKey, time_ns: int) -> str | None:
        """The name the CA vouches for, or None when the certificate does not admit this key at this time."""
        ...


class Application(Protocol):
    """The replicated state: the service's records and the framework's own, under one Merkle root."""

    def apply(self, operation: bytes, *, client: ClientKey, client_name: str, seq: Seq, time_ns: int) -> bytes:
        """Execute; the encoded result.  Never raises for anything an operation does."""
        ...

    def put_system(self, key: bytes, value: bytes | None) -> None:
        """Write (None: delete) a framework record; part of the hashed state."""
        ...

    def get_system(self, key: bytes) -> bytes | None: ...

    def range_system(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Framework records whose key starts with ``prefix``, in key order."""
        ...

    def checkpoint(self, seq: Seq) -> Digest:
        """Fold all changes into the tree, keep that tree for ``seq``, return its root."""
        ...

    def root(self) -> Digest:
        """Root of the state now; depends on its content alone, not on when it is asked for."""
        ...

    def release_below(self, seq: Seq, *, keep: frozenset[Seq]) -> None:
        """Let go of the checkpoints below ``seq``, but for those in ``keep``."""
        ...

    def read_nodes(self, seq: Seq, paths: Sequence[bytes], bytes_max: int) -> list[tuple[bytes, bytes]] | None:
        """Nodes of the tree of checkpoint ``seq``; None when it is not held."""
        ...

    def begin_sync(self, seq: Seq, root: Digest) -> None:
        """Collect the state with this root, reusing what equals our own or was collected for an earlier root."""
        ...

    def begin_repair(self, seq: Seq, root: Digest) -> Digest:
        """As ``begin_sync``, but our own state is damaged: reuse only what hashes to what is wanted; its true root."""
        ...

    def differences(self, limit: int) -> list[tuple[bytes, Digest | None, Digest | None]]:
        """After a repair: the first keys that were wrong, with the hashes of the values in ours and the new state."""
        ...

    def missing_nodes(self, limit: int) -> list[bytes]:
        """Paths to ask for next, none of them handed out already (see ``requeue_nodes``)."""
        ...

    def accept_node(self, path: bytes, encoding: bytes) -> bool:
        """Take a node if its hash is the one expected at ``path``."""
        ...

    def requeue_nodes(self, paths: Sequence[bytes]) -> None:
        """These were asked for and did not come."""
        ...

    def sync_complete(self) -> bool: ...

    def finish_sync(self) -> None:
        """Adopt the collected state in place of our own."""
        ...

    def sync_progress(self) -> tuple[int, int]:
        """(nodes received, nodes known to be wanted)."""
        ...
