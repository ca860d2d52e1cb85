"""The three phases: pre-prepare, prepare, commit (OSDI'99 §4.2).

Handlers record; ``_advance`` tests the paper's predicates and fires each transition once, in any order of arrival.
"""

from __future__ import annotations

from collections.abc import Iterable

from bft.core import effects
from bft.core.context import Context, CurrentView
from bft.core.convictions import Convictions
from bft.core.effects import Outbox, Rejection
from bft.core.evidence import evidence_of, proves
from bft.core.invariants import invariant
from bft.core.log import Log, Slot
from bft.core.messages import (
    EVIDENCE_IN_BATCH_MAX,
    NULL_DIGEST,
    Authenticated,
    Batch,
    CertifiedBatch,
    Commit,
    Digest,
    Evidence,
    Prepare,
    PreparedCertificate,
    PrePrepare,
    Proposal,
    Request,
    Seq,
)


class Ordering:
    """Assigns batches to sequence numbers in the current view; reports what committed."""

    def __init__(self, context: Context, current: CurrentView) -> None:
        self._context = context
        self._current = current
        self.log = Log(context.parameters.window)
        self.next_seq: Seq = 1  # what we would propose next as primary

    @property
    def is_primary(self) -> bool:
        return self._context.quorums.primary(self._current.view) == self._context.id

    # --- proposing

    def has_room(self, *, last_executed: Seq) -> bool:
        """The primary may propose: inside the watermarks and the pipeline (batching without delay, §5.1.4)."""
        in_flight = self.next_seq - 1 - last_executed
        return self.next_seq <= self.log.high and in_flight < self._context.parameters.pipeline_depth

    def is_worth_a_batch(self, requests: int, *, last_executed: Seq) -> bool:
        """So many requests deserve votes of their own, beside the batches in flight: they are as many, or a lot.

        What must wait waits for one batch to commit at most.  Without this a stream of requests would go out in batches
        of whatever came in one round of the shell, each with all its votes, syncs and messages.
        """
        a_lot = max(1, self._context.parameters.batch_requests_max // 8)
        slots = map(self.log.get, range(last_executed + 1, self.next_seq))
        in_flight = sum(len(slot.batch.requests) for slot in slots if slot is not None and slot.batch is not None)
        return requests >= min(in_flight, a_lot)

    def propose(self, batch: Batch, out: Outbox) -> None:
        """As primary, give the batch the next sequence number."""
        seq = self.next_seq
        self.next_seq += 1
        header = self._context.sign(PrePrepare(self._current.view, seq, batch.digest, self._context.id))
        slot = self.log.slot(seq)
        proposal = Proposal(header, batch)
        slot.header, slot.batch = header, batch
        out.persist(effects.Accepted(proposal, None))
        out.broadcast(proposal)
        self._advance(slot, out)

    # --- handlers; the caller has checked that the message is for the current view and inside the watermarks

    def on_proposal(
        self, proposal: Proposal, out: Outbox, *, wall_ns: int, convictions: Convictions, empty: bool = False
    ) -> Evidence | Rejection | None:
        """A proposal of the current primary, without content only if ``empty``; None: accepted."""
        header = proposal.header
        slot = self.log.slot(header.message.seq)
        if slot.seen_header is not None and (proof := evidence_of(slot.seen_header, header)):
            return proof
        if slot.header is not None and slot.batch is not None:
            return Rejection.DUPLICATE
        if reason := self._reject_batch(
            proposal, fresh=slot.header is None, wall_ns=wall_ns, convictions=convictions, empty=empty
        ):
            return reason
        slot.header = slot.header or header
        self._accept_body(slot, proposal.batch, out)
        return None

    def on_prepare(self, vote: Authenticated[Prepare], out: Outbox) -> Evidence | Rejection | None:
        """A backup's PREPARE; None: counted."""
        prepare = vote.message
        if prepare.replica == self._context.quorums.primary(prepare.view):
            return Rejection.PRIMARY_PREPARE
        slot = self.log.slot(prepare.seq)
        if slot.seen_header is not None and (proof := evidence_of(slot.seen_header, prepare.header)):
            return proof  # two headers by one primary: the vote itself may be honest
        if (seen := slot.prepares.get(prepare.replica)) is not None:
            return evidence_of(seen, vote) or Rejection.DUPLICATE
        slot.prepares[prepare.replica] = vote
        self._advance(slot, out)
        return None

    def on_commit(self, vote: Authenticated[Commit], out: Outbox) -> Evidence | Rejection | None:
        """A replica's COMMIT; None: counted."""
        commit = vote.message
        slot = self.log.slot(commit.seq)
        if (seen := slot.commits.get(commit.replica)) is not None:
            return evidence_of(seen, vote) or Rejection.DUPLICATE
        slot.commits[commit.replica] = vote
        self._advance(slot, out)
        return None

    # --- view changes and checkpoints

    def advance(self, stable: Seq, *, last_executed: Seq) -> list[Authenticated[Request]]:
        """Raise the low watermark to the stable checkpoint; the requests proposed below it and not executed here."""
        passed = [
            request
            for slot in self.log.advance(stable)
            if slot.batch is not None and (slot.seq > last_executed or slot.certified is None)
            for request in slot.batch.requests
        ]
        self.next_seq = max(self.next_seq, self.log.low + 1)
        return passed

    def leave_view(self) -> None:
        for slot in self.log:
            slot.leave_view()

    def prepared_certificates(self) -> tuple[PreparedCertificate, ...]:
        """P of our VIEW-CHANGE: for each sequence number above the stable checkpoint, that of the highest view."""
        return tuple(slot.prepared for slot in self.log if slot.prepared is not None)

    def enter_view(
        self, pre_prepares: Iterable[Authenticated[PrePrepare]], bodies: dict[Digest, Batch], out: Outbox
    ) -> None:
        """Adopt the NEW-VIEW's headers; a missing body is fetched before its PREPARE, never taken for null."""
        self.next_seq = self.log.low + 1
        for header in pre_prepares:
            seq = header.message.seq
            self.next_seq = max(self.next_seq, seq + 1)
            if seq <= self.log.low:
                continue
            slot = self.log.slot(seq)
            slot.header = header
            body = slot.body(header.message.digest) or bodies.get(header.message.digest)
            if body is not None:
                self._accept_body(slot, body, out)

    def missing_bodies(self) -> list[Digest]:
        """Digests that the current view re-proposes and we hold no batch for."""
        return [slot.header.message.digest for slot in self.log if slot.header is not None and slot.batch is None]

    def on_body(self, batch: Batch, out: Outbox) -> list[Seq]:
        """A fetched body: accept it wherever a header waits for it; the sequence numbers."""
        accepted: list[Seq] = []
        for slot in self.log:
            if slot.header is not None and slot.batch is None and slot.header.message.digest == batch.digest:
                self._accept_body(slot, batch, out)
                accepted.append(slot.seq)
        return accepted

    def find_body(self, digest: Digest) -> Batch | None:
        """A body that some slot holds, to serve a peer that lacks it."""
        if digest == NULL_DIGEST:
            return None
        return next((batch for slot in self.log if (batch := slot.body(digest)) is not None), None)

    # --- progress

    def certified(self, seq: Seq) -> CertifiedBatch | None:
        """The batch that committed at ``seq``, if we saw it commit."""
        slot = self.log.get(seq)
        return None if slot is None else slot.certified

    def unfinished(self, *, last_executed: Seq) -> list[Slot]:
        """Slots above ``last_executed`` about which we said something in this view, ascending."""
        return [slot for slot in self.log if slot.seq > last_executed and slot.header is not None]

    def own_messages(
        self, slot: Slot, *, with_proposal: bool
    ) -> list[Proposal | Authenticated[Prepare] | Authenticated[Commit]]:
        """What we said about a slot in this view, to say it again."""
        said: list[Proposal | Authenticated[Prepare] | Authenticated[Commit]] = []
        if with_proposal and self.is_primary and slot.header is not None and slot.batch is not None:
            said.append(Proposal(slot.header, slot.batch))
        if (prepare := slot.prepares.get(self._context.id)) is not None:
            said.append(prepare)
        if (commit := slot.commits.get(self._context.id)) is not None:
            said.append(commit)
        return said

    def speak(self, out: Outbox) -> None:
        """Mute no more: say in this view what was left unsaid."""
        for slot in self.log:
            if slot.header is None or slot.batch is None:
                continue
            if self.is_primary or self._context.id in slot.prepares:
                self._advance(slot, out)
            else:
                self._accept_body(slot, slot.batch, out)

    # --- recovery

    def restore(self, record: effects.Accepted | effects.Prepared) -> None:
        """Remember what we said before the crash; records come in the order they were written."""
        header = record.proposal.header if isinstance(record, effects.Accepted) else record.certificate.header
        seq = header.message.seq
        if seq not in self.log:
            return  # covered by a stable checkpoint
        slot = self.log.slot(seq)
        current = header.message.view == self._current.view and self._current.active
        if isinstance(record, effects.Accepted):
            if current:
                slot.header, slot.batch = header, record.proposal.batch
                self.next_seq = max(self.next_seq, seq + 1)
            else:
                slot.earlier[header.message.digest] = record.proposal.batch
            if current and record.prepare is not None:
                slot.prepares[self._context.id] = record.prepare
            return
        slot.prepared = record.certificate
        slot.prepared_batch = slot.body(record.certificate.digest)
        if current:
            slot.commits[self._context.id] = record.commit
            slot.prepares.update((p.message.replica, p) for p in record.certificate.prepares)

    def restore_headers(self, pre_prepares: Iterable[Authenticated[PrePrepare]]) -> None:
        """The headers of the NEW-VIEW by which we had entered the current view bind us."""
        self.next_seq = self.log.low + 1
        for header in pre_prepares:
            self.next_seq = max(self.next_seq, header.message.seq + 1)
            if header.message.seq in self.log:
                self.log.slot(header.message.seq).header = header

    # --- inner workings

    def _reject_batch(
        self, proposal: Proposal, *, fresh: bool, wall_ns: int, convictions: Convictions, empty: bool
    ) -> Rejection | None:
        """Why the batch cannot be the header's, or, for a fresh proposal, is none a correct primary makes."""
        batch = proposal.batch
        if batch.digest != proposal.header.message.digest:
            return Rejection.WRONG_DIGEST
        if not fresh:
            return None  # re-proposed by the NEW-VIEW: it keeps its time
        full = len(batch.requests) > self._context.parameters.batch_requests_max
        if not (batch.requests or batch.evidence or empty) or full:
            return Rejection.BAD_BATCH
        if batch.evidence and not self._is_for_the_record(batch, proposal.header.message.seq, convictions):
            return Rejection.BAD_BATCH
        if abs(batch.time_ns - wall_ns) > self._context.parameters.clock_bound_ns:
            return Rejection.CLOCK
        return None

    def _is_for_the_record(self, batch: Batch, seq: Seq, convictions: Convictions) -> bool:
        """Proofs that no batch before it recorded; see ``unrecorded`` why a correct primary proposes no others."""
        quorums, parameters = self._context.quorums, self._context.parameters
        return len(batch.evidence) <= EVIDENCE_IN_BATCH_MAX and all(
            proves(evidence, quorums, parameters) and not convictions.precede(seq, evidence.accused)
            for evidence in batch.evidence
        )

    def unrecorded(
        self, proofs: Iterable[Evidence], *, last_executed: Seq, convictions: Convictions
    ) -> tuple[Evidence, ...]:
        """As primary, what to put on record with the next batch.

        Only what is neither in our state nor in a batch between it and the next sequence number, and only when we know
        all of these.  Whatever a backup executed below that number is then one of them, or in our state: it knows of no
        earlier record, and may refuse one.
        """
        wanted = [proof for proof in proofs if proof.accused not in convictions]
        if not wanted or last_executed < self.log.low:
            return ()
        slots = [self.log.get(seq) for seq in range(last_executed + 1, self.next_seq)]
        batches = [slot.batch for slot in slots if slot is not None and slot.batch is not None]
        if len(batches) < len(slots):
            return ()
        proposed = {evidence.accused for batch in batches for evidence in batch.evidence}
        return tuple(proof for proof in wanted if proof.accused not in proposed)[:EVIDENCE_IN_BATCH_MAX]

    def _accept_body(self, slot: Slot, batch: Batch, out: Outbox) -> None:
        """PRE-PREPARE complete: bind it, and as backup PREPARE it."""
        header = slot.header
        invariant(header is not None and header.message.digest == batch.digest, "a body without its header")
        if header is None:
            return
        slot.batch = batch
        prepare = None
        if not self.is_primary and not self._context.voice.mute:
            prepare = self._context.sign(Prepare(header, self._context.id))
            slot.prepares[self._context.id] = prepare
        out.persist(effects.Accepted(Proposal(header, batch), prepare))
        if prepare is not None:
            out.broadcast(prepare)
        self._advance(slot, out)

    def _advance(self, slot: Slot, out: Outbox) -> None:
        """Fire ``prepared`` and ``committed-local`` when their predicates now hold; each once a view."""
        header, batch = slot.header, slot.batch
        if header is None or batch is None:
            return
        me = self._context.id
        digest = header.message.digest
        quorum = self._context.quorums.quorum
        if me not in slot.commits and 1 + len(slot.prepares) >= quorum and not self._context.voice.mute:
            prepares = slot.matching_prepares(digest)
            if 1 + len(prepares) >= quorum:  # the header is the primary's vote
                slot.prepared = PreparedCertificate(header, tuple(prepares[: quorum - 1]))
                slot.prepared_batch = batch
                commit = self._context.sign(Commit(header.message.view, slot.seq, digest, me))
                slot.commits[me] = commit
                out.persist(effects.Prepared(slot.prepared, commit))
                out.broadcast(commit)
        if slot.certified is None and len(slot.commits) >= quorum:
            commits = slot.matching_commits(digest)
            if len(commits) >= quorum:
                # Deviation (§4.2): committed-local does not wait for our own PREPAREs: a quorum of COMMITs already says
                # that f + 1 correct replicas prepared, which is all that ``committed`` means.
                slot.certified = CertifiedBatch(batch, tuple(commits[:quorum]))
                out.persist(effects.Committed(slot.certified.commits))
