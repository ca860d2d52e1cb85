"""The message log: one slot a sequence number between the watermarks (OSDI'99 §4.2-4.3)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from bft.core.messages import (
    NULL_BATCH,
    NULL_DIGEST,
    Authenticated,
    Batch,
    CertifiedBatch,
    Commit,
    Digest,
    Prepare,
    PreparedCertificate,
    PrePrepare,
    ReplicaId,
    Seq,
)


@dataclass(slots=True)
class Slot:
    """What is known about one sequence number.

    ``header``, ``batch`` and the votes belong to the current view; ``prepared`` outlives it.
    """

    seq: Seq
    header: Authenticated[PrePrepare] | None = None  # binds (view, seq): the first accepted, never replaced
    batch: Batch | None = None  # digest equals the header's; None while a re-proposed body is fetched
    prepares: dict[ReplicaId, Authenticated[Prepare]] = field(default_factory=dict)  # one each, backups only
    commits: dict[ReplicaId, Authenticated[Commit]] = field(default_factory=dict)  # one each
    certified: CertifiedBatch | None = None  # committed-local
    prepared: PreparedCertificate | None = None  # of the highest view in which we prepared
    prepared_batch: Batch | None = None  # its body
    earlier: dict[Digest, Batch] = field(default_factory=dict)  # bodies accepted in earlier views; see `leave_view`

    def leave_view(self) -> None:
        """Forget the view's votes; keep every body that was accepted here.

        Whoever collected the PREPAREs of that view may show a certificate in any later one, so the body is owed until
        the slot is below a stable checkpoint.  One more a view in which this slot was proposed, at most.
        """
        if self.batch is not None:
            self.earlier[self.batch.digest] = self.batch
        self.header = self.batch = None
        self.prepares = {}
        self.commits = {}

    def body(self, digest: Digest) -> Batch | None:
        """The batch with this digest, if this slot ever held it."""
        if digest == NULL_DIGEST:
            return NULL_BATCH
        for batch in (self.batch, self.prepared_batch):
            if batch is not None and batch.digest == digest:
                return batch
        return self.earlier.get(digest)

    def matching_prepares(self, digest: Digest) -> list[Authenticated[Prepare]]:
        return [p for _, p in sorted(self.prepares.items()) if p.message.header.message.digest == digest]

    def matching_commits(self, digest: Digest) -> list[Authenticated[Commit]]:
        return [c for _, c in sorted(self.commits.items()) if c.message.digest == digest]

    @property
    def seen_header(self) -> Authenticated[PrePrepare] | None:
        """The accepted header, or else one that a PREPARE showed: what a conflicting header is compared to."""
        if self.header is not None:
            return self.header
        for prepare in self.prepares.values():
            return prepare.message.header
        return None


class Log:
    """Slots with low < seq <= low + window; whatever an attacker sends, no more than ``window`` of them."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._slots: dict[Seq, Slot] = {}
        self.low: Seq = 0  # the low watermark: our stable checkpoint

    @property
    def high(self) -> Seq:
        return self.low + self._window

    def __contains__(self, seq: Seq) -> bool:
        return self.low < seq <= self.high

    def __len__(self) -> int:
        return len(self._slots)

    def slot(self, seq: Seq) -> Slot:
        """The slot of a sequence number between the watermarks (KeyError otherwise)."""
        slot = self._slots.get(seq)
        if slot is None:
            if seq not in self:
                raise KeyError(seq)
            slot = self._slots[seq] = Slot(seq)
        return slot

    def get(self, seq: Seq) -> Slot | None:
        return self._slots.get(seq)

    def __iter__(self) -> Iterator[Slot]:
        """Ascending by sequence number."""
        return iter([self._slots[seq] for seq in sorted(self._slots)])

    def advance(self, low: Seq) -> list[Slot]:
        """Raise the low watermark and forget what is below, which is returned; never backwards."""
        if low <= self.low:
            return []
        self.low = low
        return [self._slots.pop(seq) for seq in sorted(self._slots) if seq <= low]
