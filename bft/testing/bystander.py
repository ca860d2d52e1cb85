"""The observer of a run in which no promise holds: it demands nothing but that nobody correct is accused."""

from __future__ import annotations

from typing import Any

from bft.core.effects import Effect, EvidenceFound, Executed, Record
from bft.core.events import Event
from bft.core.messages import Digest, PeerMessage, ReplicaId, Seq
from bft.testing.checkers import Checker
from bft.testing.hosts import Host


class Bystander(Checker):
    """Takes down what each correct replica executed."""

    def __init__(self, *world: Any) -> None:
        super().__init__(*world)
        self._registry.on_signed = None
        self.histories: dict[ReplicaId, dict[Seq, Digest]] = {}

    @property
    def forked_at(self) -> Seq | None:
        """The lowest sequence number at which two correct replicas executed different batches."""
        digests: dict[Seq, set[Digest]] = {}
        for history in self.histories.values():
            for seq, digest in history.items():
                digests.setdefault(seq, set()).add(digest)
        return min((seq for seq, different in digests.items() if len(different) > 1), default=None)

    def on_step(self, host: Host, event: Event, effects: list[Effect]) -> None:
        self.events += 1
        self._trace.add(self._scheduler.now_ns, host.id, event, effects)
        host.state.applied.clear()
        if not host.correct:
            return
        for effect in effects:
            if isinstance(effect, Executed):
                self.histories.setdefault(host.id, {})[effect.seq] = effect.batch.digest
            elif isinstance(effect, EvidenceFound):
                self._on_evidence(host, effect)

    def on_durable(self, host: Host, records: list[Record]) -> None:
        pass

    def on_sent(self, host: Host, message: PeerMessage) -> None:
        pass

    def on_restart(self, host: Host) -> None:
        host.state.applied.clear()

    def on_accepted(self, *_: Any) -> None:
        pass

    def on_crash(self, host: Host) -> None:
        pass

    def on_truncated(self, host: Host, seq: Seq) -> None:
        pass
