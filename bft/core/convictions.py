"""Who was proven faulty in the agreed history: the proofs that batches carried, in the replicated state (DESIGN §4).

Every change happens inside execution, so it is the same at every correct replica, under the state's Merkle root.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgpack

from bft.core.messages import Authenticated, Evidence, ReplicaId, Seq
from bft.core.ports import Application

_PREFIX = b"evidence/"


class Convictions:
    """The sequence number at which the first proof against each replica was executed; later ones are no-ops."""

    def __init__(self) -> None:
        self._at: dict[ReplicaId, Seq] = {}  # at most one a replica

    def __contains__(self, replica: ReplicaId) -> bool:
        return replica in self._at

    def __iter__(self) -> Iterator[tuple[ReplicaId, Seq]]:
        return iter(sorted(self._at.items()))

    def precede(self, seq: Seq, replica: ReplicaId) -> bool:
        """A batch before ``seq`` convicted this replica: another at ``seq`` could change nothing."""
        return self._at.get(replica, seq) < seq

    def record(self, evidence: Evidence, *, seq: Seq, application: Application) -> bool:
        """Execute one piece of evidence; True for the first against a replica."""
        if evidence.accused in self._at:
            return False
        self._at[evidence.accused] = seq
        record: bytes = msgpack.packb([seq, *_signed(evidence.first), *_signed(evidence.second)])
        application.put_system(_PREFIX + evidence.accused.to_bytes(8, "big"), record)
        return True

    def load(self, application: Application) -> None:
        """Take them over from the replicated state.

        A quorum certified it, so this is as good as the proofs, which STATUS brings (``EvidenceBook``).
        """
        records = application.range_system(_PREFIX)
        self._at = {int.from_bytes(key[len(_PREFIX) :], "big"): _seq_of(record) for key, record in records}


def _signed(statement: Authenticated[object]) -> tuple[str, bytes, bytes]:
    return type(statement.message).__name__, statement.payload, statement.signature


def _seq_of(record: bytes) -> Seq:
    seq: Seq = msgpack.unpackb(record)[0]
    return seq
