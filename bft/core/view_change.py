"""Leaving a view and entering the next (OSDI'99 §4.4, TOCS'02 §2.3.5): when, with what back-off, on whose word."""

from __future__ import annotations

from bft.core import effects, new_view
from bft.core.context import Context, CurrentView
from bft.core.effects import Outbox, Rejection, ViewChangeCause
from bft.core.evidence import EvidenceBook, evidence_of
from bft.core.messages import (
    Authenticated,
    CheckpointCertificate,
    Evidence,
    NewView,
    PreparedCertificate,
    ReplicaId,
    View,
    ViewChange,
)

_BATCHES_PER_SHRINK = 32  # executed in a row before a doubled time-out is halved again


class ViewChanges:
    """The only writer of the current view."""

    def __init__(self, context: Context, current: CurrentView, guilty: EvidenceBook) -> None:
        self._context = context
        self._current = current
        self._guilty = guilty
        self._votes: dict[ReplicaId, Authenticated[ViewChange]] = {}  # one a sender: that of its highest view
        self._doublings = 0
        self._progressed = True  # since we last left a view; the attempts that follow each other without it failed
        self._executed_in_row = 0
        self.own: Authenticated[ViewChange] | None = None  # resent verbatim while we wait
        self.entered: Authenticated[NewView] | None = None  # by which we entered the current view, if not view 0
        self.deadline_ns: int | None = None  # NEW-VIEW expected until then, monotonic

    # --- time-outs

    def timeout_ns(self, base_ns: int) -> int:
        """The base, doubled for each failed attempt so far, capped."""
        return base_ns << min(self._doublings, self._context.parameters.timeout_doublings_max)

    def progressed(self) -> None:
        """A batch with requests was executed in normal operation: shrink the time-outs back, step by step."""
        self._progressed = True
        self._executed_in_row += 1
        if self._executed_in_row >= _BATCHES_PER_SHRINK:
            self._executed_in_row = 0
            self._doublings = max(0, self._doublings - 1)

    def postpone(self, by_ns: int) -> None:
        """We were paused this long: so much more time for the NEW-VIEW."""
        if self.deadline_ns is not None:
            self.deadline_ns += by_ns

    # --- leaving

    def next_view(self, after: View) -> View:
        """The next view whose primary is not proven faulty."""
        view = after + 1
        while self._context.quorums.primary(view) in self._guilty and view <= after + self._context.quorums.n:
            view += 1
        return view

    def leave(
        self,
        view: View,
        cause: ViewChangeCause,
        stable: CheckpointCertificate,
        prepared: tuple[PreparedCertificate, ...],
        out: Outbox,
    ) -> None:
        """Enter the view change to ``view``: from here on we say nothing in any lower view."""
        if not self._progressed:
            self._doublings = min(self._doublings + 1, self._context.parameters.timeout_doublings_max)
        self._progressed = False
        self._executed_in_row = 0
        self._current.view, self._current.active = view, False
        self.entered = None
        self.deadline_ns = None
        self.own = self._context.sign(ViewChange(view, stable, prepared, self._context.id))
        self._votes[self._context.id] = self.own
        out.persist(effects.LeftView(self.own))
        out.broadcast(self.own)
        out.note(effects.ViewChangeStarted(view, cause))

    def on_view_change(self, vote: Authenticated[ViewChange]) -> Evidence | Rejection | None:
        """A replica's VIEW-CHANGE, from itself or relayed; None: counted."""
        message = vote.message
        if message.replica == self._context.id:
            return Rejection.NOT_OURS
        if message.view < self._current.view or (message.view == self._current.view and self._current.active):
            return Rejection.STALE
        known = self._votes.get(message.replica)
        if known is not None and message.view == known.message.view:
            return evidence_of(known, vote) or Rejection.DUPLICATE
        if known is not None and message.view < known.message.view:
            return Rejection.STALE
        if not new_view.valid_view_change(message, self._context.quorums, self._context.parameters):
            return Rejection.BAD_CERTIFICATE
        self._votes[message.replica] = vote
        return None

    def view_to_join(self) -> View | None:
        """The smallest view above ours once f+1 replicas are above ours: at least one correct replica left."""
        if len(self._votes) < self._context.quorums.weak:
            return None
        higher = [v.message.view for v in self._votes.values() if v.message.view > self._current.view]
        return min(higher) if len(higher) >= self._context.quorums.weak else None

    def vote_of(self, replica: ReplicaId) -> Authenticated[ViewChange] | None:
        """Its valid VIEW-CHANGE for the highest view, if that is above what we entered last."""
        return self._votes.get(replica)

    def primary_left(self) -> Authenticated[ViewChange] | None:
        """The VIEW-CHANGE with which the primary left the view that we are in: to wait for it would be in vain.

        A faulty primary ends with it its own view, as with silence; passed on, it ends it for all.
        """
        if not self._current.active or self._context.voice.mute:
            return None
        vote = self._votes.get(self._context.quorums.primary(self._current.view))
        return vote if vote is not None and vote.message.view > self._current.view else None

    def arm(self, now_ns: int) -> None:
        """The new-view timer runs from a quorum of VIEW-CHANGEs: before that the others may still be timing out."""
        if self._current.active or self.deadline_ns is not None or self._context.voice.mute:
            return
        supporters = sum(v.message.view >= self._current.view for v in self._votes.values())
        if supporters >= self._context.quorums.quorum:
            self.deadline_ns = now_ns + self.timeout_ns(self._context.parameters.view_change_timeout_ns)

    # --- entering

    def make_new_view(self) -> Authenticated[NewView] | None:
        """As primary of the view we wait for, the NEW-VIEW once a quorum of VIEW-CHANGEs is there."""
        view, quorums = self._current.view, self._context.quorums
        if self._current.active or self._context.voice.mute or quorums.primary(view) != self._context.id:
            return None
        votes = [v for _, v in sorted(self._votes.items()) if v.message.view == view]
        if len(votes) < quorums.quorum:
            return None
        chosen = tuple(votes[: quorums.quorum])
        sign = self._context.sign
        pre_prepares = tuple(sign(h) for h in new_view.headers(view, [v.message for v in chosen], quorums))
        return sign(NewView(view, chosen, pre_prepares, self._context.id))

    def reject_new_view(self, message: NewView) -> Rejection | None:
        """Why this NEW-VIEW does not begin a view for us; the first accepted for a view binds."""
        if message.view < self._current.view or (message.view == self._current.view and self._current.active):
            return Rejection.STALE
        if not new_view.valid_new_view(message, self._context.quorums, self._context.parameters):
            return Rejection.BAD_NEW_VIEW
        return None

    def enter(self, entered: Authenticated[NewView], out: Outbox) -> None:
        """Normal operation in the view of a NEW-VIEW found valid."""
        view = entered.message.view
        self._current.view, self._current.active = view, True
        self.own = None
        self.entered = entered
        self.deadline_ns = None
        for sender in [s for s, v in self._votes.items() if v.message.view <= view]:
            del self._votes[sender]
        out.persist(effects.EnteredView(entered))
        out.note(effects.ViewEntered(view, self._context.quorums.primary(view)))

    def restore(self, record: effects.LeftView | effects.EnteredView) -> None:
        """Recovery: where we were."""
        if isinstance(record, effects.LeftView):
            vote = record.view_change
            self._current.view, self._current.active = vote.message.view, False
            self.own, self.entered = vote, None
            self._votes[self._context.id] = vote
        else:
            self._current.view, self._current.active = record.new_view.message.view, True
            self.own, self.entered = None, record.new_view
            self._votes.pop(self._context.id, None)
