"""A view change as a favour: for a replica that is alone in one, and can come back only with a NEW-VIEW.

Whoever left a view alone (its link was down for one time-out, it was killed while the others were changing views) has
promised to say nothing in it any more.  The others need no view change, so it waits, correct and useless, and they
have no fault to spare.  Rejected: to let it return to the view that it left, for its VIEW-CHANGE, in whoever's hands,
says what it had prepared when it sent it.

The primary alone grants the favour: it leaves its view, and a primary that left takes everybody along at once
(`ViewChanges.primary_left`).  Were each replica to decide by its own clock, a liar that asks some of them could draw
these out of the view and leave them there.

An asker may lie and ask for ever; what that costs is bounded:

- it waits ``courtesy_wait_ns``, and twice as long each time, up to ``courtesy_doublings_max``; only as much time as the
  longest wait spent in views together with us resets it.  Everybody keeps the account, for the primary changes: it
  passes the asker's VIEW-CHANGE on before it leaves;
- the view is the next one, whatever the asker wants, and one that wants a view where no correct replica can be gets
  nothing: they are at most f + 2 above a view that a quorum began (see `rejoining`);
- who is proven guilty gets nothing, nor does one whose STATUS does not come, which would not hear the NEW-VIEW either.

A faulty primary may refuse.  That costs no liveness: then f faults and the asker make a time-out, and a time-out
brings the asker back.
"""

from __future__ import annotations

from dataclasses import dataclass

from bft.core.context import Context, CurrentView
from bft.core.evidence import EvidenceBook
from bft.core.messages import Authenticated, ReplicaId, Status, View, ViewChange
from bft.core.view_change import ViewChanges

_HEARD_INTERVALS = 3  # idle status intervals after which an asker counts as gone


@dataclass(slots=True)
class Account:
    """What a peer asked for and was granted; times monotonic."""

    heard_ns: int
    since_ns: int | None = None  # it asks, without pause
    doublings: int = 0
    granted_in: View | None = None  # the view that was left for it last
    together_ns: int = 0  # spent in normal operation since the last favour


class Courtesy:
    """One account a peer."""

    def __init__(
        self, context: Context, current: CurrentView, *, view_changes: ViewChanges, guilty: EvidenceBook
    ) -> None:
        self._context = context
        self._current = current
        self._view_changes = view_changes
        self._guilty = guilty
        self._accounts: dict[ReplicaId, Account] = {}

    def on_status(self, sender: ReplicaId, status: Status, *, now_ns: int) -> None:
        """Note whether the sender asks, or takes part."""
        parameters = self._context.parameters
        account = self._accounts.setdefault(sender, Account(now_ns))
        pause_ns = now_ns - account.heard_ns
        account.heard_ns = now_ns
        if pause_ns > _HEARD_INTERVALS * parameters.idle_status_interval_ns:
            account.since_ns = None
            pause_ns = 0
        if status.active or self._asked(sender) is None:
            account.since_ns = None
        elif account.since_ns is None:
            account.since_ns = now_ns
        if status.active:
            account.together_ns += pause_ns
            if account.together_ns >= parameters.courtesy_wait_ns << parameters.courtesy_doublings_max:
                account.doublings = account.together_ns = 0

    def to_grant(self, *, now_ns: int) -> Authenticated[ViewChange] | None:
        """As primary, the VIEW-CHANGE of a peer that waited long enough: pass it on, and leave the view."""
        if not self._current.active or self._context.quorums.primary(self._current.view) != self._context.id:
            return None
        parameters = self._context.parameters
        for asker, account in sorted(self._accounts.items()):
            wait_ns = parameters.courtesy_wait_ns << account.doublings
            gone = now_ns - account.heard_ns > _HEARD_INTERVALS * parameters.idle_status_interval_ns
            if account.since_ns is not None and now_ns - account.since_ns >= wait_ns and not gone:
                asked = self._asked(asker)
                if asked is not None:
                    self._charge(account)
                    return asked
        return None

    def on_passed_on(self, sender: ReplicaId, vote: ViewChange, *, now_ns: int) -> None:
        """The primary passes on a VIEW-CHANGE of another: it grants it the favour."""
        primary = self._context.quorums.primary(self._current.view)
        from_primary = self._current.active and sender == primary and vote.replica not in (primary, self._context.id)
        if from_primary and self._asked(vote.replica) is not None:
            account = self._accounts.setdefault(vote.replica, Account(now_ns))
            if account.granted_in != self._current.view:  # else a faulty primary could make it wait for ever
                self._charge(account)

    def _charge(self, account: Account) -> None:
        account.granted_in = self._current.view
        account.since_ns = None
        account.together_ns = 0
        account.doublings = min(account.doublings + 1, self._context.parameters.courtesy_doublings_max)

    def _asked(self, peer: ReplicaId) -> Authenticated[ViewChange] | None:
        """Its valid VIEW-CHANGE for a view above ours in which it can be if it is correct."""
        vote = self._view_changes.vote_of(peer)
        view = self._current.view
        if vote is None or peer in self._guilty or not view < vote.message.view <= view + self._context.quorums.f + 2:
            return None
        return vote
