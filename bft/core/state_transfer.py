"""Catch-up of a laggard: certified batches from one peer, else the state behind a certified root (DESIGN §4).

Nothing a peer claims is believed: STATUS only says whom to ask, batches carry a quorum of COMMITs, tree nodes are bound
by hashes up to a root that a quorum of CHECKPOINTs certifies.  It needs no new traffic: the status timer drives it.
"""

from __future__ import annotations

from dataclasses import dataclass

from bft.core import effects
from bft.core.context import Context
from bft.core.effects import Outbox, Rejection
from bft.core.messages import (
    Batches,
    CertifiedBatch,
    CheckpointCertificate,
    Digest,
    FetchBatches,
    FetchState,
    ReplicaId,
    Seq,
    StateChunk,
    Status,
)
from bft.core.ports import Application

_SERVE_LEASE_NS = 30_000_000_000  # a checkpoint that a peer is reading is kept this long after its last question

_BACKUP = -1  # in the place of a replica's number


@dataclass(slots=True)
class Question:
    """A FetchState that is not answered yet."""

    paths: tuple[bytes, ...]
    asked_ns: int  # monotonic
    late: bool = False  # its time passed, others were asked: the answer is still taken
    overtaken: bool = False  # some of the nodes came from another meanwhile: the answer may bring nothing new


