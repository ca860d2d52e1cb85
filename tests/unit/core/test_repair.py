"""A replica whose state is wrong: what it may say until it has the certified one, and how it goes on."""

from typing import Any

from bft.core import effects
from bft.core.events import StateDamaged
from bft.core.messages import (
    Batch,
    Batches,
    BatchResult,
    CertifiedBatch,
    Checkpoint,
    CheckpointCertificate,
    FetchState,
    Prepare,
    Reply,
    StableCheckpoint,
    StateChunk,
    Status,
)
from bft.statemachine import StateMachine
from tests.paper.stage import Stage, executed, sent

HONEST, WRONG = 1, 2


class Register(StateMachine):
    """Keeps each operation's seq; `wrong` makes it another service than the others run."""

    def __init__(self) -> None:
        self.wrong = False

    def apply(self, ctx, operation):
        ctx.store.put(b"seq-%d" % ctx.seq, b"wrong" if self.wrong else b"right")
        return b""


class Pair:
    """An honest backup and one whose service is wrong at some batches; the test plays the other two replicas."""

    def __init__(self, **parameters: int) -> None:
        self.service = Register()
        self.honest = Stage(n=4, me=HONEST, service=Register(), **parameters)
        self.wrong = Stage(n=4, me=WRONG, service=self.service, **parameters)
        self._order(1, registration=True)

    def _order(self, seq: int, *, registration: bool = False) -> None:
        for stage in (self.honest, self.wrong):
            request = stage.request(1) if registration else stage.request(seq, session=self._session(stage))
            commit(stage, seq, request)

    @staticmethod
    def _session(stage: Stage) -> int:
        replies = [e.reply for e in stage.effects if isinstance(e, effects.SendReply) and isinstance(e.reply, Reply)]
        return int.from_bytes(replies[0].outcome.results[0], "big")

    def order(self, first: int, last: int, *, wrong_at: int | None = None) -> None:
        for seq in range(first, last + 1):
            self.service.wrong = seq == wrong_at
            self._order(seq)
        self.service.wrong = False

    def catch_up(self, first: int, last: int) -> None:
        """Both execute what they have from replica 0 only, with its proof."""
        for stage in (self.honest, self.wrong):
            batches = [Batch(10**18, (stage.request(s, session=self._session(stage)),)) for s in range(first, last + 1)]
            certified = tuple(
                CertifiedBatch(batch, tuple(stage.commit(r, seq=seq, digest=batch.digest) for r in (0, 1, 3)))
                for seq, batch in enumerate(batches, first)
            )
            stage.receive(0, Status(0, True, last, 0, first))
            stage.wait(3 * stage.parameters.idle_status_interval_ns)
            stage.receive(0, Batches(certified))
            assert stage.replica.last_executed == last

    def certificate(self, seq: int) -> StableCheckpoint:
        root = {c.seq: c.root for c in sent(self.honest.effects, Checkpoint)}[seq]
        return StableCheckpoint(
            CheckpointCertificate(tuple(self.honest.checkpoint(r, seq=seq, root=root) for r in (0, HONEST, 3)))
        )

    def serve(self, happened: list[Any]) -> list[Any]:
        """Answer every FETCH-STATE from the honest replica's state, until none is asked; what happened then."""
        all_of_it: list[Any] = []
        while asked := [e for e in happened if isinstance(e, effects.Send) and isinstance(e.message, FetchState)]:
            happened = []
            for question in asked:
                answered = self.honest.receive(WRONG, question.message)
                (chunk,) = sent(answered, StateChunk)
                happened += self.wrong.receive(question.to, chunk)
            all_of_it += happened
        return all_of_it


def commit(stage: Stage, seq: int, request: Any) -> None:
    batch = Batch(10**18, (request,))
    stage.receive(0, stage.proposal(seq=seq, batch=batch))
    for replica in (r for r in range(1, 4) if r != stage.me):
        stage.receive(replica, stage.prepare(replica, seq=seq, digest=batch.digest))
    for replica in (r for r in range(4) if r != stage.me):
        stage.receive(replica, stage.commit(replica, seq=seq, digest=batch.digest))


def notes(happened: list[Any], kind: type) -> list[Any]:
    return [e for e in happened if isinstance(e, kind)]


def test_a_diverged_replica_takes_the_certified_state_and_executes_again_what_came_after_it():
    pair = Pair()
    pair.order(2, 7, wrong_at=4)
    pair.honest.receive(0, pair.certificate(4))
    happened = pair.wrong.receive(0, pair.certificate(4))
    assert len(notes(happened, effects.Diverged)) == 1
    assert pair.wrong.replica.repairing
    happened = pair.serve(happened)
    (repaired,) = notes(happened, effects.Repaired)
    assert (repaired.seq, [d.key for d in repaired.differences]) == (4, [b"aseq-4"])
    assert executed(happened) == [5, 6, 7]
    assert not pair.wrong.replica.repairing
    assert pair.wrong.replica.state_root == pair.honest.replica.state_root


