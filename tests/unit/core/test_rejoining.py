"""The amnesia guard: what a restarted replica asks, whom it believes, and when it speaks again."""

from typing import Any

import pytest

from bft.core import effects as fx
from bft.core.context import Context, CurrentView
from bft.core.effects import Outbox, Rejection
from bft.core.escort import Escort
from bft.core.events import Instant, Received, Start, Tick
from bft.core.messages import (
    GENESIS,
    NULL_DIGEST,
    Authenticated,
    Batch,
    CheckpointCertificate,
    Commit,
    NewView,
    Proposal,
    QueryStable,
    ReplyStable,
    StableCheckpoint,
)
from bft.core.parameters import MS, Parameters
from bft.core.quorum import Quorums
from bft.testing.symbolic import Registry, SymbolicSigner
from tests.paper.stage import Stage

NONCE = 7
L = 8  # window of the stage
WAITED = 500 * MS  # longer than the grace


class Restarted(Stage):
    """A replica that starts again from what was persisted, or from a part of it, or from nothing."""

    def again(self, *, nonce: int = NONCE, records: list[Any] | None = None, amnesiac: bool = False) -> list[Any]:
        if records is None:
            records = self.records
        self.replica = self._new_replica()
        self.replica.recover(records, CheckpointCertificate(()))
        return self.step(Start(nonce, amnesiac))

    @property
    def records(self) -> list[Any]:
        return [e.record for e in self.effects if isinstance(e, fx.Persist)]

    def certificate(self, seq: int) -> CheckpointCertificate:
        votes = [self.checkpoint(replica, seq=seq, root=b"r" * 32) for replica in range(self.n) if replica != self.me]
        return CheckpointCertificate(tuple(votes[: self.replica.quorums.quorum])) if seq else GENESIS

    def answer(
        self, sender: int, *, nonce: int = NONCE, view: int = 0, stable: int = 0, votes: Any = (), changes: Any = ()
    ) -> list[Any]:
        return self.receive(sender, ReplyStable(nonce, view, self.certificate(stable), tuple(votes), tuple(changes)))


@pytest.fixture
def stage():
    return Restarted(n=4, me=1)


def said(new: list[Any]) -> list[str]:
    """The signed statements that leave, by type."""
    messages = [e.message for e in new if isinstance(e, fx.Broadcast | fx.Send)]
    return [type(m.message).__name__ for m in messages if isinstance(m, Authenticated)] + [
        "Proposal" for m in messages if isinstance(m, Proposal)
    ]


def asked(new: list[Any]) -> dict[int, QueryStable]:
    return {e.to: e.message for e in new if isinstance(e, fx.Send) and isinstance(e.message, QueryStable)}


def prepared(stage: Restarted) -> None:
    """Replica 1 PREPAREs a batch at 1 in view 0."""
    assert said(stage.receive(0, stage.proposal(seq=1, batch=stage.batch()))) == ["Prepare"]


