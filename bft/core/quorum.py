"""Quorum arithmetic and certificate predicates (OSDI'99 §4.2-4.4)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bft.core.messages import (
    CertifiedBatch,
    CheckpointCertificate,
    PreparedCertificate,
    ReplicaId,
    View,
)


@dataclass(frozen=True, slots=True)
class Quorums:
    """Vote counts for n replicas of which f = (n - 1) // 3 may be arbitrarily faulty.

    Invariant: two quorums share at least f + 1 replicas, and the n - f correct replicas alone form one:
    ``2 * quorum - n >= f + 1`` and ``quorum <= n - f``.
    """

    n: int
    f: int
    quorum: int
    weak: int  # at least one correct replica is among them

    @classmethod
    def of(cls, n: int) -> Quorums:
        if n < 1:
            raise ValueError(f"a cluster needs at least one replica, not {n}")
        f = (n - 1) // 3
        return cls(n=n, f=f, quorum=(n + f + 2) // 2, weak=f + 1)

    def primary(self, view: View) -> ReplicaId:
        """The primary of a view; a fixed mapping, whatever is known about anyone's guilt."""
        return view % self.n

    def _distinct(self, signers: Iterable[ReplicaId]) -> int | None:
        """How many replicas signed, or None when one signed twice or is none of ours."""
        seen = list(signers)
        valid = len(set(seen)) == len(seen) and all(0 <= signer < self.n for signer in seen)
        return len(seen) if valid else None

    def proves_prepared(self, certificate: PreparedCertificate) -> bool:
        """A header by its view's primary and equal PREPAREs of distinct backups, a quorum in all."""
        header = certificate.header.message
        primary = self.primary(header.view)
        votes = [p.message for p in certificate.prepares]
        backups = self._distinct(v.replica for v in votes)
        return (
            header.replica == primary
            and backups is not None
            and backups + 1 >= self.quorum
            and all(v.replica != primary and v.header.message == header for v in votes)
        )

    def proves_committed(self, certified: CertifiedBatch) -> bool:
        """A quorum of equal COMMITs of distinct replicas for exactly this batch."""
        votes = [c.message for c in certified.commits]
        signers = self._distinct(v.replica for v in votes)
        return (
            signers is not None
            and signers >= self.quorum
            and len({(v.view, v.seq, v.digest) for v in votes}) == 1
            and votes[0].digest == certified.batch.digest
        )

    def proves_stable(self, certificate: CheckpointCertificate) -> bool:
        """A quorum of equal CHECKPOINTs of distinct replicas; the empty certificate proves genesis."""
        if not certificate.checkpoints:
            return True
        votes = [c.message for c in certificate.checkpoints]
        signers = self._distinct(v.replica for v in votes)
        return (
            signers is not None
            and signers >= self.quorum
            and len({(v.seq, v.root) for v in votes}) == 1
            and votes[0].seq > 0
        )
