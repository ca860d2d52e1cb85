"""What must hold after every event, fed by effects and never by looking through the replicas' state.

The checker trusts nothing of `bft.core` but the message types: it counts quorums itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, NoReturn

from bft.core.effects import (
    Accepted,
    BecameStable,
    CannotRepair,
    CheckpointTaken,
    Committed,
    Diverged,
    Effect,
    EnteredView,
    EvidenceFound,
    Executed,
    FellSilent,
    Fetched,
    LeftView,
    Prepared,
    Record,
    Rejected,
    Rejoined,
    SaveSnapshot,
    SendReply,
    Stable,
    ViewChangeCause,
    ViewChangeStarted,
)
from bft.core.events import Event
from bft.core.messages import (
    Authenticated,
    Commit,
    Digest,
    Evidence,
    Outcome,
    PeerMessage,
    Prepare,
    PrePrepare,
    Proposal,
    ReplicaId,
    Reply,
    ReplyStatus,
    Request,
    RequestId,
    Seq,
)
from bft.testing.amnesia import Amnesia
from bft.testing.certificates import Certificates
from bft.testing.contradictions import Contradictions, contradict
from bft.testing.coverage import Coverage
from bft.testing.faults import Weather
from bft.testing.hosts import Host
from bft.testing.options import Options
from bft.testing.scheduler import Scheduler
from bft.testing.symbolic import Registry
from bft.testing.trace import Trace, describe
from bft.testing.violation import Violation

_SIZES_EVERY = 16  # events


class Checker:
    """Safety: raises `Violation` at the first event after which something does not hold."""

    def __init__(self, options: Options, registry: Registry, scheduler: Scheduler, trace: Trace) -> None:
        self._options = options
        self._scheduler = scheduler
        self._registry = registry
        self._trace = trace
        n = options.n
        self._byzantine = {replica for replica, _ in options.byzantine} | set(options.twins)
        self.events = 0
        self.view_changes = 0
        self.causes: Counter[ViewChangeCause] = Counter()  # of them
        self.transfers = 0  # of state, to a replica that was behind
        self.rejections: Counter[str] = Counter()
        self.coverage = Coverage()
        self.weather = Weather()  # of the run, if anybody makes some
        self._executed: dict[Seq, Digest] = {}  # the one history
        self._executors: dict[Seq, set[ReplicaId]] = {}  # who executed it, and did not lose that in a crash
        self._durable = [0] * n  # up to where each replica's log proves what it executed, and what it proves beyond:
        self._recoverable = [0] * n  # up to where each replica's log and durable snapshot lead
        self._before_crash = [(0, b"")] * n  # last executed, and the state's root then
        self._durable_beyond: list[set[Seq]] = [set() for _ in range(n)]
        self._applied: dict[Seq, tuple[bytes, ...]] = {}  # operations that reached the service, in order
        self._operations: dict[bytes, Seq] = {}  # where each was executed
        self._outcomes: dict[RequestId, tuple[Seq, bytes]] = {}  # where, and the leaf
        self._proven = proven = Certificates(n, self._fail)
        self._clock = [(0, 0)]  # seq and agreed time of the operations executed anywhere, ascending
        self._position = [0] * n  # last executed of each replica
        self._view = [0] * n
        self._said = Contradictions(n)
        self.amnesia = Amnesia(self._said, n)
        self._doubtful: list[str] = []  # right only if the replica turns out to be excused
        self._effects: dict[type, Callable[[Host, Any], None]] = {
            Executed: self._on_executed,
            SaveSnapshot: self._on_save_snapshot,
            SendReply: self._on_reply,
            BecameStable: lambda _, effect: proven.same_root(effect.seq, effect.root),
            EvidenceFound: self._on_evidence,
            Diverged: lambda host, effect: self._fail(f"replica {host.id} diverged at {effect.seq}"),
            CannotRepair: lambda host, effect: self._fail(f"replica {host.id} cannot repair its state at {effect.seq}"),
            Rejected: self._on_rejected,
            ViewChangeStarted: self._on_view_change_started,
            FellSilent: self._on_fell_silent,
            Rejoined: self._on_rejoined,
        }
        self._records: dict[type, Callable[[Host, Any], None]] = {
            Prepared: lambda _, record: proven.check_prepared(record.certificate),
            Committed: lambda host, record: self._on_committed(host, record.commits, None),
            Fetched: lambda host, record: self._on_committed(
                host, record.certified.commits, record.certified.batch.digest
            ),
            CheckpointTaken: lambda _, record: proven.same_root(
                record.checkpoint.message.seq, record.checkpoint.message.root
            ),
            Stable: lambda _, record: proven.check_stable(record.certificate),
            EnteredView: lambda _, record: proven.check_new_view(record.new_view.message),
        }
        registry.on_signed = self._on_signed

    # --- what the hosts tell

    def on_step(self, host: Host, event: Event, effects: list[Effect]) -> None:
        self.events += 1
        self._trace.add(self._scheduler.now_ns, host.id, event, effects)
        core = host.core
        if not host.correct or core is None:
            host.state.applied.clear()
            return
        self.coverage.add(core, event, effects, self.weather.now)
        if self._options.rollbacks:
            self.amnesia.on_step(host, event, effects)
        for effect in effects:
            check = self._effects.get(type(effect))
            if check is not None:
                check(host, effect)
        if self._doubtful:
            self._judge_doubtful(host)
        if host.state.applied:
            self._fail(f"replica {host.id} executed operations outside any batch")
        if not self._is_at(host, core.last_executed):
            self._fail(f"replica {host.id} is at {core.last_executed}, its effects lead to {self._position[host.id]}")
        if core.view < self._view[host.id]:
            self._fail(f"replica {host.id} went back from view {self._view[host.id]} to {core.view}")
        self._view[host.id] = core.view
        if self.events % _SIZES_EVERY == 0:
            self._check_sizes(host, core.sizes)
        if self.events > self._options.events_max:
            self._fail("more events than any run needs: something goes round in circles")

    def on_durable(self, host: Host, records: list[Record]) -> None:
        """Only now do records count: with its unsynced tail a crashed replica forgets what it knew, and so may we."""
        if not host.correct:
            return
        for record in records:
            self._said.on_durable(host.id, _own_statements(record, host.id))
            check = self._records.get(type(record))
            if check is not None:
                check(host, record)

    def on_crash(self, host: Host) -> None:
        """The core is about to go.

        What no replica's log proves and nobody remembers any more was never said to have happened.
        """
        core = host.core
        if core is None or not host.correct:
            return
        self._before_crash[host.id] = (core.last_executed, core.state_root)
        for seq in range(self._durable[host.id] + 1, self._position[host.id] + 1):
            executors = self._executors.get(seq)
            if executors is not None:
                executors.discard(host.id)
                if not executors:
                    self._forget(seq)

    def _forget(self, seq: Seq) -> None:
        del self._executors[seq], self._executed[seq]
        for operation in self._applied.pop(seq, ()):
            self._operations.pop(operation, None)
        self._outcomes = {request: known for request, known in self._outcomes.items() if known[0] != seq}
        self._clock = [entry for entry in self._clock if entry[0] < seq]
        self._proven.forget_root(seq)

    def on_sent(self, host: Host, message: PeerMessage) -> None:
        if not host.correct:
            return
        statement = message.header if isinstance(message, Proposal) else message
        if (
            isinstance(statement, Authenticated)
            and not isinstance(statement.message, Request)
            and statement.message.replica == host.id
            and (wrong := self._said.on_sent(host.id, statement))
        ):
            self._fail(wrong)

    def on_truncated(self, host: Host, seq: Seq) -> None:
        """The log below is gone (not when the core asks for it, but when the records before that are durable)."""
        self._recoverable[host.id] = max(seq, self._recoverable[host.id])

    def on_restart(self, host: Host) -> None:
        core = host.core
        if not host.correct or core is None:
            host.state.applied.clear()
            return
        applied = host.state.applied
        for seq in sorted({entry[0] for entry in applied}):
            self._check_applied(host, seq)
        applied.clear()
        self.amnesia.on_restart(host)
        if self.amnesia.starts_over(host.id):
            self._recoverable[host.id] = self._durable[host.id] = 0
        if core.last_executed < self._recoverable[host.id]:
            wanted = self._recoverable[host.id]
            self._fail(f"replica {host.id} recovered {core.last_executed}, its log and snapshot reach {wanted}")
        seq, root = self._before_crash[host.id]
        if core.last_executed == seq and core.state_root != root:
            self._fail(f"replica {host.id} recovered another state at {seq} than it had before the crash")
        self._recoverable[host.id] = core.last_executed
        self._position[host.id] = core.last_executed
        self._resume_log(host, core.last_executed)
        if core.view < self._said.highest_view[host.id] and host.id not in self.amnesia.ever:
            self._fail(f"replica {host.id} restarted in view {core.view}, below one in which it spoke")
        self._view[host.id] = core.view

    def on_not_authentic(self, host: Host) -> None:
        """Turned away at the door, where `bft.auth` stands in production."""
        self.rejections["not authentic"] += 1

    def on_accepted(self, request: Request, outcome: Outcome) -> None:
        """A correct client believes this outcome."""
        if outcome.status is not ReplyStatus.EXECUTED:
            self._fail(f"a correct client's {describe(request)} ended in {outcome.status.name}")
        if self._outcomes.get(request.id, (0, b""))[1] != outcome.leaf:
            self._fail(f"a client accepted an outcome of {describe(request)} that no correct replica produced")

    # --- effects

    def _on_committed(self, host: Host, commits: tuple[Authenticated[Commit], ...], body: Digest | None) -> None:
        self._proven.check_committed(commits, body)
        beyond = self._durable_beyond[host.id]
        beyond.add(commits[0].message.seq)
        while self._durable[host.id] + 1 in beyond:
            self._durable[host.id] = seq = self._durable[host.id] + 1
            beyond.remove(seq)
            if self._recoverable[host.id] == seq - 1:
                self._recoverable[host.id] = seq

    def _on_executed(self, host: Host, effect: Executed) -> None:
        seq, digest = effect.seq, effect.batch.digest
        if not self._is_at(host, seq - 1):
            self._fail(f"replica {host.id} executed {seq} after {self._position[host.id]}")
        self._position[host.id] = seq
        known = self._executed.setdefault(seq, digest)
        self._executors.setdefault(seq, set()).add(host.id)
        if known != digest:
            self._fail(f"replica {host.id} executed {digest[:4].hex()} at {seq}, another {known[:4].hex()}")
        if not all(self._registry.is_genuine(request) for request in effect.batch.requests):
            self._fail(f"replica {host.id} executed a request at {seq} that its client never signed")
        for evidence in effect.batch.evidence:
            self._check_evidence(host, evidence)
        self._check_applied(host, seq)

    def _is_at(self, host: Host, seq: Seq) -> bool:
        """Whether the replica's effects led it to `seq`, or state transfer did: forward, to a certified checkpoint."""
        if self._position[host.id] < seq in self._proven.stable:
            root = host.state.root_at(seq)  # None: the same step went on and released it
            self._proven.same_root(seq, self._proven.roots[seq] if root is None else root)
            self._position[host.id] = seq
            self._resume_log(host, seq)
            self.transfers += 1
        return self._position[host.id] == seq

    def _resume_log(self, host: Host, seq: Seq) -> None:
        """From here on the replica's log continues a state that it did not execute to in this life."""
        self._durable[host.id] = max(seq, self._durable[host.id])
        self._durable_beyond[host.id].clear()

    def _check_applied(self, host: Host, seq: Seq) -> None:
        """The operations that reached the service for `seq`: equal everywhere, and none a second time."""
        mine = tuple(client + operation for at, _, client, operation in host.state.applied if at == seq)
        times = {time_ns for at, time_ns, _, _ in host.state.applied if at == seq}
        host.state.applied = [entry for entry in host.state.applied if entry[0] != seq]
        if seq not in self._applied:
            self._applied[seq] = mine
            for operation in mine:
                if self._operations.setdefault(operation, seq) != seq:
                    self._fail(f"an operation executed at {self._operations[operation]} was executed again at {seq}")
            self._check_time(seq, times)
            if len(set(mine)) != len(mine):
                self._fail(f"an operation was executed twice at {seq}")
        elif self._applied[seq] != mine:
            self._fail(f"replica {host.id} executed other operations at {seq} than another")

    def _check_time(self, seq: Seq, times: set[int]) -> None:
        """The agreed clock only runs forward; a batch has one time."""
        last_seq, last_ns = self._clock[-1]
        if times and seq > last_seq:
            if len(times) != 1 or min(times) <= last_ns:
                self._fail(f"the agreed clock does not run forward at {seq}")
            self._clock.append((seq, max(times)))

    def _on_save_snapshot(self, host: Host, effect: SaveSnapshot) -> None:
        self._proven.same_root(effect.seq, effect.root)
        if effect.seq > self._position[host.id] and not self._is_at(host, effect.seq):
            self._fail(f"replica {host.id} is at {self._position[host.id]} and saves a state at {effect.seq}")

    def _on_reply(self, host: Host, effect: SendReply) -> None:
        reply = effect.reply
        if not isinstance(reply, Reply) or reply.outcome.status is not ReplyStatus.EXECUTED:
            return
        outcome = reply.outcome
        request = (outcome.client, outcome.session, outcome.number)
        if self._outcomes.setdefault(request, (outcome.seq, outcome.leaf))[1] != outcome.leaf:
            self._fail(f"replica {host.id} answers request {outcome.number} otherwise than before, or than another")

    def _on_evidence(self, host: Host, effect: EvidenceFound) -> None:
        self._check_evidence(host, effect.evidence)

    def _check_evidence(self, host: Host, evidence: Evidence) -> None:
        genuine = self._registry.is_genuine(evidence.first) and self._registry.is_genuine(evidence.second)
        if not genuine or not contradict(evidence.first.message, evidence.second.message):
            self._fail(f"replica {host.id} believes evidence that proves nothing: {describe(evidence)}")
        excused = any(self._said.may_contradict(said) for said in (evidence.first, evidence.second))
        if evidence.accused not in self._byzantine and not excused:
            self._fail(f"replica {host.id} accuses the correct replica {evidence.accused}: {describe(evidence)}")

    def _on_rejected(self, host: Host, effect: Rejected) -> None:
        self.rejections[effect.reason] += 1

    def _on_view_change_started(self, host: Host, effect: ViewChangeStarted) -> None:
        """No correct replica leaves its view on the word of faulty ones alone, nor goes further than correct ones."""
        self.view_changes += 1
        self.causes[effect.cause] += 1
        left = [self._said.left_view[r] for r in range(self._options.n) if r not in self._byzantine | {host.id}]
        # proven equivocators' views are skipped: at most n in a row
        joined = effect.cause is ViewChangeCause.JOINED
        if joined and not any(self._view[host.id] < view and effect.view <= view + self._options.n for view in left):
            self._fail(f"replica {host.id} joined the change to view {effect.view} that no correct replica wants")

    def _on_fell_silent(self, host: Host, effect: FellSilent) -> None:
        """No lie makes an amnesiac of a replica whose disk holds all that it said."""
        if host.id not in self.amnesia.ever:
            self._fail(f"replica {host.id} lost nothing and fell silent")

    # --- the rest

    def _on_signed(self, replica: ReplicaId, statement: Authenticated[Any]) -> None:
        message = statement.message
        if replica in self._byzantine or not isinstance(message, PrePrepare | Prepare | Commit):
            return
        if message.view < self._said.left_view[replica]:
            what = f"replica {replica} speaks in a view that it has left: {describe(message)}"
            if message.view < self._said.bound_view[replica]:
                self._fail(what)
            self._doubtful.append(what)

    def _judge_doubtful(self, host: Host) -> None:
        """It left that view before its disk was rolled back: right if nobody could tell it."""
        if not self._said.excused[host.id]:
            self._fail(self._doubtful[0])
        self._doubtful.clear()

    def _on_rejoined(self, host: Host, effect: Rejoined) -> None:
        if not self.amnesia.on_speaking(host, was_silenced=effect.was_silenced):
            self._fail(f"replica {host.id} was shown what it lost, and speaks all the same")

    def _check_sizes(self, host: Host, sizes: dict[str, int]) -> None:
        parameters = self._options.parameters
        bounds = {
            "slots": parameters.window,
            "held": parameters.n * (parameters.held_messages_max + parameters.held_proposals_max),
            "pending": parameters.pending_requests_max + parameters.window * parameters.batch_requests_max,
            "sessions": parameters.sessions_max,
        }
        for name, bound in bounds.items():
            if sizes[name] > bound:
                self._fail(f"replica {host.id} holds {sizes[name]} {name}, more than {bound}")

    def _fail(self, what: str) -> NoReturn:
        raise Violation(what, event=self.events, now_ns=self._scheduler.now_ns)


def _own_statements(record: Record, replica: ReplicaId) -> list[Authenticated[Any]]:
    """What a record makes it safe to say."""
    match record:
        case Accepted():
            said: list[Authenticated[Any]] = [record.proposal.header]
            if record.prepare is not None:
                said.append(record.prepare)
        case Prepared():
            said = [record.commit]
        case CheckpointTaken():
            said = [record.checkpoint]
        case LeftView():
            said = [record.view_change]
        case EnteredView():
            said = [record.new_view, *record.new_view.message.pre_prepares]
        case _:
            said = []
    return [statement for statement in said if statement.message.replica == replica]
