"""Byzantine sources must not keep a laggard from catching up (DESIGN §4, State transfer)."""

from typing import Any

import msgpack
import pytest

from bft.core import effects
from bft.core.messages import (
    Authenticated,
    Batch,
    Batches,
    CertifiedBatch,
    Checkpoint,
    CheckpointCertificate,
    FetchBatches,
    FetchState,
    Request,
    RequestKind,
    StableCheckpoint,
    StateChunk,
    Status,
)
from bft.core.parameters import MS, SECOND
from bft.statemachine.kv import encode_put
from bft.testing.symbolic import symbolic_certificate
from tests.paper.stage import CLIENT, Stage, sent

SESSION = 1 << 16


def signed(session: int, number: int, kind: RequestKind, *operations: bytes) -> Authenticated[Request]:
    request = Request(CLIENT, session, number, 0, kind, operations)
    return Authenticated(request, msgpack.packb((session, number, *operations)), bytes(64))


def order(stage: Stage, seq: int, *requests: Authenticated[Request]) -> None:
    """Everybody agrees on a batch of these."""
    batch = Batch(stage.now.wall_ns, requests)
    stage.receive(0, stage.proposal(seq=seq, batch=batch))
    for replica in (1, 3):
        stage.receive(replica, stage.prepare(replica, seq=seq, digest=batch.digest))
    for replica in (0, 1, 3):
        stage.receive(replica, stage.commit(replica, seq=seq, digest=batch.digest))


@pytest.fixture
def donor() -> Stage:
    """Replica 2 after four batches: a state of some hundred nodes."""
    stage = Stage(n=4, me=2)
    order(stage, 1, signed(0, 1, RequestKind.REGISTER, symbolic_certificate(CLIENT)))
    for seq in range(2, 5):
        puts = [encode_put(b"%d-%d" % (seq, i), b"v") for i in range(100)]
        order(stage, seq, signed(SESSION, seq, RequestKind.APPLICATION, *puts))
    return stage


def certificate(stage: Stage) -> CheckpointCertificate:
    (own,) = sent(stage.effects, Checkpoint)
    return CheckpointCertificate(tuple(stage.checkpoint(r, seq=own.seq, root=own.root) for r in (0, 2, 3)))


def test_a_source_that_drips_does_not_keep_us_from_asking_the_silent_ones_again(donor: Stage) -> None:
    """One node just before each time-out re-arms it for ever; the others' first answers were lost."""
    laggard = Stage(n=4, me=1)
    laggard.receive(3, StableCheckpoint(certificate(donor)))
    asked: list[Any] = []
    for _ in range(20):
        happened = laggard.wait(900 * MS)
        asked += [e.to for e in happened if isinstance(e, effects.Send) and isinstance(e.message, FetchState)]
        to_liar = [
            e.message
            for e in laggard.effects
            if isinstance(e, effects.Send) and e.to == 3 and isinstance(e.message, FetchState)
        ]
        if to_liar:
            (whole,) = sent(donor.receive(3, FetchState(4, to_liar[-1].paths)), StateChunk)
            new = laggard.receive(3, StateChunk(4, whole.nodes[:1]))
            asked += [e.to for e in new if isinstance(e, effects.Send) and isinstance(e.message, FetchState)]
    assert asked.count(0) > 1 or asked.count(2) > 1


def test_a_transfer_whose_sources_moved_on_goes_for_the_newest_checkpoint_though_a_liar_serves_the_old_one(
    donor: Stage,
) -> None:
    """The correct peers answer empty; the liar drips; we learn of a newer checkpoint: it is the target from then on."""
    laggard = Stage(n=4, me=1)
    laggard.receive(3, StableCheckpoint(certificate(donor)))
    laggard.wait(1 * SECOND)
    for peer in (0, 2):
        laggard.receive(peer, StateChunk(4, ()))
    newer = CheckpointCertificate(tuple(laggard.checkpoint(r, seq=8, root=bytes(32)) for r in (0, 2, 3)))
    laggard.receive(0, StableCheckpoint(newer))
    targets: list[int] = []
    for _ in range(20):
        happened = laggard.wait(900 * MS)
        targets += [m.seq for m in sent(happened, FetchState)]
        to_liar = [
            e.message
            for e in laggard.effects
            if isinstance(e, effects.Send) and e.to == 3 and isinstance(e.message, FetchState)
        ]
        if to_liar:
            (whole,) = sent(donor.receive(3, FetchState(4, to_liar[-1].paths)), StateChunk)
            targets += [m.seq for m in sent(laggard.receive(3, StateChunk(4, whole.nodes[:1])), FetchState)]
    assert 8 in targets


def test_one_peer_that_drips_batches_does_not_keep_us_from_the_state(donor: Stage) -> None:
    """It alone claims an archive that reaches back; one batch each time counts as progress."""
    laggard = Stage(n=4, me=1)
    newer = CheckpointCertificate(tuple(laggard.checkpoint(r, seq=400, root=bytes(32)) for r in (0, 2, 3)))
    for peer in (0, 2):
        laggard.receive(peer, Status(0, True, 400, 400, 380))
    laggard.receive(3, Status(0, True, 400, 400, 1))
    laggard.receive(0, StableCheckpoint(newer))
    happened: list[Any] = []
    for _ in range(100):
        happened += laggard.wait(200 * MS)
        happened += laggard.receive(3, next_batch(laggard))
    assert sent(happened, FetchState)