class TestAsking:
    def test_the_first_start_of_all_speaks_at_once(self, stage):
        assert stage.replica.silence == ""
        prepared(stage)

    def test_every_other_start_asks_all_peers(self, stage):
        assert asked(stage.again()) == {peer: QueryStable(NONCE, 0, 0) for peer in (0, 2, 3)}

    def test_it_signs_nothing_before_quorum_less_one_answered(self, stage):
        stage.again()
        new = stage.receive(0, stage.proposal(seq=1, batch=stage.batch()))
        new += stage.answer(0) + stage.wait(WAITED)
        assert said(new) == []
        assert "asking" in stage.replica.silence

    def test_it_says_then_what_it_left_unsaid(self, stage):
        stage.again()
        stage.receive(0, stage.proposal(seq=1, batch=stage.batch()))
        assert said(stage.answer(0) + stage.answer(2) + stage.answer(3)) == ["Prepare"]
        assert stage.replica.silence == ""

    def test_it_waits_a_grace_for_the_last_peers(self, stage):
        stage.again()
        stage.answer(0)
        stage.answer(2)
        assert stage.replica.silence != ""
        stage.wait(WAITED)
        assert stage.replica.silence == ""

    def test_an_answer_to_an_earlier_start_counts_for_nothing(self, stage):
        stage.again()
        for peer in (0, 2, 3):
            assert fx.Rejected(peer, "ReplyStable", Rejection.NOT_WANTED) in stage.answer(peer, nonce=NONCE - 1)
        assert stage.replica.silence != ""

    def test_one_peer_answers_once(self, stage):
        stage.again()
        stage.answer(0)
        assert fx.Rejected(0, "ReplyStable", Rejection.DUPLICATE) in stage.answer(0)
        stage.wait(WAITED)
        assert stage.replica.silence != ""

    def test_votes_of_others_are_refused(self, stage):
        """Else a liar could pass its own votes off as ours."""
        stage.again()
        foreign = stage.commit(0, seq=1, digest=NULL_DIGEST)
        assert fx.Rejected(0, "ReplyStable", Rejection.WRONG_SIGNER) in stage.answer(0, votes=[foreign])

    def test_a_checkpoint_without_a_quorum_is_refused(self, stage):
        stage.again()
        two = CheckpointCertificate(stage.certificate(4).checkpoints[:2])
        new = stage.receive(0, ReplyStable(NONCE, 0, two, (), ()))
        assert fx.Rejected(0, "ReplyStable", Rejection.BAD_CERTIFICATE) in new

    def test_what_the_log_holds_is_not_missed(self, stage):
        prepared(stage)
        vote = stage.prepare(1, seq=1, digest=stage.batch().digest)
        stage.again()
        for peer in (0, 2, 3):
            stage.answer(peer, votes=[vote])
        assert stage.replica.silence == ""

    def test_a_peer_returns_what_it_holds_of_the_asker(self, stage):
        stage.receive(0, stage.proposal(seq=1, batch=stage.batch()))
        vote = stage.prepare(2, seq=1, digest=stage.batch().digest)
        change = stage.view_change(2, view=1)
        stage.receive(2, vote)
        stage.receive(2, change)
        new = stage.receive(2, QueryStable(9, 0, 0))
        assert fx.Send(2, ReplyStable(9, 0, GENESIS, (vote,), (change,))) in new

    def test_what_a_third_one_showed_first_crowds_out_nothing_of_what_is_returned(self, stage):
        """A liar that relays all votes ahead of the links of their signer made each count twice."""
        votes = [stage.prepare(2, seq=seq, digest=NULL_DIGEST) for seq in range(1, L + 1)]
        votes += [stage.commit(2, seq=seq, digest=NULL_DIGEST) for seq in range(1, L + 1)]
        for sender in (3, 2):
            for vote in votes:
                stage.receive(sender, vote)
        (answer,) = [
            e.message
            for e in stage.receive(2, QueryStable(9, 0, 0))
            if isinstance(e, fx.Send) and isinstance(e.message, ReplyStable)
        ]
        assert [vote for vote in votes if vote not in answer.votes] == []

    def test_questions_are_answered_twice_a_status_interval_at_most(self, stage):
        new = [effect for _ in range(100) for effect in stage.receive(2, QueryStable(9, 0, 0))]
        assert len([e for e in new if isinstance(e, fx.Send) and isinstance(e.message, ReplyStable)]) == 1


LOST = {
    "a PREPARE": lambda s: ([s.prepare(1, seq=1, digest=NULL_DIGEST)], []),
    "a COMMIT": lambda s: ([s.commit(1, seq=1, digest=NULL_DIGEST)], []),
    "a CHECKPOINT": lambda s: ([s.checkpoint(1, seq=4, root=b"r" * 32)], []),
    "a VIEW-CHANGE": lambda s: ([], [s.view_change(1, view=1)]),
    "a vote of a later view": lambda s: ([s.signers[1].sign(Commit(3, 1, NULL_DIGEST, 1))], []),
}


