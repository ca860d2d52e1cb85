"""Where an operation's time goes: the clients' stamps joined with the replicas', on the one clock of this machine.

The phases are those of the replica whose answer was the last that the client needed, the f+1-th: its clock is read when
it accepts (or makes) the proposal, when it is prepared, committed, executed, and when its answer goes to the links.
A replica remembers its latest 4,096 batches, a load generator its latest 50,000 answers.  The phases of one operation
add up to its latency by construction; that those operations are like all others is what the report compares.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

NAMES: Final = ("pre-prepared", "prepared", "committed", "executed", "replied", "answered")


@dataclass(frozen=True, slots=True)
class Breakdown:
    """Means over the operations that could be joined, in milliseconds, in the order of NAMES."""

    ms: tuple[float, ...]
    operations: int

    def document(self, latency_ms: float) -> dict[str, Any]:
        """For result.json; `latency_ms` is the mean of all operations."""
        return {
            "ms": {name: round(ms, 4) for name, ms in zip(NAMES, self.ms, strict=True)},
            "sum_ms": round(sum(self.ms), 4),
            "latency_ms": round(latency_ms, 4),
            "operations": self.operations,
        }


def breakdown(answers: Iterable[tuple[int, float, float]], replicas: Sequence[Mapping[str, Any]]) -> Breakdown | None:
    """Of (seq, sent, answered) in seconds and every replica's `/phases`; None when nothing can be joined."""
    weak_quorum = (len(replicas) - 1) // 3 + 1
    passed: dict[int, list[list[int]]] = {}
    for document in replicas:
        for seq, stamps in document["batches"].items():
            if all(stamps):
                passed.setdefault(int(seq), []).append(stamps)
    needed = {
        seq: sorted(stamps, key=lambda s: s[-1])[weak_quorum - 1]
        for seq, stamps in passed.items()
        if len(stamps) >= weak_quorum
    }
    sums, count = [0.0] * len(NAMES), 0
    for seq, sent_s, answered_s in answers:
        if seq in needed:
            edges = [sent_s, *(stamp / 1e9 for stamp in needed[seq]), answered_s]
            for number in range(len(NAMES)):
                sums[number] += edges[number + 1] - edges[number]
            count += 1
    return Breakdown(tuple(total / count * 1000 for total in sums), count) if count else None