def next_batch(stage: Stage) -> Batches:
    """Just the one that the replica lacks, with its proof."""
    seq = stage.replica.last_executed + 1
    batch = stage.batch(seq)
    commits = tuple(stage.commit(r, seq=seq, digest=batch.digest) for r in (0, 2, 3))
    return Batches((CertifiedBatch(batch, commits),))


def test_correct_peers_that_answered_empty_once_are_asked_again_though_one_stays_silent(donor: Stage) -> None:
    """Found by simulation (seed 57, n = 4): they did not hold the checkpoint yet; the one left to ask was the liar."""
    laggard = Stage(n=4, me=1)
    laggard.receive(3, StableCheckpoint(certificate(donor)))
    laggard.wait(1 * SECOND)
    for peer in (0, 2):
        laggard.receive(peer, StateChunk(4, ()))
    happened = laggard.wait(5 * SECOND)
    asked = {e.to for e in happened if isinstance(e, effects.Send) and isinstance(e.message, FetchState)}
    assert asked >= {0, 2}


def test_a_late_answer_to_an_earlier_question_says_nothing_against_its_sender(donor: Stage) -> None:
    """Found by simulation (seed 57, n = 4)."""
    laggard = Stage(n=4, me=1)
    laggard.receive(3, StableCheckpoint(certificate(donor)))
    happened = laggard.wait(1 * SECOND)
    (root,) = [m for m in sent(happened, FetchState) if m.paths == (b"",)]
    (answer,) = sent(donor.receive(0, FetchState(4, (b"",))), StateChunk)
    questions = [e for e in happened if isinstance(e, effects.Send) and e.message == root]
    happened = laggard.receive(questions[0].to, answer)
    asked = [e.to for e in happened if isinstance(e, effects.Send) and isinstance(e.message, FetchState)]
    late = laggard.receive(asked[0], answer)
    assert [e.reason for e in late if isinstance(e, effects.Rejected)] == ["not asked for"]


def test_batches_that_come_later_than_the_next_status_are_taken() -> None:
    """Links with a round trip of 700 ms, or a megabyte on a slow one: each answer comes when another peer was asked."""
    laggard = Stage(n=4, me=1)
    for peer in (0, 2, 3):
        laggard.receive(peer, Status(0, True, 3, 0, 1))
    answers: list[tuple[int, int]] = []  # when, by whom
    for _ in range(100):
        happened = laggard.wait(50 * MS)
        now = laggard.now.monotonic_ns
        asked = [e.to for e in happened if isinstance(e, effects.Send) and isinstance(e.message, FetchBatches)]
        answers += [(now + 700 * MS, peer) for peer in asked]
        for _, peer in [answer for answer in answers if answer[0] <= now]:
            laggard.receive(peer, next_batch(laggard))
        answers = [answer for answer in answers if answer[0] > now]
    assert laggard.replica.last_executed >= 3


def test_state_that_comes_later_than_the_transfer_time_out_is_taken(donor: Stage) -> None:
    """Every answer takes 1.5 s: the time-out is there to ask others too, not to refuse what is true."""
    laggard = Stage(n=4, me=1)
    laggard.receive(3, StableCheckpoint(certificate(donor)))
    answers: list[tuple[int, int, FetchState]] = []  # when, by whom, to what
    for _ in range(600):
        happened = laggard.wait(50 * MS)
        for _, peer, question in [answer for answer in answers if answer[0] <= laggard.now.monotonic_ns]:
            (chunk,) = sent(donor.receive(peer, question), StateChunk)
            happened += laggard.receive(peer, chunk)
        now = laggard.now.monotonic_ns
        answers = [answer for answer in answers if answer[0] > now]
        answers += [
            (now + 1500 * MS, e.to, e.message)
            for e in happened
            if isinstance(e, effects.Send) and isinstance(e.message, FetchState)
        ]
    assert laggard.replica.last_executed == 4


def test_an_answer_that_comes_twice_does_not_count_as_the_one_to_the_next_question(donor: Stage) -> None:
    """Found by simulation (seed 15, n = 7): who had answered every question was taken for a liar."""
    laggard = Stage(n=4, me=1)
    happened = laggard.receive(3, StableCheckpoint(certificate(donor))) + laggard.wait(1 * SECOND)
    (first,) = [e for e in happened if isinstance(e, effects.Send) and isinstance(e.message, FetchState)]
    (answer,) = sent(donor.receive(first.to, first.message), StateChunk)
    happened = laggard.receive(first.to, answer)
    (second,) = [e for e in happened if isinstance(e, effects.Send) and e.to == first.to]
    again = laggard.receive(first.to, answer)
    (answer,) = sent(donor.receive(first.to, second.message), StateChunk)
    happened = laggard.receive(first.to, answer)
    assert [e.reason for e in again if isinstance(e, effects.Rejected)] == ["not asked for"]
    assert [e for e in happened if isinstance(e, effects.Rejected)] == []


def test_every_peer_is_asked_though_so_many_are_silent_that_all_the_others_may_be_faulty(donor: Stage) -> None:
    """Found by simulation (seed 15, n = 7): the two that were dead were asked in turn for ever, and two never."""
    laggard = Stage(n=4, me=1)
    happened = laggard.receive(3, StableCheckpoint(certificate(donor))) + laggard.wait(1 * SECOND)
    asked = [e.to for e in happened if isinstance(e, effects.Send) and isinstance(e.message, FetchState)]
    laggard.receive(asked[0], StateChunk(4, ()))
    for _ in range(8):
        happened = laggard.wait(1 * SECOND)
        asked += [e.to for e in happened if isinstance(e, effects.Send) and isinstance(e.message, FetchState)]
    assert set(asked) == {0, 2, 3}
