"""A hand-driven replica: the test plays all the others, who sign with their own handles."""

from __future__ import annotations

from typing import Any

from bft.core import effects
from bft.core.events import ClientRequest, Instant, Received, Start, Tick
from bft.core.messages import (
    Authenticated,
    Batch,
    Checkpoint,
    CheckpointCertificate,
    Commit,
    Digest,
    NewView,
    PeerMessage,
    Prepare,
    PreparedCertificate,
    PrePrepare,
    Proposal,
    Request,
    RequestKind,
    ViewChange,
)
from bft.core.new_view import headers
from bft.core.parameters import Parameters
from bft.core.replica import Replica
from bft.statemachine import StateMachine
from bft.statemachine.kv import KeyValue
from bft.statemachine.replicated import ReplicatedState
from bft.testing.symbolic import ClientSigner, Registry, SymbolicAdmission, SymbolicSigner, symbolic_certificate

CLIENT = b"c" * 32


class Stage:
    """One real replica core and handles to sign as anybody else."""

    def __init__(
        self, *, n: int, me: int, checkpoint_interval: int = 4, service: StateMachine | None = None, **overrides: Any
    ) -> None:
        self.n, self.me = n, me
        self._service = service or KeyValue()
        self.parameters = Parameters(
            n=n, checkpoint_interval=checkpoint_interval, window=2 * checkpoint_interval, **overrides
        )
        registry = Registry(n)
        self.signers = [SymbolicSigner(registry, replica) for replica in range(n)]
        self._client = ClientSigner(registry, CLIENT)
        self.now = Instant(0, 10**18)
        self.effects: list[Any] = []
        self.replica = self._new_replica()
        self.step(Start())

    def _new_replica(self) -> Replica:
        return Replica(
            id=self.me,
            parameters=self.parameters,
            signer=self.signers[self.me],
            admission=SymbolicAdmission(),
            application=ReplicatedState(self._service),
        )

    # --- driving

    def step(self, event: Any) -> list[Any]:
        new = self.replica.step(event, self.now)
        self.effects += new
        return new

    def receive(self, sender: int, message: PeerMessage) -> list[Any]:
        return self.step(Received(sender, message))

    def wait(self, nanoseconds: int) -> list[Any]:
        """Let the time pass, timers included."""
        new: list[Any] = []
        end = self.now.monotonic_ns + nanoseconds
        while (due := self.replica.next_deadline_ns) is not None and due <= end:
            self.now = Instant(max(due, self.now.monotonic_ns), self.now.wall_ns)
            new += self.step(Tick())
        self.now = Instant(end, self.now.wall_ns + nanoseconds)
        return new

    def restart(self) -> None:
        """Crash and recover from everything that was persisted."""
        records = [e.record for e in self.effects if isinstance(e, effects.Persist)]
        self.replica = self._new_replica()
        self.replica.recover(records, CheckpointCertificate(()))
        self.step(Start())

    # --- what others say

    def request(self, number: int, *, session: int = 0) -> Authenticated[Request]:
        """A registration when ``session`` is 0."""
        if session == 0:
            certificate = symbolic_certificate(CLIENT)
            return self._client.sign(Request(CLIENT, 0, number, 0, RequestKind.REGISTER, (certificate,)))
        return self._client.sign(Request(CLIENT, session, number, 0, RequestKind.APPLICATION, (b"operation",)))

    def batch(self, number: int = 1) -> Batch:
        return Batch(self.now.wall_ns, (self.request(number),))

    def header(self, *, view: int, seq: int, digest: Digest) -> Authenticated[PrePrepare]:
        primary = view % self.n
        return self.signers[primary].sign(PrePrepare(view, seq, digest, primary))

    def proposal(self, *, view: int = 0, seq: int, batch: Batch) -> Proposal:
        return Proposal(self.header(view=view, seq=seq, digest=batch.digest), batch)

    def prepare(self, replica: int, *, view: int = 0, seq: int, digest: Digest) -> Authenticated[Prepare]:
        return self.signers[replica].sign(Prepare(self.header(view=view, seq=seq, digest=digest), replica))

    def commit(self, replica: int, *, view: int = 0, seq: int, digest: Digest) -> Authenticated[Commit]:
        return self.signers[replica].sign(Commit(view, seq, digest, replica))

    def checkpoint(self, replica: int, *, seq: int, root: Digest) -> Authenticated[Checkpoint]:
        return self.signers[replica].sign(Checkpoint(seq, root, replica))

    def prepared(self, *, view: int, seq: int, digest: Digest) -> PreparedCertificate:
        backups = [replica for replica in range(self.n) if replica != view % self.n]
        votes = tuple(self.prepare(b, view=view, seq=seq, digest=digest) for b in backups)
        return PreparedCertificate(self.header(view=view, seq=seq, digest=digest), votes[: self.quorum - 1])

    def view_change(self, replica: int, *, view: int, prepared: tuple[PreparedCertificate, ...] = ()) -> Any:
        return self.signers[replica].sign(ViewChange(view, CheckpointCertificate(()), prepared, replica))

    def new_view(self, view: int, view_changes: list[Authenticated[ViewChange]]) -> Authenticated[NewView]:
        """The one that a correct primary sends."""
        primary = self.signers[view % self.n]
        proposed = headers(view, [v.message for v in view_changes], self.replica.quorums)
        return primary.sign(NewView(view, tuple(view_changes), tuple(primary.sign(h) for h in proposed), view % self.n))

    @property
    def quorum(self) -> int:
        return self.replica.quorums.quorum

    def commit_batch(self, seq: int, *, view: int = 0) -> Batch:
        """Everybody agrees on a batch."""
        batch = self.batch(seq)
        primary = view % self.n
        if self.me == primary:
            self.step(ClientRequest(batch.requests[0]))
        else:
            self.receive(primary, self.proposal(view=view, seq=seq, batch=batch))
        for replica in range(self.n):
            if replica not in (primary, self.me):
                self.receive(replica, self.prepare(replica, view=view, seq=seq, digest=batch.digest))
        for replica in range(self.n):
            if replica != self.me:
                self.receive(replica, self.commit(replica, view=view, seq=seq, digest=batch.digest))
        return batch


def sent(happened: list[Any], message_type: type) -> list[Any]:
    """Messages of one type that were sent or broadcast."""
    messages = [e.message for e in happened if isinstance(e, effects.Send | effects.Broadcast)]
    inner = [(m.message if isinstance(m, Authenticated) else m) for m in messages]
    return [m for m in inner if isinstance(m, message_type)]


def rejections(happened: list[Any]) -> list[effects.Rejection]:
    return [e.reason for e in happened if isinstance(e, effects.Rejected)]


def executed(happened: list[Any]) -> list[int]:
    return [e.seq for e in happened if isinstance(e, effects.Executed)]