class CatchUp:
    """The asking side."""

    def __init__(self, context: Context, application: Application) -> None:
        self._context = context
        self._application = application
        self.peers: dict[ReplicaId, Status] = {}  # the last word of each
        self._asked: set[ReplicaId] = set()  # for batches, and not answered yet: on slow links several
        self._compared: dict[ReplicaId, Seq] = {}  # the last checkpoint about which each was asked why it differs
        self._fruitless = 0  # questions for batches in a row that brought nothing
        self._turn = 0  # rotates among the peers
        self._target: CheckpointCertificate | None = None  # state transfer is under way to it
        self._began_ns = 0  # to this target, or again after a time-out, monotonic
        self._target_ns = 0  # since when it is the target, monotonic
        self._since_ns = 0  # to any target, monotonic
        self._nodes_received = 0  # since then
        self._bytes_received = 0
        self._questions: dict[ReplicaId, Question] = {}  # the last one to each, until it is answered
        self._vain = 0  # time-outs in a row without a node: each doubles the time of a question
        self._useless: set[ReplicaId] = set()  # lied about this target, or lacks it
        self._slow: set[ReplicaId] = set()  # let the time pass; spared while more than f others are left
        others = range(context.quorums.n)
        self._by_turn = [peer for peer in others if peer != context.id]  # who was asked for nodes longest ago first

    @property
    def deadline_ns(self) -> int | None:
        """When the first question, each has its own time, was to be answered; monotonic."""
        if self._target is None:
            return None
        asked_ns = min((q.asked_ns for q in self._questions.values() if not q.late), default=self._began_ns)
        return asked_ns + self._timeout_ns

    @property
    def _timeout_ns(self) -> int:
        parameters = self._context.parameters
        return parameters.transfer_timeout_ns << min(self._vain, parameters.timeout_doublings_max)

    @property
    def transferring(self) -> bool:
        return self._target is not None

    def expects_batches(self, sender: ReplicaId) -> bool:
        return sender in self._asked and not self.transferring

    def expects_state(self, sender: ReplicaId) -> bool:
        return sender in self._questions

    def on_status(self, sender: ReplicaId, status: Status) -> None:
        self.peers[sender] = status

    def behind(self, last_executed: Seq) -> bool:
        """A peer claims to be ahead."""
        return any(status.last_executed > last_executed for status in self.peers.values())

    def far_behind(self, last_executed: Seq) -> bool:
        """A correct peer is more than a checkpoint interval ahead: what is late here is our own fault."""
        claimed = sorted((status.last_executed for status in self.peers.values()), reverse=True)
        weak = self._context.quorums.weak
        margin = self._context.parameters.checkpoint_interval
        return self.transferring or (len(claimed) >= weak and claimed[weak - 1] > last_executed + margin)

    # --- certified batches

    def ask_batches(self, last_executed: Seq, out: Outbox, *, state_at: Seq) -> bool:
        """Ask one peer that claims to hold the next batch, another one each time.

        False if none claims so, or if every other replica was asked in vain.  While there is a state to transfer
        instead (at ``state_at``, our stable checkpoint), f+1 must claim so: no liar keeps us from it by dripping.
        """
        able = [
            peer
            for peer, status in sorted(self.peers.items())
            if status.last_executed > last_executed and status.oldest_batch <= last_executed + 1
        ]
        needed = self._context.quorums.weak if state_at > last_executed else 1
        if len(able) < needed or self._fruitless >= self._context.quorums.n - 1:
            self._fruitless = 0
            return False
        self._turn += 1
        self._fruitless += 1
        peer = able[self._turn % len(able)]
        self._asked.add(peer)
        out.send(peer, FetchBatches(last_executed))
        return True

    def compare_batches(self, peer: ReplicaId, checkpoint: Seq, out: Outbox) -> None:
        """Its state at this checkpoint is another than ours: ask for the COMMITs behind it, once a checkpoint and peer.

        Two correct replicas with different histories are shown this way which replicas committed both: with more than f
        faulty ones nothing is safe any more, but their COMMITs convict them (``Witness`` reads the answer).
        """
        if checkpoint > self._compared.get(peer, 0):
            self._compared[peer] = checkpoint
            self._asked.add(peer)
            out.send(peer, FetchBatches(max(0, checkpoint - self._context.parameters.checkpoint_interval)))

    def on_batches(self, sender: ReplicaId, message: Batches, last_executed: Seq) -> list[CertifiedBatch] | Rejection:
        """The proven batches that continue our history."""
        if sender not in self._asked:
            return Rejection.NOT_WANTED
        self._asked.remove(sender)
        wanted: list[CertifiedBatch] = []
        for certified in message.batches:
            if not certified.commits or not self._context.quorums.proves_committed(certified):
                return Rejection.BAD_CERTIFICATE
            if certified.seq == last_executed + len(wanted) + 1:
                wanted.append(certified)
        if not wanted:
            return Rejection.STALE
        self._fruitless = 0
        return wanted

    # --- state

    def begin(self, target: CheckpointCertificate, out: Outbox, *, now_ns: int) -> None:
        """Collect the state behind a stable checkpoint; what an earlier target brought is kept."""
        self._application.begin_sync(target.seq, target.root)
        self._begin(target, out, now_ns=now_ns)

    def begin_repair(self, target: CheckpointCertificate, out: Outbox, *, now_ns: int) -> Digest:
        """Collect it to take the place of our own, which is wrong; the root of what our own really holds."""
        root = self._application.begin_repair(target.seq, target.root)
        self._begin(target, out, now_ns=now_ns)
        return root

    def _begin(self, target: CheckpointCertificate, out: Outbox, *, now_ns: int) -> None:
        if self._target is None:
            self._since_ns, self._nodes_received, self._bytes_received = now_ns, 0, 0
        self._target = target
        self._began_ns = self._target_ns = now_ns
        self._useless = set()
        self._questions = {}
        self._ask_nodes(out, now_ns)

    def on_state_chunk(self, sender: ReplicaId, chunk: StateChunk, out: Outbox, *, now_ns: int) -> Rejection | None:
        """Nodes from one source; whose answer in time holds none that is true and wanted is asked no more."""
        target = self._target
        if target is None or sender not in self._questions or chunk.seq != target.seq:
            return Rejection.NOT_WANTED
        question = self._questions[sender]
        earlier = bool(chunk.nodes) and set(question.paths).isdisjoint(path for path, _ in chunk.nodes)
        accepted = {path: len(code) for path, code in chunk.nodes if self._application.accept_node(path, code)}
        if earlier and not accepted:
            return Rejection.NOT_WANTED  # an earlier answer once more: the one to this question may still come
        if not earlier:  # else one that comes late, with what is still wanted
            del self._questions[sender]
            self._application.requeue_nodes([path for path in question.paths if path not in accepted])
        self._nodes_received += len(accepted)
        self._bytes_received += sum(accepted.values())
        if accepted:
            self._vain = 0
            self._slow.discard(sender)
            for other in self._questions.values():
                other.overtaken = other.overtaken or not accepted.keys().isdisjoint(other.paths)
        elif not (chunk.nodes and (question.late or question.overtaken)):
            self._useless.add(sender)
        _, wanted = self._application.sync_progress()
        received, size = self._nodes_received, self._bytes_received
        out.note(effects.CatchingUp(target.seq, received, size, wanted, self._since_ns))
        if self._application.sync_complete():
            return None
        self._ask_nodes(out, now_ns)
        return None if accepted else Rejection.NOT_WANTED

    def finished(self) -> CheckpointCertificate | None:
        """The certificate whose state is now adopted; once."""
        if self._target is None or not self._application.sync_complete():
            return None
        target = self._target
        self._application.finish_sync()
        self._stop()
        return target

    def retarget(self, newest: CheckpointCertificate, out: Outbox, *, now_ns: int) -> None:
        """When so many sources are gone that all who are left may be faulty, go for a newer checkpoint that is known.

        Correct peers that moved on answer empty, and a liar that drips must not hold us at the old target for ever; nor
        may f that answer empty drive us from one to the next before the others' answers are here, hence also the wait.
        Who did not answer for the old one is not the first to be asked for the new one: at a root there is but one
        question to ask, and when a dead peer's time-out is over the others may have let this target go, too.
        """
        if self._target is None or newest.seq <= self._target.seq or not self._left_may_be_faulty:
            return
        waits = any(peer not in self._slow for peer in self._questions)
        if not waits or now_ns - self._target_ns >= self._context.parameters.transfer_timeout_ns:
            self.begin(newest, out, now_ns=now_ns)

    def on_timeout(self, out: Outbox, *, now_ns: int, newest: CheckpointCertificate) -> None:
        """Some did not answer in time: ask others; when too few are left, begin again at the newest checkpoint."""
        if self._target is None:
            return
        timeout_ns = self._timeout_ns
        for peer, question in self._questions.items():
            if not question.late and question.asked_ns + timeout_ns <= now_ns:
                question.late = True
                self._slow.add(peer)
                self._application.requeue_nodes(question.paths)
        self._vain += 1
        if self._left_may_be_faulty:  # everybody gets another chance
            self.begin(newest, out, now_ns=now_ns)
            return
        self._began_ns = now_ns
        self._ask_nodes(out, now_ns)

    def _stop(self) -> None:
        self._target = None
        self._questions = {}
        self._slow = set()
        self._vain = 0

    @property
    def _left_may_be_faulty(self) -> bool:
        """All who may still help with this target."""
        return self._context.quorums.n - 1 - len(self._useless) <= self._context.quorums.f

    def _sources(self) -> list[ReplicaId]:
        """Whom to ask, who was asked longest ago first; if all the prompt may be faulty, the slow too."""
        useful = [peer for peer in self._by_turn if peer not in self._useless]
        prompt = [peer for peer in useful if peer not in self._slow]
        return prompt if len(prompt) > self._context.quorums.f else useful

    def _ask_nodes(self, out: Outbox, now_ns: int) -> None:
        """One question outstanding with each useful peer, each for other nodes, in equal shares.

        Were the first given all that is missing, as long as that fits in a question, a liar that drips would be asked
        for everything and the others for nothing.
        """
        target = self._target
        if target is None:
            return
        idle = [p for p in self._sources() if (question := self._questions.get(p)) is None or question.late]
        missing = self._application.missing_nodes(self._context.parameters.transfer_nodes_max * len(idle))
        for index, peer in enumerate(idle[: len(missing)]):
            paths = tuple(missing[index :: len(idle)])
            self._questions[peer] = Question(paths, now_ns)
            self._by_turn.remove(peer)
            self._by_turn.append(peer)
            out.send(peer, FetchState(target.seq, paths))


