"""The amnesia guard: a replica that restarted signs nothing until it knows what it said before (DESIGN §4).

**Asking.** Every start but the very first begins *mute*: the replica executes as a learner and asks all peers with
QUERY-STABLE.  Once quorum - 1 of them answered, and all did or a short grace is over, it speaks again, unless an answer
returns a statement of its own that its log lacks.  Votes are returned as it signed them, so a liar can hide some but
invent none: no lie makes an amnesiac of a replica that lost nothing.  Answers need no signature, so that a cluster of
which every replica restarts at once is not silent for ever.  Who answers late is still heard: amnesia found then
silences the replica again.  What it learns while mute tells nothing of what it said: `Asked` keeps, for
starts that follow before the answers came, what it knew when it fell mute.

**Amnesia.** No log where there should be one, or a returned statement that the log lacks.  It needs bounds on what it
may have signed, from the answers of a *quorum* of others, R, in two steps.  Let at most f replicas be Byzantine.

*Sequence numbers.*  It signed votes up to S + L only, S its stable checkpoint, or that of a view it was in.  Batch S
was committed by a quorum, of which one member k is correct and in R (two quorums share f + 1).  k signed that COMMIT
inside its own watermarks: S <= S_k + L, and k's stable checkpoint never falls.  Certificates prove what is reported, so
with M the highest in R all lies at or below H = M + 2 L.  Deviation (TOCS'02 §4.3.2: H_M = c_M + L with c_M an
estimate from unproven claims): the second L buys a bound that no liar can raise.  Beyond a stable checkpoint at H
nothing it said matters: no vote at or below is ever cast again, and its VIEW-CHANGEs begin there.

*Views.*  Call a view anchored if a quorum sent VIEW-CHANGEs for it or higher ones.  A correct member of R is in it, and
says so, or higher; so the quorum-th smallest claim, B, is at or above every anchored view, however high a liar's claim
is, and once the correct peers answered it is no higher than where one of them is.  A correct replica enters anchored
views only, and leaves: from an anchored view by a time-out, proof or escort, to the next view whose primary it does
not hold proof against and that is not the escorted replica's; or to the least of f + 1 higher views, in one of which a
correct replica is already.  By induction over these steps no correct replica is above B + f + 2: of f + 2 consecutive
views at most f + 1 are skipped.  That is the bound V.

**Rejoining.**  It is silent until a stable checkpoint at or above H is certified, its own state is there, and it is in
a view above V: by the NEW-VIEW for it, or by joining f + 1 VIEW-CHANGEs.  Its old votes and VIEW-CHANGEs, in whoever's
hands, are for other positions than all it says from then on, so they neither contradict it nor stand in for it.
Rejected: to send the VIEW-CHANGE for V + 1 on its own, since then views of correct replicas are no longer bounded by
anchored ones and the next amnesiac has no bound; and to vote in the current view above H, since an old VIEW-CHANGE of
its own for a higher view, without what it commits now, could still begin that view.  Instead its peers help: `Escort`.

Counted as faulty until then, it takes part in no quorum; with it, f replicas may be faulty.  A rollback is noticed if
one of quorum - 1 answers shows it, or a later one; what only unreachable replicas saw of it nobody can know.
"""

from __future__ import annotations

from dataclasses import dataclass

from bft.core import effects
from bft.core.checkpoints import Checkpoints
from bft.core.context import Context, CurrentView
from bft.core.effects import Outbox, Rejection
from bft.core.execution import Execution
from bft.core.messages import (
    Authenticated,
    Checkpoint,
    Commit,
    Prepare,
    PrePrepare,
    QueryStable,
    ReplicaId,
    ReplyStable,
    Seq,
    Statement,
    View,
    ViewChange,
)
from bft.core.ordering import Ordering
from bft.core.witness import Witness

_GRACE_INTERVALS = 2  # status intervals for which even the last peers are waited for


@dataclass(slots=True)
class Answer:
    """What one peer reported first; later it can only be higher."""

    view: View
    stable: Seq


