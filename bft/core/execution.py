"""The one gate through which batches reach the service, in sequence order, each once (OSDI'99 §4.2).

Ordering, catch-up and recovery all execute here.  Everything that depends on agreed state alone is deterministic:
the outcome of a request is the same at every correct replica.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from bft.core.context import Context
from bft.core.convictions import Convictions
from bft.core.invariants import invariant
from bft.core.messages import (
    Authenticated,
    Batch,
    BatchResult,
    CertifiedBatch,
    Digest,
    Outcome,
    ReplicaId,
    Reply,
    ReplyStatus,
    Request,
    RequestKind,
    Seq,
    View,
)
from bft.core.ports import Admission, Application
from bft.core.sessions import Disposition, Sessions, seq_position
from crypto import merkle

_CLOCK_KEY = b"clock"


@dataclass(frozen=True, slots=True)
class ExecutedBatch:
    """What executing one batch brought."""

    outcomes: tuple[Outcome, ...]  # one a request, in order; fewer: the batch's results grew too large, the rest waits
    operations: int  # executed for the first time
    convicted: tuple[ReplicaId, ...] = ()  # for the first time


class Execution:
    """The replicated state machine: last executed sequence number, agreed clock, sessions, service."""

    def __init__(self, context: Context, admission: Admission, application: Application) -> None:
        self._context = context
        self._admission = admission
        self._application = application
        self._archive: OrderedDict[Seq, CertifiedBatch] = OrderedDict()  # ascending, contiguous, to serve laggards
        self._archive_bytes = 0
        self.sessions = Sessions(context.parameters)
        self.convictions = Convictions()
        self.last_executed: Seq = 0
        self.time_ns = 0  # the agreed clock: strictly increasing from batch to batch

    def execute(self, certified: CertifiedBatch) -> ExecutedBatch:
        """Execute the next batch; only ``last_executed + 1`` may come."""
        seq = certified.seq
        invariant(seq == self.last_executed + 1, f"executing {seq} after {self.last_executed}")
        batch = certified.batch
        self.time_ns = max(self.time_ns + 1, batch.time_ns)
        self.last_executed = seq
        self._archive_batch(certified)
        outcomes: list[Outcome] = []
        operations = 0
        room = self._context.parameters.batch_result_bytes_max
        for index, request in enumerate(batch.requests):
            if room <= 0:
                break
            outcome, fresh = self._execute_request(request, position=seq_position(seq, index))
            outcomes.append(outcome)
            operations += fresh
            room -= sum(len(result) for result in outcome.results)
        convicted = tuple(
            evidence.accused
            for evidence in batch.evidence
            if self.convictions.record(evidence, seq=seq, application=self._application)
        )
        return ExecutedBatch(tuple(outcomes), operations, convicted)

    def checkpoint(self) -> Digest:
        """Root of the state after ``last_executed``, held for state transfer until released."""
        self._flush()
        return self._application.checkpoint(self.last_executed)

    def root(self) -> Digest:
        """Root of the state after ``last_executed``."""
        self._flush()
        return self._application.root()

    def _flush(self) -> None:
        """The framework's records enter the hashed state; what is written depends on the state alone, not on when."""
        self.sessions.flush(self._application)
        self._application.put_system(_CLOCK_KEY, self.time_ns.to_bytes(8, "big"))

    def adopt(self, seq: Seq) -> None:
        """The application holds the state of checkpoint ``seq``: continue from there."""
        invariant(seq >= self.last_executed, f"state transfer back from {self.last_executed} to {seq}")
        self._continue_from(seq)

    def replace(self, seq: Seq) -> list[CertifiedBatch]:
        """As ``adopt``, in place of a wrong state: what was executed after ``seq``, to be executed again.

        Nothing if the archive let go of the next one, as it may once a later checkpoint is stable.
        """
        again: list[CertifiedBatch] = []
        while (certified := self._archive.get(seq + len(again) + 1)) is not None:
            again.append(certified)
        self._continue_from(seq)
        return again

    def _continue_from(self, seq: Seq) -> None:
        self.last_executed = seq
        self.time_ns = int.from_bytes(self._application.get_system(_CLOCK_KEY) or b"", "big")
        self.sessions.load(self._application)
        self.convictions.load(self._application)
        self._archive.clear()
        self._archive_bytes = 0

    def replies(self, outcomes: tuple[Outcome, ...], *, view: View, seq: Seq) -> list[Reply]:
        """One signature for all outcomes; each reply carries its Merkle path (DESIGN §4, Replies).  None while mute."""
        if not outcomes or self._context.voice.mute:
            return []
        root, paths = merkle.all_proofs([outcome.leaf for outcome in outcomes])
        result = self._context.sign(BatchResult(view, seq, root, self._context.id))
        count = len(outcomes)
        return [Reply(o, result, i, count, p) for i, (o, p) in enumerate(zip(outcomes, paths, strict=True))]

    def archived(self, seq: Seq) -> CertifiedBatch | None:
        return self._archive.get(seq)

    def archived_body(self, digest: Digest) -> Batch | None:
        """An executed batch by its digest."""
        return next((c.batch for c in self._archive.values() if c.batch.digest == digest), None)

    @property
    def oldest_archived(self) -> Seq:
        """Lowest sequence number that can be served; ``last_executed + 1`` when there is none."""
        return next(iter(self._archive), self.last_executed + 1)

    def archive_after(self, after: Seq, bytes_max: int) -> tuple[CertifiedBatch, ...]:
        """Consecutive certified batches after ``after``, at least one if there is any, up to a size."""
        found: list[CertifiedBatch] = []
        size = 0
        seq = after + 1
        while (certified := self._archive.get(seq)) is not None:
            size += certified.batch.size
            if found and (size > bytes_max or len(found) >= self._context.parameters.window):
                break
            found.append(certified)
            seq += 1
        return tuple(found)

    def _archive_batch(self, certified: CertifiedBatch) -> None:
        self._archive[certified.seq] = certified
        self._archive_bytes += certified.batch.size

    def trim_archive(self, stable: Seq) -> None:
        """Keep the archive in its limits, but keep every batch above the stable checkpoint.

        Those can be had in no other way: below it a laggard can transfer the state, above it there is none to transfer.
        """
        limits = self._context.parameters
        while self._archive and (
            len(self._archive) > limits.archive_batches_max or self._archive_bytes > limits.archive_bytes_max
        ):
            seq, oldest = next(iter(self._archive.items()))
            if seq > stable:
                break
            del self._archive[seq]
            self._archive_bytes -= oldest.batch.size

    def _execute_request(self, request: Authenticated[Request], *, position: int) -> tuple[Outcome, int]:
        """The request's outcome and how many operations it executed for the first time."""
        message = request.message
        if message.kind == RequestKind.REGISTER:
            return self._register(request, position=position)
        disposition = self.sessions.judge(message)
        session = self.sessions.find(message)
        if disposition is not Disposition.FRESH or session is None:
            return self._answer_again(request, disposition), 0
        results: list[bytes] = []
        room = self._context.parameters.result_bytes_max
        for operation in message.operations:
            if room <= 0:  # a small request must not make everybody hold results without limit
                break
            result = self._application.apply(
                operation,
                client=message.client,
                client_name=session.name,
                seq=self.last_executed,
                time_ns=self.time_ns,
            )
            room -= len(result)
            results.append(result)
        outcome = self._outcome(request, ReplyStatus.EXECUTED, tuple(results))
        self.sessions.record(session, message.number, outcome, acked=message.acked, position=position)
        return outcome, len(results)

    def _register(self, request: Authenticated[Request], *, position: int) -> tuple[Outcome, int]:
        message = request.message
        known = self.sessions.registered(message)
        if known is not None:
            again = known.outcomes.get(0)
            return again or self._outcome(request, ReplyStatus.RESULT_DISCARDED, ()), 0
        certificate = message.operations[0] if len(message.operations) == 1 else b""
        name = self._admission.client_name(certificate, client=message.client, time_ns=self.time_ns)
        if name is None:
            return self._outcome(request, ReplyStatus.REFUSED, (b"certificate not acceptable",)), 0
        session = self.sessions.open(message, name=name, position=position, time_ns=self.time_ns)
        if session is None:
            return self._outcome(request, ReplyStatus.REFUSED, (b"too old to take another session's place",)), 0
        outcome = self._outcome(request, ReplyStatus.EXECUTED, (session.id.to_bytes(8, "big"),))
        self.sessions.record(session, 0, outcome, acked=0, position=position)
        return outcome, 1

    def _answer_again(self, request: Authenticated[Request], disposition: Disposition) -> Outcome:
        """A deterministic no-op: the cached outcome, or why there is none."""
        if disposition is Disposition.EXECUTED:
            return self.cached(request) or self._outcome(request, ReplyStatus.RESULT_DISCARDED, ())
        if disposition is Disposition.OUTSIDE_WINDOW:
            return self._outcome(request, ReplyStatus.OUTSIDE_WINDOW, ())
        return self._outcome(request, ReplyStatus.UNKNOWN_SESSION, ())

    def cached(self, request: Authenticated[Request]) -> Outcome | None:
        """The outcome cached for the request's id: of whichever request of that id was ordered first."""
        message = request.message
        if message.kind == RequestKind.REGISTER:
            session = self.sessions.registered(message)
            return None if session is None else session.outcomes.get(0)
        session = self.sessions.find(message)
        return None if session is None else session.outcomes.get(message.number)

    def discarded(self, request: Authenticated[Request]) -> Outcome:
        """For an executed request whose outcome is not held any more: just that, at no sequence number.

        So all replicas say it alike once they have come as far, and a client that lost the first replies does not ask
        for ever.
        """
        m = request.message
        return Outcome(m.client, m.session, m.number, request.digest, 0, ReplyStatus.RESULT_DISCARDED, ())

    def already_executed(self, request: Request) -> bool:
        if request.kind == RequestKind.REGISTER:
            return self.sessions.registered(request) is not None
        return self.sessions.judge(request) is Disposition.EXECUTED

    def outside_window(self, request: Request) -> bool:
        """False also for an unknown session: that verdict must be ordered, for we may merely be behind."""
        return request.kind != RequestKind.REGISTER and self.sessions.judge(request) is Disposition.OUTSIDE_WINDOW

    def _outcome(self, request: Authenticated[Request], status: ReplyStatus, results: tuple[bytes, ...]) -> Outcome:
        message = request.message
        return Outcome(
            message.client, message.session, message.number, request.digest, self.last_executed, status, results
        )
