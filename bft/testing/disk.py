"""A replica's disk: an append-only log of which a prefix is durable, and the snapshots."""

from __future__ import annotations

import random
from dataclasses import dataclass

from bft.core.effects import (
    Accepted,
    Asked,
    CheckpointTaken,
    Committed,
    EnteredView,
    Fetched,
    LeftView,
    Prepared,
    Proven,
    Record,
    Silenced,
    Spoke,
    Stable,
)
from bft.core.messages import GENESIS, CheckpointCertificate, Seq
from bft.statemachine.trie import MerkleTrie


@dataclass(frozen=True, slots=True)
class DiskCopy:
    """What a disk held at some time."""

    records: tuple[Record, ...]
    snapshots: dict[Seq, MerkleTrie]
    lost: bool


class Disk:
    """Records [0, synced) survive a crash; of those behind them a random prefix does (a torn tail).

    A snapshot is durable when `save_snapshot` is called; the caller delays that call.
    """

    def __init__(self) -> None:
        self.appended = 0  # records ever appended
        self.synced = 0  # of these, how many are durable
        self._durable: list[Record] = []
        self._tail: list[Record] = []  # the records [synced, appended)
        self._snapshots: dict[Seq, MerkleTrie] = {}
        self._lost = False

    def append(self, record: Record) -> None:
        self.appended += 1
        self._tail.append(record)

    def sync(self, upto: int) -> list[Record]:
        """Make the records before number `upto` durable; those that became so."""
        count = max(0, upto - self.synced)
        records, self._tail = self._tail[:count], self._tail[count:]
        self.synced += len(records)
        self._durable += records
        return records

    def save_snapshot(self, seq: Seq, trie: MerkleTrie) -> None:
        self._snapshots[seq] = trie

    def crash(self, chance: random.Random) -> list[Record]:
        """Lose what is not durable, except for a random prefix of it, which is returned."""
        survivors = self.sync(self.synced + chance.randint(0, len(self._tail)))
        self._tail = []
        self.appended = self.synced
        return survivors

    def truncate(self, seq: Seq) -> None:
        """Drop what the snapshot at `seq` and its certificate cover; keep views and evidence."""
        self._durable = [record for record in self._durable if _outlives(record, seq)]
        self._snapshots = {saved: trie for saved, trie in self._snapshots.items() if saved >= seq}

    # --- faults of the disk itself

    @property
    def amnesiac(self) -> bool:
        """Whether a start finds neither log nor marker: a replica that knows that it does not know."""
        return self._lost and not any(isinstance(record, Silenced | Spoke) for record in self._durable)

    def lose(self) -> None:
        """Everything is gone; to be called while the process is down."""
        self._durable, self._snapshots, self._lost = [], {}, True

    def copy(self) -> DiskCopy:
        """A copy of what is durable now, as a backup or a virtual machine's snapshot would be."""
        return DiskCopy(tuple(self._durable), dict(self._snapshots), self._lost)

    def roll_back(self, copy: DiskCopy) -> list[Record]:
        """Put an older copy in place, while the process is down; the records that were lost by that."""
        kept = {id(record) for record in copy.records}
        lost = [record for record in self._durable if id(record) not in kept]
        self._durable, self._snapshots, self._lost = list(copy.records), dict(copy.snapshots), copy.lost
        return lost

    def recover(self) -> tuple[list[Record], CheckpointCertificate, MerkleTrie | None]:
        """The durable records, and the newest snapshot that a durable certificate proves (None: the empty state)."""
        best = GENESIS
        for record in self._durable:
            if isinstance(record, Stable) and best.seq < record.certificate.seq in self._snapshots:
                best = record.certificate
        return list(self._durable), best, self._snapshots.get(best.seq)


def _outlives(record: Record, seq: Seq) -> bool:
    match record:
        case Accepted():
            return record.proposal.header.message.seq > seq
        case Prepared():
            return record.certificate.seq > seq
        case Committed():
            return record.commits[0].message.seq > seq
        case Fetched():
            return record.certified.seq > seq
        case CheckpointTaken():
            return record.checkpoint.message.seq > seq
        case Stable():
            return record.certificate.seq >= seq
        case LeftView() | EnteredView() | Proven() | Asked() | Silenced() | Spoke():
            return True
