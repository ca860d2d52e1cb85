"""Which replicas lost what they said, how much of it, and until when that makes them faulty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bft.core.messages import ReplicaId, Seq, View
from bft.testing.contradictions import Contradictions
from bft.testing.hosts import Host


@dataclass(slots=True)
class Loss:
    """The highest position of what a replica said before its disk was lost or rolled back."""

    seq: Seq
    view: View
    told: bool  # it knows: there is neither log nor marker


class Amnesia:
    """The simulator's own knowledge, which no replica has."""

    def __init__(self, said: Contradictions) -> None:
        self._said = said
        self._losses: dict[ReplicaId, Loss] = {}
        self.ever: set[ReplicaId] = set()
        self._fresh: set[ReplicaId] = set()  # struck and not restarted yet
        self.undetected: set[ReplicaId] = set()  # rolled back, and no peer that answered could tell

    def strike(self, host: Host, *, told: bool) -> None:
        """Its disk was lost or rolled back just now."""
        self.ever.add(host.id)
        self._fresh.add(host.id)
        said = self._said
        self._losses[host.id] = Loss(said.highest_seq[host.id], said.highest_view[host.id], told)

    def starts_over(self, replica: ReplicaId) -> bool:
        """Whether its disk was struck since its last start: it need not bring back what it had."""
        struck = replica in self._fresh
        self._fresh.discard(replica)
        return struck

    def victims(self, hosts: Sequence[Host]) -> set[ReplicaId]:
        """Who counts as faulty: not everything that it said is past, or it does not say yet that it is."""
        for replica, loss in list(self._losses.items()):
            core = hosts[replica].core
            if core is not None and not core.silence and core.stable.seq >= loss.seq and core.view > loss.view:
                del self._losses[replica]
        return set(self._losses)

    def on_speaking(self, host: Host, *, was_silenced: bool) -> None:
        """It signs again; rolled back and not silenced, it may contradict itself, and be accused."""
        loss = self._losses.get(host.id)
        if loss is not None and not loss.told and not was_silenced:
            self.undetected.add(host.id)
