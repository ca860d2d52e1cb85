"""When the latest batches passed each phase here: a benchmark joins it with its clients' clocks.

The clock is CLOCK_MONOTONIC, which all processes of a machine share; between machines the stamps say nothing.
"""

import time
from enum import IntEnum
from typing import Any, Final

from bft.core.effects import Accepted, Committed, Prepared, Record

KEPT: Final = 4096  # batches: about a megabyte


class Phase(IntEnum):
    """In the order in which a batch passes them."""

    PRE_PREPARED = 0  # proposed here, or the primary's proposal accepted
    PREPARED = 1
    COMMITTED = 2
    EXECUTED = 3
    REPLIED = 4  # its records are on disk, its replies handed to the links


class Phases:
    """The stamps; marking costs a dictionary access and a look at the clock, five times a batch."""

    def __init__(self) -> None:
        self._stamps: dict[int, list[int]] = {}  # by sequence number, oldest first
        self._proposed: dict[int, bytes] = {}  # the digest of the batch that the stamps are of, by sequence number

    def saw(self, record: Record) -> None:
        """A record is about to be written."""
        if isinstance(record, Accepted):
            header = record.proposal.header.message
            if self._proposed.get(header.seq) != header.digest and not self._executed(header.seq):
                self._stamps.pop(header.seq, None)  # of a batch that a view change replaced
            self.passed(header.seq, Phase.PRE_PREPARED)
            self._proposed[header.seq] = header.digest
        elif isinstance(record, Prepared):
            self.passed(record.commit.message.seq, Phase.PREPARED)
        elif isinstance(record, Committed):
            self.passed(record.commits[0].message.seq, Phase.COMMITTED)

    def passed(self, seq: int, phase: Phase) -> None:
        """Now; and the phases before it at the same time, if it is by a certificate that the batch got here.

        Passing it again or after a later one, in a later view, counts for nothing.
        """
        stamps = self._stamps.get(seq)
        if stamps is None:
            stamps = self._stamps[seq] = [0] * len(Phase)
            if len(self._stamps) > KEPT:
                oldest = next(iter(self._stamps))
                del self._stamps[oldest]
                self._proposed.pop(oldest, None)
        if not stamps[phase]:
            now_ns = time.monotonic_ns()
            for earlier in range(phase + 1):
                stamps[earlier] = stamps[earlier] or now_ns

    def _executed(self, seq: int) -> bool:
        return seq in self._stamps and self._stamps[seq][Phase.EXECUTED] > 0

    def document(self) -> dict[str, Any]:
        """For `/phases`: nanoseconds, 0 where a phase was not seen."""
        return {
            "phases": [phase.name.lower() for phase in Phase],
            "batches": {str(seq): stamps for seq, stamps in self._stamps.items()},
        }