def test_until_it_is_repaired_it_votes_on_order_but_executes_answers_and_certifies_nothing():
    pair = Pair()
    pair.order(2, 6, wrong_at=3)
    pair.honest.receive(0, pair.certificate(4))
    pair.wrong.receive(0, pair.certificate(4))
    before = len(pair.wrong.effects)
    pair.order(7, 8)
    pair.wrong.receive(0, pair.wrong.request(5, session=pair._session(pair.wrong)))
    pair.wrong.wait(2 * pair.wrong.parameters.idle_status_interval_ns)
    happened = pair.wrong.effects[before:]
    assert {prepare.header.message.seq for prepare in sent(happened, Prepare)} == {7, 8}
    assert executed(happened) == []
    assert sent(happened, Checkpoint) == []
    assert notes(happened, effects.SendReply) == []
    assert sent(happened, BatchResult) == []


def test_it_never_votes_for_two_roots_of_one_checkpoint():
    """That would be evidence against it, and its first vote is out already."""
    pair = Pair()
    pair.order(2, 8, wrong_at=4)
    said = [c.seq for c in sent(pair.wrong.effects, Checkpoint)]
    assert said == [4, 8]
    pair.honest.receive(0, pair.certificate(4))
    happened = pair.serve(pair.wrong.receive(0, pair.certificate(4)))
    happened += pair.wrong.wait(3 * pair.wrong.parameters.idle_status_interval_ns)
    assert executed(happened) == [5, 6, 7, 8]
    assert sent(happened, Checkpoint) == []
    pair.wrong.restart()
    assert sent(pair.wrong.effects, Checkpoint) == sent(pair.wrong.effects, Checkpoint)[:2]
    assert pair.wrong.replica.last_executed == 8


def test_what_the_archive_let_go_of_during_a_repair_is_not_executed_again():
    """A later checkpoint became stable meanwhile, and the batches up to it are more than the archive keeps."""
    pair = Pair(archive_batches_max=2)
    pair.order(2, 8, wrong_at=4)
    pair.honest.receive(0, pair.certificate(4))
    happened = pair.wrong.receive(0, pair.certificate(4))
    pair.wrong.receive(0, pair.certificate(8))
    happened = pair.serve(happened)
    assert [e.seq for e in notes(happened, effects.Repaired)] == [4]
    assert executed(happened) == []
    pair.honest.receive(0, pair.certificate(8))
    pair.serve(pair.wrong.wait(pair.wrong.parameters.idle_status_interval_ns))
    assert pair.wrong.replica.state_root == pair.honest.replica.state_root


def test_a_vote_that_more_recent_ones_pushed_out_is_not_cast_again_for_another_root():
    """Catch-up executes far beyond our stable checkpoint, when its certificates are lost."""
    pair = Pair()
    pair.order(2, 4)
    pair.honest.receive(0, pair.certificate(4))
    pair.wrong.receive(0, pair.certificate(4))
    pair.order(5, 8, wrong_at=7)
    pair.catch_up(9, 24)
    happened = pair.wrong.step(StateDamaged())
    happened += pair.serve(happened)
    assert executed(happened) == list(range(5, 25))
    said = set(sent(pair.wrong.effects, Checkpoint))
    assert sorted(checkpoint.seq for checkpoint in said) == [4, 8, 12, 16, 20, 24]


def test_who_diverges_again_soon_has_to_stop():
    pair = Pair()
    pair.order(2, 8, wrong_at=4)
    pair.honest.receive(0, pair.certificate(4))
    pair.serve(pair.wrong.receive(0, pair.certificate(4)))
    pair.honest.receive(0, pair.certificate(8))
    pair.wrong.receive(0, pair.certificate(8))
    pair.order(9, 12, wrong_at=10)
    happened = pair.wrong.receive(0, pair.certificate(12))
    assert notes(happened, effects.CannotRepair) == [effects.CannotRepair(12, 4)]
    assert pair.wrong.wait(10**10) == []


def test_a_damaged_state_is_repaired_as_a_diverged_one_is():
    pair = Pair()
    pair.order(2, 6)
    pair.honest.receive(0, pair.certificate(4))
    pair.wrong.receive(0, pair.certificate(4))
    happened = pair.wrong.step(StateDamaged())
    happened += pair.serve(happened)
    assert [e.seq for e in notes(happened, effects.Repaired)] == [4]
    assert executed(happened) == [5, 6]
    assert pair.wrong.replica.state_root == pair.honest.replica.state_root


def test_without_a_stable_checkpoint_a_damaged_state_is_the_end():
    pair = Pair()
    happened = pair.wrong.step(StateDamaged())
    assert notes(happened, effects.CannotRepair) == [effects.CannotRepair(0, None)]
