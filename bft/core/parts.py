"""The parts of a replica, wired once, and what the shell and the observers may read of them."""

from __future__ import annotations

from bft.core.checkpoints import Checkpoints
from bft.core.context import Context, CurrentView
from bft.core.courtesy import Courtesy
from bft.core.escort import Escort
from bft.core.events import Instant
from bft.core.evidence import EvidenceBook
from bft.core.execution import Execution
from bft.core.held import HeldMessages
from bft.core.messages import (
    Batches,
    CheckpointCertificate,
    Commit,
    Digest,
    Evidence,
    FetchState,
    Prepare,
    ReplicaId,
    ReplyStable,
    Seq,
    StableCheckpoint,
    StateChunk,
    View,
)
from bft.core.ordering import Ordering
from bft.core.parameters import Parameters
from bft.core.pending import PendingRequests
from bft.core.ports import Admission, Application, Signer
from bft.core.primary_monitor import PrimaryMonitor
from bft.core.quorum import Quorums
from bft.core.rejoining import Rejoining
from bft.core.repair import Repair
from bft.core.retransmission import Retransmission
from bft.core.state_transfer import CatchUp, StateServer
from bft.core.timers import Deadlines
from bft.core.view_change import ViewChanges
from bft.core.witness import Witness


class Parts:
    """What a replica is made of; ``Replica`` alone makes the parts work together."""

    def __init__(
        self,
        *,
        id: ReplicaId,  # noqa: A002 - the paper's word
        parameters: Parameters,
        signer: Signer,
        admission: Admission,
        application: Application,
    ) -> None:
        quorums = Quorums.of(parameters.n)
        self._context = Context(id, parameters, quorums, signer)
        self._current = CurrentView()
        self._guilty = EvidenceBook()
        self._application = application
        self._pending = PendingRequests(parameters)
        self._held = HeldMessages(
            messages_max=parameters.held_messages_max, proposals_max=parameters.held_proposals_max
        )
        self._ordering = Ordering(self._context, self._current)
        self._execution = Execution(self._context, admission, application)
        self._checkpoints = Checkpoints(self._context)
        self._view_changes = ViewChanges(self._context, self._current, self._guilty)
        self._catch_up = CatchUp(self._context, application)
        self._state_server = StateServer(self._context, application)
        self._retransmission = Retransmission(
            self._context,
            self._current,
            ordering=self._ordering,
            execution=self._execution,
            checkpoints=self._checkpoints,
            view_changes=self._view_changes,
            pending=self._pending,
            guilty=self._guilty,
        )
        self._witness = Witness(self._context)
        self._rejoining = Rejoining(
            self._context,
            self._current,
            ordering=self._ordering,
            execution=self._execution,
            checkpoints=self._checkpoints,
            witness=self._witness,
        )
        self._escort = Escort(self._context, self._current)
        self._courtesy = Courtesy(self._context, self._current, view_changes=self._view_changes, guilty=self._guilty)
        self._monitor = PrimaryMonitor(parameters, self._pending)
        self._deadlines = Deadlines()
        self._status_due_ns = 0  # monotonic
        self._patient_from_ns = 0  # request time-outs count from here at the earliest, monotonic
        self._executed_at_last_status: Seq = -1
        self._forgiven_at: tuple[View, Seq] | None = None  # when a pause of our own was last made allowance for
        self._passed_in_recovery: list[tuple[Seq, Digest]] = []
        self._repair = Repair(parameters)
        self._readable_from: Seq = 0  # a restarted replica told of this state, or an earlier one, before

    # --- what the shell and the observers may read

    @property
    def id(self) -> ReplicaId:
        return self._context.id

    @property
    def n(self) -> int:
        return self._context.quorums.n

    @property
    def quorums(self) -> Quorums:
        return self._context.quorums

    @property
    def view(self) -> View:
        return self._current.view

    @property
    def active(self) -> bool:
        """In normal operation, not in a view change."""
        return self._current.active

    @property
    def primary(self) -> ReplicaId:
        return self._context.quorums.primary(self._current.view)

    @property
    def last_executed(self) -> Seq:
        return self._execution.last_executed

    @property
    def stable(self) -> CheckpointCertificate:
        """The highest stable checkpoint known."""
        return self._checkpoints.stable

    @property
    def state_root(self) -> Digest:
        """Merkle root of the state after ``last_executed``; costs what changed since it was last computed."""
        return self._execution.root()

    @property
    def transferring(self) -> bool:
        """State transfer is under way."""
        return self._catch_up.transferring

    @property
    def repairing(self) -> bool:
        """Our state is wrong and is being fetched from peers: nothing may be read from it."""
        return self._repair.under_way

    @property
    def readable(self) -> bool:
        """Whether a read may be answered from the state: it is right, and none that we answered from before is newer.

        Fast reads need that a replica's answers and replies never go back, over a restart neither (docs/reads.md).  A
        mute replica may have lost its disk and does not know yet how far it was.
        """
        begun = max(self._readable_from, self._rejoining.until)
        return not (self._repair.under_way or self._context.voice.mute) and self.last_executed >= begun

    @property
    def silence(self) -> str:
        """Why it signs nothing, for people; empty while it speaks."""
        return self._rejoining.state

    @property
    def evidence(self) -> list[Evidence]:
        return list(self._guilty)

    @property
    def convictions(self) -> dict[ReplicaId, Seq]:
        """Who is on record as proven faulty, and since which sequence number."""
        return dict(self._execution.convictions)

    def is_redundant(self, vote: Prepare | Commit) -> bool:
        """A vote, not yet verified, that could change nothing here: its signature need not be checked.

        One that contradicts what we accepted, or an earlier one of its sender, never is: it may be evidence.
        """
        slot = self._ordering.log.get(vote.seq)
        if slot is None or slot.header is None or vote.view != self.view or slot.header.message.digest != vote.digest:
            return False
        useless = slot.certified is not None or (isinstance(vote, Prepare) and self.id in slot.commits)
        return useless and not self._witness.contradicts(vote)

    def expects(self, sender: ReplicaId, answer: type) -> bool:
        """Whether an answer of this type (Batches, Bodies, StateChunk, ReplyStable) from this peer was asked for."""
        if answer is ReplyStable:
            return self._rejoining.expects(sender)
        if answer is Batches:
            return self._catch_up.expects_batches(sender)
        if answer is StateChunk:
            return self._catch_up.expects_state(sender)
        return bool(self._ordering.missing_bodies())

    @property
    def sizes(self) -> dict[str, int]:
        """How much it holds of everything that others can make grow, for metrics and invariants."""
        return {
            "slots": len(self._ordering.log),
            "held": len(self._held),
            "pending": len(self._pending),
            "sessions": len(self._execution.sessions),
        }

    @property
    def next_deadline_ns(self) -> int | None:
        """When the shell must send a ``Tick``, on the monotonic clock."""
        return None if self._repair.hopeless else self._deadlines.earliest_ns

    def read_state(self, question: FetchState, now: Instant) -> StateChunk | StableCheckpoint:
        """Nodes of a checkpoint for a backup; of sequence number 0: which checkpoint there is to be read."""
        if question.seq == 0:
            return StableCheckpoint(self.stable) if self.stable.seq else StateChunk(0, ())
        return self._state_server.on_backup(question, now_ns=now.monotonic_ns)