class TestAmnesia:
    @pytest.mark.parametrize("name", LOST)
    def test_a_returned_statement_that_the_log_lacks_silences_the_replica(self, stage, name):
        stage.again()
        votes, changes = LOST[name](stage)
        new = stage.answer(0, votes=votes, changes=changes)
        assert fx.Persist(fx.Silenced(0, 0)) in new
        stage.answer(2)
        stage.answer(3)
        stage.wait(WAITED)
        assert "lost its disk" in stage.replica.silence

    def test_also_when_a_newer_stable_checkpoint_covers_it_by_now(self, stage):
        """Peers send their stable checkpoint at once; it proves nothing about what else the log lacks."""
        stage.again()
        stage.receive(0, StableCheckpoint(stage.certificate(8)))
        stage.answer(0, stable=8, votes=[stage.commit(1, seq=3, digest=NULL_DIGEST)])
        assert "lost its disk" in stage.replica.silence

    def test_a_newer_stable_checkpoint_does_not_make_the_log_forget(self, stage):
        prepared(stage)
        vote = stage.prepare(1, seq=1, digest=stage.batch().digest)
        stage.again()
        stage.receive(0, StableCheckpoint(stage.certificate(8)))
        for peer in (0, 2, 3):
            stage.answer(peer, stable=8, votes=[vote])
        assert stage.replica.silence == ""

    def test_a_vote_in_a_view_that_the_log_does_not_show_as_begun_is_lost(self, stage):
        """The log ends between our VIEW-CHANGE and the NEW-VIEW."""
        left = fx.LeftView(stage.view_change(1, view=1))
        stage.again(records=[left])
        stage.answer(0, votes=[stage.commit(1, view=1, seq=1, digest=NULL_DIGEST)], view=1)
        assert "lost its disk" in stage.replica.silence

    def test_also_when_it_is_returned_late(self, stage):
        """The peer that knew was cut off when the others answered."""
        stage.again()
        stage.answer(0)
        stage.answer(2)
        stage.wait(WAITED)
        assert stage.replica.silence == ""
        stage.answer(3, changes=[stage.view_change(1, view=1)])
        assert "lost its disk" in stage.replica.silence

    def test_the_bounds_need_a_quorum_of_others(self, stage):
        stage.again(amnesiac=True)
        stage.answer(0)
        stage.answer(2)
        assert "2 of 3 peers" in stage.replica.silence
        assert fx.Persist(fx.Silenced(2 * L, 3)) in stage.answer(3)

    def test_h_is_two_windows_above_the_highest_checkpoint_that_is_proven(self, stage):
        stage.again(amnesiac=True)
        stage.answer(0, stable=4)
        stage.answer(2, stable=16)
        new = stage.answer(3, stable=8)
        assert fx.FellSilent(16 + 2 * L, 3) in new

    def test_one_liar_cannot_raise_the_bound_on_views(self, stage):
        """It is the quorum-th smallest claim: for a while it may be a liar's, until the correct ones answered."""
        stage = Restarted(n=7, me=1)
        stage.again(amnesiac=True)
        stage.answer(0, view=2**60)
        for peer in (2, 3, 4):
            stage.answer(peer, view=5)
        assert fx.FellSilent(2 * L, 2**60 + 4) in stage.answer(5, view=5)
        assert fx.FellSilent(2 * L, 5 + 4) in stage.answer(6, view=5)

    def test_liars_cannot_lower_the_bound_below_what_a_quorum_did(self, stage):
        stage = Restarted(n=7, me=1)
        stage.again(amnesiac=True)
        for peer in (0, 2):
            stage.answer(peer, view=0)
        for peer in (3, 4):
            stage.answer(peer, view=5)
        assert fx.FellSilent(2 * L, 5 + 4) in stage.answer(5, view=5)

    def test_a_crash_does_not_end_the_silence(self, stage):
        stage.again(amnesiac=True)
        for peer in (0, 2, 3):
            stage.answer(peer)
        stage.again(nonce=NONCE + 1)
        for peer in (0, 2, 3):
            stage.answer(peer, nonce=NONCE + 1)
        stage.wait(WAITED)
        assert stage.replica.silence == f"lost its disk: silent until checkpoint {2 * L} and a view above 3"

    def test_who_is_silent_answers_no_one(self, stage):
        """It does not know what it saw: with its answer a quorum would not be one."""
        stage.again(amnesiac=True)
        new = stage.receive(2, QueryStable(9, 0, 0))
        assert fx.Rejected(2, "QueryStable", Rejection.UNANSWERABLE) in new

    def test_who_only_asks_answers(self, stage):
        """Else all replicas restarting at once would wait for each other for ever."""
        stage.again()
        new = stage.receive(2, QueryStable(9, 0, 0))
        assert fx.Send(2, ReplyStable(9, 0, GENESIS, (), ())) in new

    @pytest.mark.parametrize("way", ["f+1 view-changes", "a new-view"])
    def test_a_higher_view_alone_does_not_end_the_silence(self, stage, way):
        stage.again(amnesiac=True)
        for peer in (0, 2, 3):
            stage.answer(peer)
        changes = tuple(stage.view_change(replica, view=4) for replica in (0, 2, 3))
        if way == "a new-view":
            new = stage.receive(0, stage.signers[0].sign(NewView(4, changes, (), 0)))
        else:
            new = stage.receive(0, changes[0]) + stage.receive(2, changes[1]) + stage.receive(3, changes[2])
        assert said(new + stage.wait(WAITED)) == []
        assert stage.replica.silence != ""