class Rejoining:
    """The only writer of ``Context.voice``; reads the other parts."""

    def __init__(
        self,
        context: Context,
        current: CurrentView,
        *,
        ordering: Ordering,
        execution: Execution,
        checkpoints: Checkpoints,
        witness: Witness,
    ) -> None:
        self._context = context
        self._current = current
        self._ordering = ordering
        self._execution = execution
        self._checkpoints = checkpoints
        self._witness = witness
        self._nonce: int | None = None
        self._began_ns = 0  # monotonic
        self._answers: dict[ReplicaId, Answer] = {}
        self._answered_ns: dict[ReplicaId, int] = {}  # when each peer's question was last answered, monotonic
        self._at_start: effects.Asked | None = None  # when we fell mute, maybe some starts ago
        self._spoke_in: View | None = None  # the view in which we spoke again
        self._left: effects.Asked | None = None  # what we knew to have said when we left that view
        self._returned_view: View = 0  # the highest of our statements that peers returned
        self.amnesiac = False
        self.until: Seq = 0  # H; 0 until a quorum of peers answered
        self.above: View = 0  # V

    # --- starting

    def restore(self, record: effects.Asked | effects.Silenced | effects.Spoke) -> None:
        """Recovery: a crash does not end the silence."""
        match record:
            case effects.Asked():
                self._at_start = record
            case effects.Silenced(until, above):
                self.amnesiac, self.until, self.above = True, until, above
            case effects.Spoke():
                self.amnesiac, self.until, self.above, self._at_start = False, 0, 0, None

    def begin(self, nonce: int | None, out: Outbox, *, amnesiac: bool, now_ns: int) -> None:
        """Fall mute and ask, unless this is the first start of all."""
        if nonce is None:
            return
        self._nonce, self._began_ns = nonce, now_ns
        self._context.voice.mute = True
        if amnesiac and not self.amnesiac:
            self._forget(out)
        elif self._at_start is None and not self.amnesiac:
            self._at_start = self._remember()
            out.persist(self._at_start)

    def ask(self, out: Outbox) -> None:
        """Ask who has not answered; while silent tell all how long we shall be."""
        if self._nonce is None or (self._unanswered == 0 and not self.amnesiac):
            return
        for peer in range(self._context.quorums.n):
            if peer != self._context.id and (self.amnesiac or peer not in self._answers):
                out.send(peer, QueryStable(0 if peer in self._answers else self._nonce, self.until, self.above))

    # --- answering

    def answer(self, sender: ReplicaId, query: QueryStable, out: Outbox, *, now_ns: int) -> Rejection | None:
        """What we hold of the asker's statements; who lost its own disk has nothing to say.

        Not more often than twice a status interval: who did not hear it asks again.
        """
        if self.amnesiac:
            return Rejection.UNANSWERABLE
        interval_ns = self._context.parameters.status_interval_ns // 2
        answered_ns = self._answered_ns.get(sender)
        if query.nonce == 0 or (answered_ns is not None and now_ns < answered_ns + interval_ns):
            return None
        self._answered_ns[sender] = now_ns
        window = self._context.parameters.window
        votes = [vote for kind in (PrePrepare, Prepare, Commit) for vote in self._witness.said(sender, kind)]
        latest = sorted(votes, key=lambda vote: (vote.message.view, vote.message.seq))[-3 * window :]
        checkpoints = self._witness.said(sender, Checkpoint)[-window:]
        view_changes = sorted(self._witness.said(sender, ViewChange), key=lambda vote: vote.message.view)[-1:]
        returned = ((*latest, *checkpoints), tuple(view_changes))
        out.send(sender, ReplyStable(query.nonce, self._current.view, self._checkpoints.stable, *returned))
        return None

    # --- hearing

    def expects(self, sender: ReplicaId) -> bool:
        """Whether this peer was asked and has not answered."""
        return self._nonce is not None and sender not in self._answers

    def on_reply(self, sender: ReplicaId, reply: ReplyStable, out: Outbox) -> Rejection | None:
        """One peer's answer; the first of each counts."""
        if self._nonce is None or reply.nonce != self._nonce or sender == self._context.id:
            return Rejection.NOT_WANTED
        if sender in self._answers:
            return Rejection.DUPLICATE
        returned: list[Authenticated[Statement]] = [*reply.votes, *reply.view_changes]
        if any(statement.message.replica != self._context.id for statement in returned):
            return Rejection.WRONG_SIGNER
        self._answers[sender] = Answer(reply.view, reply.stable.seq)
        views = [s.message.view for s in returned if not isinstance(s.message, Checkpoint)]
        self._returned_view = max(self._returned_view, max(views, default=0))
        if not self.amnesiac and any(self._lacks(statement.message) for statement in returned):
            self._forget(out)
        if self.amnesiac:
            self._bound(out)
        return None

    def _lacks(self, said: Statement) -> bool:
        """Whether our log, a prefix in time of what it ought to be, lacks this statement of ours.

        As it was at the start, for what we said before it: a stable checkpoint that peers showed us since then covers
        what we voted on below it, and a view that we entered what we said in those below, but not the loss.
        """
        memory = self._memory_of(said)
        match said:
            case Checkpoint():
                return said.seq > memory.checkpoint
            case ViewChange():
                return said.view > memory.view
            case _ if said.view != memory.view:
                return said.view > memory.view  # what we said in views that we left came before that record
            case PrePrepare():
                return said.seq > memory.low and said.seq not in memory.proposed
            case Prepare():
                return said.seq > memory.low and said.seq not in memory.prepared
            case Commit():
                return said.seq > memory.low and said.seq not in memory.committed

    def _memory_of(self, said: Statement) -> effects.Asked:
        """What we knew to have said at the last moment at which we could have said this."""
        if self._at_start is not None:
            if self._spoke_in is None:
                return self._at_start
            if not isinstance(said, Checkpoint) and said.view < self._spoke_in:
                return self._at_start
        if self._left is not None and not isinstance(said, Checkpoint | ViewChange) and said.view == self._left.view:
            return self._left
        return self._remember()

    def leave_view(self) -> None:
        """We are about to leave the view that we are in: it is known for the last time what we said there."""
        if self._left is None and self._current.active and self._spoke_in == self._current.view:
            self._left = self._remember()

    def _remember(self) -> effects.Asked:
        """Everything that we know to have said and that `_lacks` looks for."""
        me, low = self._context.id, self._ordering.log.low
        slots = list(self._ordering.log) if self._current.active else []
        return effects.Asked(
            self._current.view,
            low,
            max(low, self._checkpoints.highest_of(me)),
            proposed=frozenset(slot.seq for slot in slots if slot.header is not None),
            prepared=frozenset(slot.seq for slot in slots if me in slot.prepares),
            committed=frozenset(slot.seq for slot in slots if me in slot.commits),
        )

    def _forget(self, out: Outbox) -> None:
        """We said things that we do not know any more."""
        self.amnesiac = True
        self._context.voice.mute = True
        self.until = self.above = 0
        out.persist(effects.Silenced(0, 0))
        out.note(effects.FellSilent(0, 0))

    def _bound(self, out: Outbox) -> None:
        """H and V from a quorum of answers; more answers can only lower V."""
        quorums = self._context.quorums
        if len(self._answers) < quorums.quorum:
            return
        until, above = self.until, self.above
        if until == 0:
            highest = max(self._checkpoints.stable.seq, *(answer.stable for answer in self._answers.values()))
            until = highest + 2 * self._context.parameters.window
        claim = sorted(answer.view for answer in self._answers.values())[quorums.quorum - 1]
        bound = max(claim + quorums.f + 2, self._returned_view)
        above = bound if self.until == 0 else min(above, bound)
        if self.until == 0:
            above = max(above, self._current.view)
        if (until, above) != (self.until, self.above):
            self.until, self.above = until, above
            out.persist(effects.Silenced(until, above))
            out.note(effects.FellSilent(until, above))

    # --- speaking

    @property
    def state(self) -> str:
        """For people; empty while we speak."""
        if not self._context.voice.mute:
            return ""
        if not self.amnesiac:
            return f"asking what it said before: {len(self._answers)} peers answered"
        if self.until == 0:
            needed = self._context.quorums.quorum
            return f"lost its disk: {len(self._answers)} of {needed} peers told what it may have said"
        return f"lost its disk: silent until checkpoint {self.until} and a view above {self.above}"

    def may_speak(self, *, view: View, active: bool, now_ns: int) -> bool:
        """Whether nothing that we would say in this view can contradict what we said."""
        if not self._context.voice.mute:
            return True
        if self.amnesiac:
            return self._past() and active and view > self.above
        if len(self._answers) < self._context.quorums.quorum - 1:
            return False
        grace_ns = _GRACE_INTERVALS * self._context.parameters.status_interval_ns
        return self._unanswered == 0 or now_ns >= self._began_ns + grace_ns

    def speak(self, out: Outbox) -> None:
        """Mute no more."""
        out.persist(effects.Spoke())
        out.note(effects.Rejoined(self.amnesiac))
        if self.amnesiac:  # what it lost is covered: no late answer need tell it
            self._at_start = self._spoke_in = self._left = None
        else:
            self._spoke_in = self._current.view
        self.amnesiac = False
        self._context.voice.mute = False

    def _past(self) -> bool:
        """A stable checkpoint covers all we may have voted on, and we hold its state."""
        stable = self._checkpoints.stable.seq
        return 0 < self.until <= stable and self._execution.last_executed >= self.until

    @property
    def _unanswered(self) -> int:
        return self._context.quorums.n - 1 - len(self._answers)
