"""STATUS and what it sets off: saying again what may have been lost (TOCS'02 §4.6; DESIGN §4, Status).

This alone heals lost messages, idle laggards and restarted replicas.
"""

from __future__ import annotations

from bft.core.checkpoints import Checkpoints
from bft.core.context import Context, CurrentView
from bft.core.effects import Outbox
from bft.core.evidence import EvidenceBook
from bft.core.execution import Execution
from bft.core.log import Slot
from bft.core.messages import (
    Authenticated,
    Batch,
    Bodies,
    FetchBodies,
    ReplicaId,
    Request,
    StableCheckpoint,
    Status,
)
from bft.core.ordering import Ordering
from bft.core.pending import PendingRequests
from bft.core.reminders import Reminders
from bft.core.view_change import ViewChanges

_RESENT_SLOTS = 16  # unfinished slots about which a stalled replica repeats itself, at most
_RESENT_PROPOSALS = 4
_RELAYED_REQUESTS = 64  # to the primary, each time
_FETCHED_BODIES = 16  # in one FETCH-BODIES


class Retransmission:
    """Reads the other parts and sends; changes none of them, but for noting which requests were relayed."""

    def __init__(
        self,
        context: Context,
        current: CurrentView,
        *,
        ordering: Ordering,
        execution: Execution,
        checkpoints: Checkpoints,
        view_changes: ViewChanges,
        pending: PendingRequests,
        guilty: EvidenceBook,
    ) -> None:
        self._context = context
        self._current = current
        self._ordering = ordering
        self._execution = execution
        self._checkpoints = checkpoints
        self._view_changes = view_changes
        self._pending = pending
        self._guilty = guilty
        self._reminders = Reminders(context.parameters)
        self._answered_ns: dict[ReplicaId, int] = {}  # when each peer's STATUS was last answered, monotonic

    def status(self) -> Status:
        """Where we stand."""
        return Status(
            self._current.view,
            self._current.active,
            self._execution.last_executed,
            self._checkpoints.stable.seq,
            self._execution.oldest_archived,
            self._guilty.accused,
        )

    def on_status(self, sender: ReplicaId, status: Status, out: Outbox, *, now_ns: int) -> None:
        """Give a peer what it evidently lacks, not more often than twice a status interval; the rest it asks for."""
        self._reminders.on_status(sender, status, now_ns=now_ns)
        answered_ns = self._answered_ns.get(sender)
        if answered_ns is not None and now_ns < answered_ns + self._context.parameters.status_interval_ns // 2:
            return
        self._answered_ns[sender] = now_ns
        view = self._current.view
        waiting = status.view < view or (status.view == view and not status.active)
        known = self._view_changes.entered if self._current.active else self._view_changes.own
        if waiting and known is not None and self._reminders.is_due(sender, known, now_ns=now_ns):
            out.send(sender, known)
        if status.stable < self._checkpoints.stable.seq:
            out.send(sender, StableCheckpoint(self._checkpoints.stable))
        if (proof := self._guilty.first_besides(status.accused)) is not None:
            out.send(sender, proof)  # one at a time: a proof may be large, and a liar may claim to lack all of them

    def on_restart(self, peer: ReplicaId) -> None:
        """A peer asks what it said before it restarted."""
        self._reminders.forget(peer)

    def unfinished(self) -> list[Slot]:
        """Slots of this view that are not executed."""
        return self._ordering.unfinished(last_executed=self._execution.last_executed)

    def has_unfinished(self) -> bool:
        """Somebody may be waiting for a message of ours that was lost."""
        return bool(self.unfinished() or self._checkpoints.own_unstable() or self._view_changes.own)

    def say_again(self, out: Outbox, *, now_ns: int) -> None:
        """Nothing moves: repeat what we said about the oldest unfinished slots, and ask for what we lack."""
        for index, slot in enumerate(self.unfinished()[:_RESENT_SLOTS]):
            for said in self._ordering.own_messages(slot, with_proposal=index < _RESENT_PROPOSALS):
                out.broadcast(said)
        for vote in self._checkpoints.own_unstable():
            out.broadcast(vote)
        if (own := self._view_changes.own) is not None:
            for peer in range(self._context.quorums.n):
                if peer != self._context.id and self._reminders.is_due(peer, own, now_ns=now_ns):
                    out.send(peer, own)
        self.fetch_bodies(out)

    def relay(self, request: Authenticated[Request], out: Outbox, *, now_ns: int) -> None:
        """As backup, show the primary a request that its client just sent us.

        Under a flood only the oldest go, with our STATUS: they are what our timer waits for, and must not queue at the
        primary behind all the others that we showed it.
        """
        may = self._current.active and not self._ordering.is_primary
        if may and self._pending.unproposed_count <= _RELAYED_REQUESTS:
            self._relay(request, out, now_ns=now_ns)

    def _relay(self, request: Authenticated[Request], out: Outbox, *, now_ns: int) -> None:
        self._pending.show(request, now_ns=now_ns)
        out.send(self._context.quorums.primary(self._current.view), request)

    def relay_requests(self, out: Outbox, *, heard_before_ns: int, now_ns: int) -> None:
        """As backup, show the primary what it should have proposed by now: it may have missed or refused it."""
        if self._ordering.is_primary or not self._current.active:
            return
        for request in self._pending.unproposed(_RELAYED_REQUESTS, heard_before_ns=heard_before_ns):
            self._relay(request, out, now_ns=now_ns)

    def fetch_bodies(self, out: Outbox) -> None:
        """Ask for batches that the view re-proposes and we do not hold."""
        if missing := self._ordering.missing_bodies():
            out.broadcast(FetchBodies(tuple(missing[:_FETCHED_BODIES])))

    def on_fetch_bodies(self, sender: ReplicaId, message: FetchBodies, out: Outbox) -> None:
        """Serve bodies from the log or the archive."""
        found: list[Batch] = []
        size = 0
        for digest in message.digests[:_FETCHED_BODIES]:
            batch = self._ordering.find_body(digest) or self._execution.archived_body(digest)
            if batch is not None and (not found or size + batch.size <= self._context.parameters.transfer_bytes_max):
                found.append(batch)
                size += batch.size
        out.send(sender, Bodies(tuple(found)))