def escort(*, view: int = 0) -> Escort:
    parameters = Parameters(n=4, checkpoint_interval=4, window=L)
    return Escort(Context(0, parameters, Quorums.of(4), SymbolicSigner(Registry(4), 0)), CurrentView(view))


class TestEscort:
    """What a replica that lies about its disk can make the others do."""

    def test_batches_are_wanted_up_to_what_can_be_true(self):
        helper = escort()
        helper.on_query(1, QueryStable(1, 4 + 2 * L, 3), stable=4, now_ns=0)
        assert helper.wants_batch(4 + 2 * L)
        assert not helper.wants_batch(5 + 2 * L)

    def test_an_impossible_claim_brings_nothing(self):
        helper = escort()
        helper.on_query(1, QueryStable(1, 2**63, 3), stable=4, now_ns=0)
        assert not helper.wants_batch(5)

    def test_a_claim_that_rises_for_ever_brings_one_favour_in_the_interval(self):
        helper = escort()
        for stable in range(0, 400, 4):
            helper.on_query(1, QueryStable(1, stable + 2 * L, 3), stable=stable, now_ns=stable)
        assert not helper.wants_batch(2 * L + 1)

    def test_the_view_changes_once_h_is_passed(self):
        helper, query = escort(), QueryStable(1, 2 * L, 3)
        helper.on_query(2, query, stable=0, now_ns=0)
        assert helper.view_wanted(2, query, stable=2 * L - 4) is None
        assert helper.view_wanted(2, query, stable=2 * L) == 0

    def test_a_silent_primary_is_left_at_once(self):
        helper, query = escort(), QueryStable(1, 2 * L, 3)
        helper.on_query(0, query, stable=0, now_ns=0)
        assert helper.view_wanted(0, query, stable=0) == 0

    def test_the_next_primary_is_not_the_one_that_asks(self):
        helper, query = escort(), QueryStable(1, 2 * L, 3)
        helper.on_query(1, query, stable=0, now_ns=0)
        assert helper.view_wanted(1, query, stable=2 * L) == 1

    def test_a_liar_makes_no_more_than_a_few_view_changes(self):
        helper, query = escort(), QueryStable(1, 2 * L, 3)
        helper.on_query(2, query, stable=0, now_ns=0)
        made = [helper.view_wanted(2, query, stable=2 * L) for _ in range(1000)]
        assert len([view for view in made if view is not None]) == 6

    def test_what_nobody_asked_for_is_counted_for_each_primary_in_an_interval(self):
        helper, interval_ns = escort(), Parameters(n=4).rejoin_interval_ns
        for _ in range(4 * 4 * L):
            assert helper.tolerates_batch(1, now_ns=0)
            helper.note_unasked(1, now_ns=0)
        assert not helper.tolerates_batch(1, now_ns=interval_ns - 1)
        assert helper.tolerates_batch(2, now_ns=0)
        helper.note_unasked(1, now_ns=interval_ns)
        assert helper.tolerates_batch(1, now_ns=interval_ns)

    def test_a_view_far_away_is_not_led_to(self):
        helper, query = escort(), QueryStable(1, 2 * L, 2**40)
        helper.on_query(2, query, stable=0, now_ns=0)
        assert helper.view_wanted(2, query, stable=2 * L) is None


def test_an_empty_batch_that_nobody_asked_us_for_may_be_what_somebody_asked_the_primary_for(stage):
    empty = Batch(stage.now.wall_ns, ())
    assert said(stage.receive(0, stage.proposal(seq=1, batch=empty))) == ["Prepare"]


