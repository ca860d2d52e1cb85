"""The replica: ``step(event, now) -> effects``.  Dispatch, and every interplay between the parts; nothing else is here.

The parts call down and report up by return value; none of them holds the replica.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from bft.core import effects, recovery
from bft.core.effects import Effect, Outbox, Record, Rejection, ViewChangeCause
from bft.core.events import (
    ClientRequest,
    Event,
    Instant,
    Received,
    SnapshotSaved,
    Start,
    StateDamaged,
    Tick,
)
from bft.core.evidence import proves
from bft.core.invariants import invariant
from bft.core.messages import (
    NULL_DIGEST,
    Authenticated,
    Batch,
    Batches,
    Bodies,
    CertifiedBatch,
    Checkpoint,
    CheckpointCertificate,
    ClientKey,
    Commit,
    Digest,
    Evidence,
    FetchBatches,
    FetchBodies,
    FetchState,
    NewView,
    PeerMessage,
    Prepare,
    Proposal,
    QueryStable,
    Refusal,
    ReplicaId,
    ReplyStable,
    Request,
    Seq,
    StableCheckpoint,
    StateChunk,
    Status,
    View,
    ViewChange,
)
from bft.core.new_view import starting_checkpoint
from bft.core.parameters import Parameters
from bft.core.parts import Parts
from bft.core.ports import Admission, Application, Signer
from bft.core.timers import Timer
from bft.core.turns import Origin

_DIFFERENCES_TOLD = 4  # of a repaired state, how many are named


class Replica(Parts):
    """One PBFT replica, sans I/O: the same object runs in production, in the simulator and in scripts.

    A hostile message costs a ``Rejected`` effect, never an exception; ``InvariantViolated`` is our own bug.
    """

    def __init__(
        self,
        *,
        id: ReplicaId,  # noqa: A002 - the paper's word
        parameters: Parameters,
        signer: Signer,
        admission: Admission,
        application: Application,
    ) -> None:
        super().__init__(id=id, parameters=parameters, signer=signer, admission=admission, application=application)
        self._handlers: dict[type, Callable[..., None]] = {
            Request: self._on_request,
            Proposal: self._on_proposal,
            Prepare: self._on_prepare,
            Commit: self._on_commit,
            Checkpoint: self._on_checkpoint,
            ViewChange: self._on_view_change,
            NewView: self._on_new_view,
            Evidence: self._on_evidence,
            Status: self._on_status,
            FetchBatches: self._on_fetch_batches,
            Batches: self._on_batches,
            FetchBodies: self._on_fetch_bodies,
            Bodies: self._on_bodies,
            StableCheckpoint: self._on_stable_checkpoint,
            FetchState: self._on_fetch_state,
            StateChunk: self._on_state_chunk,
            QueryStable: self._on_query_stable,
            ReplyStable: self._on_reply_stable,
        }

    # --- the entry: `step`, or for many events at once `absorb` for each and then `settle`

    def step(self, event: Event, now: Instant) -> list[Effect]:
        """Consume one event; the effects, in order."""
        out = Outbox()
        if not self._repair.hopeless:
            self._consume(event, now, out)
            self._settle(now, out)
        return out.effects

    def absorb(self, event: Event, now: Instant) -> list[Effect]:
        """As `step`, for an event that others of one round follow: proposes nothing and arms no timer.

        `settle` must end the round.  What clients sent meanwhile then becomes one batch instead of one each.
        """
        out = Outbox()
        if not self._repair.hopeless:
            self._consume(event, now, out)
            self._change_view(now, out)
            while self._execute_next(now, out):
                pass
        return out.effects

    def settle(self, now: Instant) -> list[Effect]:
        """End a round of absorbed events."""
        out = Outbox()
        if not self._repair.hopeless:
            self._settle(now, out)
        return out.effects

    def _consume(self, event: Event, now: Instant, out: Outbox) -> None:
        self._notice_pause(now)
        match event:
            case Received():
                self._on_message(event.sender, event.message, now, out)
            case ClientRequest(request):
                self._on_request(request.message.client, request, now, out)
            case Tick():
                self._on_tick(now, out)
            case SnapshotSaved(seq):
                self._checkpoints.saved(seq)
                self._truncate(out)
            case StateDamaged():
                self._begin_repair(self.stable.root, now, out)
            case Start(nonce, amnesiac):
                self._rejoining.begin(nonce, out, amnesiac=amnesiac, now_ns=now.monotonic_ns)
                self._on_start(now, out)

    def recover(self, records: Iterable[Record], snapshot: CheckpointCertificate) -> None:
        """Before ``Start``: continue from a snapshot, which the application holds, and the log written since.

        Raises InvariantViolated when the two cannot belong together.
        """
        records = list(records)
        self._witness.recall(records)
        self._readable_from = recovery.executed_at_most(records, snapshot)
        self._execution.adopt(snapshot.seq)
        self._ordering.advance(snapshot.seq, last_executed=snapshot.seq)
        self._passed_in_recovery = recovery.replay(
            records,
            context=self._context,
            snapshot=snapshot,
            ordering=self._ordering,
            execution=self._execution,
            checkpoints=self._checkpoints,
            view_changes=self._view_changes,
            guilty=self._guilty,
            rejoining=self._rejoining,
        )
        self._guilty.note_recorded(self._execution.convictions)

    def _on_start(self, now: Instant, out: Outbox) -> None:
        for slot in self._ordering.unfinished(last_executed=self.last_executed):  # after recovery
            if slot.batch is not None:
                self._pending.add_proposed(self._owed(slot.batch, slot.seq), now_ns=now.monotonic_ns)
        for seq, root in self._passed_in_recovery:  # the vote may have been lost with the log's torn tail
            self._checkpoints.take(seq, root, out)
            self._check_stable(seq, now, out)
        self._repair_if_diverged(now, out)
        self._on_status_timeout(now, out)

    def _settle(self, now: Instant, out: Outbox) -> None:
        """Everything that has become possible, then the timers."""
        self._change_view(now, out)
        while self._execute_next(now, out) or self._propose_next(now, out):
            pass
        self._arm_timers(now)

    def _change_view(self, now: Instant, out: Outbox) -> None:
        """Leave the view with others, begin the next one, as soon as the votes are there."""
        if self._context.voice.mute and self._may_speak(self.view, now, active=self.active):
            self._speak(now, out)
        if (view := self._view_changes.view_to_join()) is not None:
            self._leave_view(self._view_changes.next_view(view - 1), ViewChangeCause.JOINED, now, out)
        elif (resignation := self._view_changes.primary_left()) is not None:
            out.broadcast(resignation)
            self._leave_view(self._view_changes.next_view(self.view), ViewChangeCause.PRIMARY_LEFT, now, out)
        if not self._current.active:
            self._view_changes.arm(now.monotonic_ns)
            if (new_view := self._view_changes.make_new_view()) is not None:
                out.broadcast(new_view)
                self._enter_view(new_view, now, out)

    def _notice_pause(self, now: Instant) -> None:
        """If our timers are long overdue it was we who did not listen (SIGSTOP, suspend): nobody else is late.

        Forgiven once in a view until something is executed: who keeps us busy must not keep us from suspecting.
        """
        due_ns = self._deadlines.earliest_ns
        if (
            due_ns is not None
            and now.monotonic_ns - due_ns > 2 * self._context.parameters.status_interval_ns
            and (position := (self.view, self.last_executed)) != self._forgiven_at
        ):
            self._forgiven_at = position
            self._patient_from_ns = now.monotonic_ns
            self._view_changes.postpone(now.monotonic_ns - due_ns)
            self._arm_timers(now)

    def _arm_timers(self, now: Instant) -> None:
        mute = self._context.voice.mute
        if self._pending or not self._current.active or self._catch_up.transferring or mute:
            soon_ns = now.monotonic_ns + self._context.parameters.status_interval_ns
            self._status_due_ns = min(self._status_due_ns, soon_ns)
        self._deadlines.arm(
            request_ns=self._request_deadline_ns(),
            new_view_ns=None if mute else self._view_changes.deadline_ns,
            status_ns=self._status_due_ns,
            transfer_ns=self._catch_up.deadline_ns,
        )

    def _request_deadline_ns(self) -> int | None:
        """When we suspect the primary; suspended during a view change, and the primary does not suspect itself."""
        if not self._current.active or not self._pending or self._ordering.is_primary or self._context.voice.mute:
            return None
        timeout_ns = self._view_changes.timeout_ns(self._context.parameters.request_timeout_ns)
        return self._pending.deadline_ns(timeout_ns, patient_from_ns=self._patient_from_ns)

    # --- dispatch

    def _on_message(self, sender: ReplicaId, message: PeerMessage, now: Instant, out: Outbox) -> None:
        inner = message.message if isinstance(message, Authenticated) else message
        handler = self._handlers.get(type(inner))
        if handler is None:
            out.reject(sender, message, Rejection.NOT_WANTED)
        else:
            handler(sender, message, now, out)
        for proof in self._witness.observe(message, sender):
            self._convict(proof, now, out)

    def _report(
        self, verdict: Evidence | Rejection | None, sender: ReplicaId, message: object, now: Instant, out: Outbox
    ) -> bool:
        """Act on a part's verdict; True if the message was taken."""
        if isinstance(verdict, Evidence):
            out.reject(sender, message, Rejection.CONFLICTING)
            self._convict(verdict, now, out)
        elif verdict is not None:
            out.reject(sender, message, verdict)
        return verdict is None

    # --- requests

    def _on_request(
        self, origin: ClientKey | ReplicaId, request: Authenticated[Request], now: Instant, out: Outbox
    ) -> None:
        """A request, from its client or relayed by a backup."""
        message = request.message
        trusted = not self._repair.under_way  # else our sessions may be wrong: say nothing of them
        if trusted and self._execution.already_executed(message):
            self._reply_again(request, origin, out)
            return
        reason = (
            Rejection.OUTSIDE_WINDOW
            if trusted and self._execution.outside_window(message)
            else self._pending.add(request, origin=origin, now_ns=now.monotonic_ns)
        )
        from_client = isinstance(origin, bytes)
        if reason is not None and reason is not Rejection.DUPLICATE:
            out.reject(origin, request, reason)
            if from_client:
                out.reply(message.client, Refusal(message.session, message.number, reason))
            return
        if from_client:
            self._retransmission.relay(request, out, now_ns=now.monotonic_ns)

    def _reply_again(self, request: Authenticated[Request], origin: Origin, out: Outbox) -> None:
        """Executed before: the client's retransmission is answered from the cache."""
        outcome = self._execution.cached(request)
        out.reject(origin if origin is not None else request.message.client, request, Rejection.ALREADY_EXECUTED)
        if outcome is None and isinstance(origin, bytes):  # not for copies that peers relay late
            outcome = self._execution.discarded(request)
        if outcome is not None:
            for reply in self._execution.replies((outcome,), view=self.view, seq=outcome.seq):
                out.reply(outcome.client, reply)

    # --- normal case

    def _on_proposal(self, sender: ReplicaId, proposal: Proposal, now: Instant, out: Outbox) -> None:
        header = proposal.header.message
        if sender != header.replica or sender != self._context.quorums.primary(header.view):
            return out.reject(sender, proposal, Rejection.NOT_PRIMARY)
        if not self._is_current(sender, proposal, view=header.view, seq=header.seq, out=out):
            return None
        wanted = self._escort.wants_batch(header.seq) or header.seq <= self._rejoining.until
        is_null = proposal.batch.digest == NULL_DIGEST  # for new views only
        empty = wanted or (not is_null and self._escort.tolerates_batch(sender, now_ns=now.monotonic_ns))
        convictions = self._execution.convictions
        verdict = self._ordering.on_proposal(proposal, out, wall_ns=now.wall_ns, convictions=convictions, empty=empty)
        if self._report(verdict, sender, proposal, now, out):
            if not (wanted or proposal.batch.requests or proposal.batch.evidence):
                self._escort.note_unasked(sender, now_ns=now.monotonic_ns)
            owed = self._owed(proposal.batch, header.seq)
            self._monitor.on_proposal(header.seq, owed, now_ns=now.monotonic_ns, patient_from_ns=self._patient_from_ns)
            self._pending.add_proposed(owed, now_ns=now.monotonic_ns)
            if self._monitor.is_slow:
                self._leave_view(self._view_changes.next_view(self.view), ViewChangeCause.SLOW_PRIMARY, now, out)
        return None

    def _propose_next(self, now: Instant, out: Outbox) -> bool:
        """As primary, propose all that is pending as soon as it is worth a batch; and proofs, for the record.

        As a favour to a silent replica, nothing at all.
        """
        may = (
            (self._pending.has_unproposed or self._guilty or self._owes_empty_batch())
            and self._current.active
            and self._ordering.is_primary
            and not self._context.voice.mute
            and self._ordering.has_room(last_executed=self.last_executed)
        )
        if not may:
            return False
        proofs = self._ordering.unrecorded(
            self._guilty, last_executed=self.last_executed, convictions=self._execution.convictions
        )
        if not (self._is_worth_a_batch() or proofs or self._owes_empty_batch()):
            return False
        self._ordering.propose(self._next_batch(proofs, now), out)
        return True

    def _is_worth_a_batch(self) -> bool:
        count = self._pending.unproposed_count
        return count > 0 and self._ordering.is_worth_a_batch(count, last_executed=self.last_executed)

    def _next_batch(self, proofs: tuple[Evidence, ...], now: Instant) -> Batch:
        return Batch(now.wall_ns, self._pending.take(), proofs)

    def _execute_next(self, now: Instant, out: Outbox) -> bool:
        """Execute the next batch if it committed here."""
        certified = self._ordering.certified(self._execution.last_executed + 1)
        if certified is None or self._repair.under_way:
            return False
        self._execute(certified, now, out)
        return True

    def _execute(self, certified: CertifiedBatch, now: Instant, out: Outbox) -> None:
        """Through the gate; answer the clients; take the checkpoint if one is due."""
        executed = self._execution.execute(certified)
        seq = certified.seq
        for request in certified.batch.requests[: len(executed.outcomes)]:
            self._pending.remove(request.message.id, now_ns=now.monotonic_ns)
        self._pending.put_back(certified.batch.requests[len(executed.outcomes) :], now_ns=now.monotonic_ns)
        for reply in self._execution.replies(executed.outcomes, view=self.view, seq=seq):
            out.reply(reply.outcome.client, reply)
        self._monitor.on_executed(seq, now_ns=now.monotonic_ns)
        out.note(effects.Executed(seq, certified.view, certified.batch, executed.operations))
        for accused in executed.convicted:
            out.note(effects.Convicted(accused, seq))
        if executed.operations and self.active:
            self._view_changes.progressed()
        if seq % self._context.parameters.checkpoint_interval == 0:
            self._checkpoints.take(seq, self._execution.checkpoint(), out)
            self._repair_if_diverged(now, out)
            self._execution.trim_archive(self.stable.seq)
            self._state_server.release(min(seq, self.stable.seq), now_ns=now.monotonic_ns)
            self._check_stable(seq, now, out)

    def _on_prepare(self, sender: ReplicaId, vote: Authenticated[Prepare], now: Instant, out: Outbox) -> None:
        if self._is_current_vote(sender, vote, out):
            self._report(self._ordering.on_prepare(vote, out), sender, vote, now, out)

    def _on_commit(self, sender: ReplicaId, vote: Authenticated[Commit], now: Instant, out: Outbox) -> None:
        if self._is_current_vote(sender, vote, out):
            self._report(self._ordering.on_commit(vote, out), sender, vote, now, out)

    def _is_current_vote(
        self, sender: ReplicaId, vote: Authenticated[Prepare] | Authenticated[Commit], out: Outbox
    ) -> bool:
        if vote.message.replica != sender:
            out.reject(sender, vote, Rejection.WRONG_SIGNER)
            return False
        return self._is_current(sender, vote, view=vote.message.view, seq=vote.message.seq, out=out)

    def _is_current(self, sender: ReplicaId, message: PeerMessage, *, view: View, seq: Seq, out: Outbox) -> bool:
        """For this view and between the watermarks; what is early is held, what is late rejected."""
        current, log = self._current, self._ordering.log
        if view < current.view or seq <= log.low:
            out.reject(sender, message, Rejection.STALE)
            return False
        if view > current.view or not current.active or seq > log.high:
            self._held.hold(sender, message)
            return False
        return True

    def _owed(self, batch: Batch, seq: Seq) -> list[Authenticated[Request]]:
        """Requests of an accepted batch whose execution is still owed."""
        if seq <= self.last_executed:
            return []
        return [r for r in batch.requests if not self._execution.already_executed(r.message)]

    # --- checkpoints

    def _on_checkpoint(self, sender: ReplicaId, vote: Authenticated[Checkpoint], now: Instant, out: Outbox) -> None:
        if vote.message.replica != sender:
            return out.reject(sender, vote, Rejection.WRONG_SIGNER)
        if self._report(self._checkpoints.on_checkpoint(vote), sender, vote, now, out):
            self._check_stable(vote.message.seq, now, out)
        if self._checkpoints.differs(vote.message):
            self._catch_up.compare_batches(sender, vote.message.seq, out)
        return None

    def _check_stable(self, seq: Seq, now: Instant, out: Outbox) -> None:
        certificate = self._checkpoints.newly_stable(seq)
        if certificate is not None:
            self._on_stable(certificate, now, out)

    def _on_stable_checkpoint(self, sender: ReplicaId, message: StableCheckpoint, now: Instant, out: Outbox) -> None:
        certificate = message.certificate
        if certificate.seq <= self.stable.seq:
            out.reject(sender, message, Rejection.STALE)
        elif not self._proves_stable(certificate):
            out.reject(sender, message, Rejection.BAD_CERTIFICATE)
        else:
            self._on_stable(certificate, now, out)

    def _proves_stable(self, certificate: CheckpointCertificate) -> bool:
        on_boundary = certificate.seq % self._context.parameters.checkpoint_interval == 0
        return on_boundary and self._context.quorums.proves_stable(certificate)

    def _on_stable(self, certificate: CheckpointCertificate, now: Instant, out: Outbox) -> None:
        """A proven stable checkpoint: what was beyond the old window may now be in it."""
        self._adopt_stable(certificate, now, out)
        self._release_held(now, out)

    def _adopt_stable(self, certificate: CheckpointCertificate, now: Instant, out: Outbox) -> None:
        """The window moves, whether or not we have executed that far; catch-up brings the rest."""
        if not self._checkpoints.adopt(certificate, out):
            return
        passed = self._ordering.advance(certificate.seq, last_executed=self.last_executed)
        self._pending.pass_over(passed, now_ns=now.monotonic_ns)
        self._execution.trim_archive(certificate.seq)
        self._state_server.release(certificate.seq, now_ns=now.monotonic_ns)
        self._truncate(out)
        self._repair_if_diverged(now, out)

    def _repair_if_diverged(self, now: Instant, out: Outbox) -> None:
        """Our state at a certified checkpoint is not what a quorum computed: we must not go on from it."""
        if (roots := self._checkpoints.diverged()) is not None:
            self._begin_repair(roots[0], now, out)

    def _begin_repair(self, ours: Digest, now: Instant, out: Outbox) -> None:
        """Fetch the state of the stable checkpoint in the place of our own, unless that helped too short a time ago.

        Until it is here we vote on order as ever, which takes no state, and execute, answer and certify nothing.
        """
        if self._repair.under_way:
            return None
        self._checkpoints.distrust()
        if not self._repair.begin(self.stable.seq):
            return out.note(effects.CannotRepair(self.stable.seq, self._repair.last))
        held = self._catch_up.begin_repair(self.stable, out, now_ns=now.monotonic_ns)
        out.note(effects.Diverged(self.stable.seq, held if ours == self.stable.root else ours, self.stable.root))
        self._finish_transfer(now, out)
        return None

    def _truncate(self, out: Outbox) -> None:
        if (seq := self._checkpoints.truncatable()) is not None:
            out.note(effects.TruncateLog(seq))

    # --- view changes

    def _on_view_change(self, sender: ReplicaId, vote: Authenticated[ViewChange], now: Instant, out: Outbox) -> None:
        self._report(self._view_changes.on_view_change(vote), sender, vote, now, out)
        self._courtesy.on_passed_on(sender, vote.message, now_ns=now.monotonic_ns)

    def _on_new_view(self, sender: ReplicaId, new_view: Authenticated[NewView], now: Instant, out: Outbox) -> None:
        reason = self._view_changes.reject_new_view(new_view.message)
        if self._report(reason, sender, new_view, now, out):
            self._enter_view(new_view, now, out)

    def _leave_view(self, view: View, cause: ViewChangeCause, now: Instant, out: Outbox) -> None:
        """Say so; while mute we follow the others instead, unless nothing we said can lie in that view."""
        if self._context.voice.mute:
            if not self._rejoining.amnesiac or not self._may_speak(view, now, active=True):
                return
            self._rejoining.speak(out)
        self._rejoining.leave_view()
        prepared = self._ordering.prepared_certificates()
        self._view_changes.leave(view, cause, self.stable, prepared, out)
        self._monitor.leave_view(as_slow=cause is ViewChangeCause.SLOW_PRIMARY)
        self._ordering.leave_view()

    def _enter_view(self, new_view: Authenticated[NewView], now: Instant, out: Outbox) -> None:
        """Begin the view of a valid NEW-VIEW: its headers first, then everybody's early messages."""
        message = new_view.message
        # First on disk too: on replay it moves the window to where this view's headers are.
        self._adopt_stable(starting_checkpoint([v.message for v in message.view_changes]), now, out)
        self._rejoining.leave_view()
        self._view_changes.enter(new_view, out)
        self._monitor.leave_view(as_slow=False)
        self._witness.keep(message)
        self._ordering.leave_view()
        executed: dict[Digest, Batch] = {}
        for header in message.pre_prepares:
            if (certified := self._execution.archived(header.message.seq)) is not None:
                same = certified.batch.digest == header.message.digest
                invariant(same, f"new view {message.view} re-proposes another batch at executed {header.message.seq}")
                executed[certified.batch.digest] = certified.batch
        self._pending.enter_view(now.monotonic_ns)
        self._ordering.enter_view(message.pre_prepares, executed, out)
        for slot in self._ordering.unfinished(last_executed=self.last_executed):
            if slot.batch is not None:
                self._pending.add_proposed(self._owed(slot.batch, slot.seq), now_ns=now.monotonic_ns)
        self._retransmission.fetch_bodies(out)
        self._retransmission.relay_requests(out, heard_before_ns=now.monotonic_ns, now_ns=now.monotonic_ns)
        self._release_held(now, out)
        if self.active and self.view == message.view:
            self._leave_guilty_primary(now, out)

    def _leave_guilty_primary(self, now: Instant, out: Outbox) -> None:
        """A view led by a proven equivocator is left at once, DESIGN §4."""
        if self.primary in self._guilty:
            self._leave_view(self._view_changes.next_view(self.view), ViewChangeCause.EQUIVOCATION, now, out)

    def _release_held(self, now: Instant, out: Outbox) -> None:
        for sender, message in self._held.release():
            self._on_message(sender, message, now, out)

    def _on_evidence(self, sender: ReplicaId, evidence: Evidence, now: Instant, out: Outbox) -> None:
        if not proves(evidence, self.quorums, self._context.parameters):
            out.reject(sender, evidence, Rejection.NOT_EVIDENCE)
        elif self._guilty.holds(evidence.accused):
            out.reject(sender, evidence, Rejection.DUPLICATE)
        else:
            self._convict(evidence, now, out)

    def _convict(self, evidence: Evidence, now: Instant, out: Outbox) -> None:
        """Keep the proof, spread it, act on it.

        Not what proves nothing to others, as a forged VIEW-CHANGE does: they refuse a batch that puts it on record.
        """
        if self._guilty.holds(evidence.accused) or not proves(evidence, self.quorums, self._context.parameters):
            return
        self._guilty.add(evidence)
        out.persist(effects.Proven(evidence))
        out.broadcast(evidence)
        out.note(effects.EvidenceFound(evidence))
        if evidence.accused == self.primary:
            self._leave_guilty_primary(now, out)

    def _on_fetch_bodies(self, sender: ReplicaId, message: FetchBodies, now: Instant, out: Outbox) -> None:
        self._retransmission.on_fetch_bodies(sender, message, out)

    def _on_bodies(self, sender: ReplicaId, message: Bodies, now: Instant, out: Outbox) -> None:
        for batch in message.batches:
            seqs = self._ordering.on_body(batch, out)
            if not seqs:
                out.reject(sender, message, Rejection.NOT_WANTED)
            for seq in seqs:
                self._pending.add_proposed(self._owed(batch, seq), now_ns=now.monotonic_ns)

    # --- status and catch-up

    def _on_status(self, sender: ReplicaId, status: Status, now: Instant, out: Outbox) -> None:
        self._catch_up.on_status(sender, status)
        self._courtesy.on_status(sender, status, now_ns=now.monotonic_ns)
        self._retransmission.on_status(sender, status, out, now_ns=now.monotonic_ns)

    def _on_tick(self, now: Instant, out: Outbox) -> None:
        if self._deadlines.due(Timer.REQUEST, now.monotonic_ns):
            self._on_request_timeout(now, out)
        if self._deadlines.due(Timer.NEW_VIEW, now.monotonic_ns):
            self._leave_view(self._view_changes.next_view(self.view), ViewChangeCause.NEW_VIEW_TIMEOUT, now, out)
        if self._deadlines.due(Timer.TRANSFER, now.monotonic_ns):
            self._catch_up.on_timeout(out, now_ns=now.monotonic_ns, newest=self.stable)
            self._retarget(now, out)
        if self._deadlines.due(Timer.STATUS, now.monotonic_ns):
            self._on_status_timeout(now, out)

    def _on_request_timeout(self, now: Instant, out: Outbox) -> None:
        """Suspect the primary, unless it is we who are behind, or nothing is owed after all."""
        self._forget_settled(now)
        deadline_ns = self._request_deadline_ns()
        if self._catch_up.far_behind(self.last_executed):
            self._patient_from_ns = now.monotonic_ns
        elif deadline_ns is not None and deadline_ns <= now.monotonic_ns:
            self._leave_view(self._view_changes.next_view(self.view), ViewChangeCause.REQUEST_TIMEOUT, now, out)

    def _on_status_timeout(self, now: Instant, out: Outbox) -> None:
        """Say where we stand; when nothing moved since the last time, repeat ourselves and ask for what we lack."""
        parameters = self._context.parameters
        executed = self.last_executed
        behind = self._catch_up.behind(executed) or self.stable.seq > executed
        out.broadcast(self._retransmission.status())
        self._rejoining.ask(out)
        self._retarget(now, out)
        heard_before_ns = now.monotonic_ns - parameters.status_interval_ns
        self._retransmission.relay_requests(out, heard_before_ns=heard_before_ns, now_ns=now.monotonic_ns)
        if executed == self._executed_at_last_status:
            self._retransmission.say_again(out, now_ns=now.monotonic_ns)
            if behind and not self._catch_up.transferring:
                self._catch_up_now(now, out)
        self._executed_at_last_status = executed
        if (asked := self._courtesy.to_grant(now_ns=now.monotonic_ns)) is not None:
            out.broadcast(asked)
            self._leave_view(self._view_changes.next_view(self.view), ViewChangeCause.COURTESY, now, out)
        busy = behind or self._pending or self._held or self._retransmission.has_unfinished()
        interval_ns = parameters.status_interval_ns if busy else parameters.idle_status_interval_ns
        self._status_due_ns = now.monotonic_ns + interval_ns

    def _catch_up_now(self, now: Instant, out: Outbox) -> None:
        """Certified batches if a peer has them, else the state at the stable checkpoint."""
        asked = self._catch_up.ask_batches(self.last_executed, out, state_at=self.stable.seq)
        if not asked and self.stable.seq > self.last_executed:
            self._catch_up.begin(self.stable, out, now_ns=now.monotonic_ns)
            self._finish_transfer(now, out)

    # --- what a replica said before it restarted

    def _may_speak(self, view: View, now: Instant, *, active: bool) -> bool:
        return self._rejoining.may_speak(view=view, active=active, now_ns=now.monotonic_ns)

    def _speak(self, now: Instant, out: Outbox) -> None:
        """Mute no more: what was left unsaid, and patience with a primary that may have waited for us."""
        self._rejoining.speak(out)
        self._patient_from_ns = now.monotonic_ns
        self._checkpoints.speak(out)
        self._leave_guilty_primary(now, out)
        if self.active:
            self._ordering.speak(out)

    def _owes_empty_batch(self) -> bool:
        """A silent replica waits for its H; one batch at a time, so that requests never wait for many."""
        following = self._ordering.next_seq
        return following == self.last_executed + 1 and self._escort.wants_batch(following)

    def _on_query_stable(self, sender: ReplicaId, query: QueryStable, now: Instant, out: Outbox) -> None:
        reason = self._rejoining.answer(sender, query, out, now_ns=now.monotonic_ns)
        if not self._report(reason, sender, query, now, out) or self._context.voice.mute:
            return
        if query.nonce:
            self._retransmission.on_restart(sender)
        self._escort.on_query(sender, query, stable=self.stable.seq, now_ns=now.monotonic_ns)
        after = self._escort.view_wanted(sender, query, stable=self.stable.seq)
        if after is not None:
            self._leave_view(self._view_changes.next_view(after), ViewChangeCause.ESCORT, now, out)

    def _on_reply_stable(self, sender: ReplicaId, reply: ReplyStable, now: Instant, out: Outbox) -> None:
        if not self._proves_stable(reply.stable):
            return out.reject(sender, reply, Rejection.BAD_CERTIFICATE)
        if self._report(self._rejoining.on_reply(sender, reply, out), sender, reply, now, out):
            self._on_stable(reply.stable, now, out)
        return None

    def _on_fetch_batches(self, sender: ReplicaId, message: FetchBatches, now: Instant, out: Outbox) -> None:
        found = self._execution.archive_after(message.after, self._context.parameters.transfer_bytes_max)
        out.send(sender, Batches(found))

    def _on_batches(self, sender: ReplicaId, message: Batches, now: Instant, out: Outbox) -> None:
        if self._catch_up.transferring:
            return out.reject(sender, message, Rejection.NOT_WANTED)
        proven = self._catch_up.on_batches(sender, message, self.last_executed)
        if isinstance(proven, Rejection):
            return out.reject(sender, message, proven)
        for certified in proven:
            if self._repair.under_way:
                return None
            out.persist(effects.Fetched(certified))
            self._execute(certified, now, out)
        if self._catch_up.behind(self.last_executed):
            self._catch_up.ask_batches(self.last_executed, out, state_at=self.stable.seq)
        return None

    def _on_fetch_state(self, sender: ReplicaId, message: FetchState, now: Instant, out: Outbox) -> None:
        self._state_server.on_fetch_state(sender, message, out, now_ns=now.monotonic_ns)

    def _on_state_chunk(self, sender: ReplicaId, message: StateChunk, now: Instant, out: Outbox) -> None:
        reason = self._catch_up.on_state_chunk(sender, message, out, now_ns=now.monotonic_ns)
        self._report(reason, sender, message, now, out)
        self._retarget(now, out)

    def _retarget(self, now: Instant, out: Outbox) -> None:
        self._catch_up.retarget(self.stable, out, now_ns=now.monotonic_ns)
        self._finish_transfer(now, out)

    def _finish_transfer(self, now: Instant, out: Outbox) -> None:
        """Adopt the state that state transfer completed."""
        target = self._catch_up.finished()
        if target is None:
            return
        again: list[CertifiedBatch] = []
        if self._repair.under_way:
            again = self._execution.replace(target.seq)
            found = self._application.differences(_DIFFERENCES_TOLD)
            comparable = target.seq == self._repair.seq  # else what was executed in between differs as well
            differences = tuple(effects.Difference(*each) for each in found) if comparable else ()
            out.note(effects.Repaired(target.seq, differences))
            self._repair.done(target.seq)
        else:
            self._execution.adopt(target.seq)
        self._checkpoints.take(target.seq, target.root, out)
        self._forget_settled(now)
        self._guilty.note_recorded(self._execution.convictions)
        self._leave_guilty_primary(now, out)
        for certified in again:
            if self._repair.under_way:
                break
            self._execute(certified, now, out)

    def _forget_settled(self, now: Instant) -> None:
        """Requests that are no longer owed though no batch we executed held them.

        State transfer passed over them, the client gave them up by its ``acked``, or registered twice with one nonce.
        """
        for request in self._pending.requests():
            if self._execution.already_executed(request.message):
                self._pending.remove(request.message.id, now_ns=now.monotonic_ns)