class StateServer:
    """The answering side: serves checkpoints that the application still holds."""

    def __init__(self, context: Context, application: Application) -> None:
        self._context = context
        self._application = application
        self._leases: dict[int, tuple[Seq, int]] = {}  # one a peer, one for backups: checkpoint and when the lease ends

    def on_fetch_state(self, sender: ReplicaId, message: FetchState, out: Outbox, *, now_ns: int) -> None:
        out.send(sender, self._answer(sender, message, now_ns))

    def on_backup(self, message: FetchState, *, now_ns: int) -> StateChunk:
        """What an administrator asked for; all of them together hold one checkpoint back from its release."""
        return self._answer(_BACKUP, message, now_ns)

    def _answer(self, reader: int, message: FetchState, now_ns: int) -> StateChunk:
        paths = message.paths[: self._context.parameters.transfer_nodes_max]
        nodes = self._application.read_nodes(message.seq, paths, self._context.parameters.transfer_bytes_max)
        if nodes:
            self._leases[reader] = (message.seq, now_ns + _SERVE_LEASE_NS)
        return StateChunk(message.seq, tuple(nodes or ()))

    def release(self, stable: Seq, *, now_ns: int) -> None:
        """Let go of checkpoints below the stable one that nobody is reading: at most one a peer stays."""
        self._leases = {peer: lease for peer, lease in self._leases.items() if lease[1] > now_ns}
        self._application.release_below(stable, keep=frozenset(seq for seq, _ in self._leases.values()))