def test_a_primary_that_proposes_nothing_for_ever_is_refused_unless_a_silent_replica_waits_for_it(stage):
    """Else a faulty primary could make all of them write the log for nothing."""
    for _ in range(4 * 4 * L):
        stage.replica._escort.note_unasked(0, now_ns=stage.now.monotonic_ns)
    empty = Batch(stage.now.wall_ns, ())
    assert said(stage.receive(0, stage.proposal(seq=1, batch=empty))) == []
    stage.receive(3, QueryStable(9, 2 * L, 3))
    assert said(stage.receive(0, stage.proposal(seq=1, batch=empty))) == ["Prepare"]


def test_an_idle_primary_fills_the_log_up_to_h_and_no_further():
    stage = Restarted(n=1, me=0)
    stage.step(Received(0, QueryStable(0, 2 * L, 3)))
    assert stage.replica.last_executed == 2 * L


def test_no_question_keeps_the_timers_from_resting(stage):
    """Once all answered nothing more is asked, and time passes without a flood."""
    stage.again()
    for peer in (0, 2, 3):
        stage.answer(peer)
    stage.now = Instant(stage.now.monotonic_ns + WAITED, stage.now.wall_ns)
    assert asked(stage.step(Tick())) == {}


def test_a_second_restart_before_the_answers_does_not_hide_that_the_log_was_rolled_back(stage):
    """Mute, it entered view 2 with the others; after a crash its log says so, and its lost vote is of view 0."""
    prepared(stage)
    votes = [e.message for e in stage.effects if isinstance(e, fx.Broadcast) and said([e]) == ["Prepare"]]
    before = len(stage.records)
    stage.again(records=[])
    stage.receive(2, stage.new_view(2, [stage.view_change(replica, view=2) for replica in (0, 2, 3)]))
    stage.again(nonce=NONCE + 1, records=stage.records[before:])
    for peer in (0, 2, 3):
        stage.answer(peer, nonce=NONCE + 1, view=2, votes=votes)
    assert "lost its disk" in stage.replica.silence


@pytest.mark.parametrize("moved", [False, True])
def test_a_late_answer_silences_again_also_after_a_view_change(stage, moved):
    """Rolled back, it spoke on the word of two; the third, which was cut off, knows what it lost."""
    prepared(stage)
    votes = [e.message for e in stage.effects if isinstance(e, fx.Broadcast) and said([e]) == ["Prepare"]]
    stage.again(records=[])
    stage.answer(0)
    stage.answer(2)
    stage.wait(WAITED)
    assert stage.replica.silence == ""
    if moved:
        stage.receive(2, stage.new_view(2, [stage.view_change(replica, view=2) for replica in (0, 2, 3)]))
    stage.answer(3, votes=votes)
    assert "lost its disk" in stage.replica.silence


def test_a_late_answer_with_what_it_said_since_it_speaks_again_does_not_silence(stage):
    stage.again()
    stage.answer(0)
    stage.answer(2)
    stage.wait(WAITED)
    prepared(stage)
    votes = [e.message for e in stage.effects if isinstance(e, fx.Broadcast) and said([e]) == ["Prepare"]]
    stage.receive(2, stage.new_view(2, [stage.view_change(replica, view=2) for replica in (0, 2, 3)]))
    stage.answer(3, votes=votes)
    assert stage.replica.silence == ""


def test_who_lost_its_disk_and_rejoined_is_not_silenced_again_by_a_later_answer(stage):
    """The last peer withholds what it knows until the others helped the replica back."""
    prepared(stage)
    votes = [e.message for e in stage.effects if isinstance(e, fx.Broadcast) and said([e]) == ["Prepare"]]
    stage.again(records=[])
    stage.answer(0)
    stage.wait(WAITED)
    stage.answer(2)
    rejoining = stage.replica._rejoining
    rejoining.speak(Outbox())
    rejoining.leave_view()
    rejoining.amnesiac = stage.replica._context.voice.mute = True  # silenced after it spoke
    rejoining.speak(Outbox())
    stage.receive(2, stage.new_view(2, [stage.view_change(replica, view=2) for replica in (0, 2, 3)]))
    stage.answer(3, votes=votes)
    assert stage.replica.silence == ""
