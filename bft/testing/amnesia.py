"""Which replicas lost what they said, how much of it, until when that makes them faulty, and who could tell them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bft.core.effects import Effect, Rejected, Send
from bft.core.events import Event, Received
from bft.core.messages import Authenticated, NewView, Proposal, QueryStable, ReplicaId, ReplyStable, Seq, View
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

    def __init__(self, said: Contradictions, n: int) -> None:
        self._said = said
        self._losses: dict[ReplicaId, Loss] = {}
        self.ever: set[ReplicaId] = set()
        self._fresh: set[ReplicaId] = set()  # struck and not restarted yet
        self._unaware: dict[ReplicaId, int] = {}  # rolled back and silent since: in which of its lives it lost that
        self._heard: list[set[bytes]] = [set() for _ in range(n)]  # signatures that each had from their signers
        self._showing: set[tuple[ReplicaId, ReplicaId, int]] = (
            set()
        )  # (who answered, whom, nonce) and held what is lost
        self._shown: set[ReplicaId] = set()  # of the unaware, who accepted such an answer

    def strike(self, host: Host, *, told: bool, since: int = 0) -> None:
        """Its disk was lost, or rolled back to a copy made after so many durable statements, just now."""
        self.ever.add(host.id)
        self._fresh.add(host.id)
        said = self._said
        said.lose(host.id, since)
        self._losses[host.id] = Loss(said.highest_seq[host.id], said.highest_view[host.id], told)
        self._unaware.pop(host.id, None)
        if not told:
            self._unaware[host.id] = host.incarnation

    def set_back(self, host: Host) -> None:
        """An older copy without a record less: what it said is all there, but perhaps not its newest snapshot."""
        self._fresh.add(host.id)

    def written(self, host: Host) -> int:
        """For `strike`: how many of its statements are durable."""
        return self._said.written(host.id)

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

    # --- who could tell

    def on_step(self, host: Host, event: Event, effects: Sequence[Effect]) -> None:
        """Of a correct replica, before its effects are looked at."""
        if not isinstance(event, Received):
            return
        message = event.message
        if isinstance(message, ReplyStable):
            rejected = any(isinstance(effect, Rejected) for effect in effects)
            if (event.sender, host.id, message.nonce) in self._showing and not rejected:
                self._shown.add(host.id)
        elif isinstance(message, QueryStable):
            if self._said.lost[event.sender] & self._heard[host.id]:
                for effect in effects:
                    if isinstance(effect, Send) and isinstance(effect.message, ReplyStable):
                        self._showing.add((host.id, event.sender, effect.message.nonce))
        else:
            statement = message.header if isinstance(message, Proposal) else message
            if isinstance(statement, Authenticated) and not isinstance(statement.message, NewView):
                self._heard[host.id].add(statement.signature)

    def on_restart(self, host: Host) -> None:
        """What it had only in memory is gone; it asks anew."""
        self._heard[host.id].clear()
        self._shown.discard(host.id)

    def on_speaking(self, host: Host, *, was_silenced: bool) -> bool:
        """It signs again; False if it was shown what it lost and was not silenced.

        Rolled back and not shown, it may contradict what it lost, and be accused.  Whom a second start of the same loss
        keeps from noticing is excused, too: what it learned in the first looks like what it knew.
        """
        began = self._unaware.pop(host.id, None)
        excused = began is not None and not was_silenced
        self._said.speak(host.id, excused=excused)
        return not excused or host.id not in self._shown or host.incarnation != began
