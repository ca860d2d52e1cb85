"""Castro & Liskov, OSDI'99 §4.3-4.4: checkpoints and view changes, one claim a test."""

import pytest

from bft.core import effects
from bft.core.effects import Rejection, ViewChangeCause
from bft.core.events import ClientRequest, SnapshotSaved
from bft.core.messages import (
    NULL_DIGEST,
    Batches,
    Checkpoint,
    Commit,
    FetchBatches,
    FetchBodies,
    NewView,
    Prepare,
    PrePrepare,
    Proposal,
    Status,
    ViewChange,
)
from bft.core.parameters import SECOND
from tests.paper.stage import Stage, rejections, sent


def test_a_backup_with_a_request_unexecuted_in_time_starts_a_view_change(backup: Stage) -> None:
    """§4.4: if the timer of backup i expires in view v, it moves to view v + 1."""
    backup.step(ClientRequest(backup.request(1)))
    (vote,) = {v.view for v in sent(backup.wait(3 * SECOND), ViewChange)}
    assert vote == 1


def test_the_timer_runs_until_execution_not_until_the_pre_prepare(backup: Stage) -> None:
    """§4.4: waiting for a request means it was received *and not executed*."""
    batch = backup.batch()
    backup.step(ClientRequest(batch.requests[0]))
    backup.receive(0, backup.proposal(seq=1, batch=batch))
    assert sent(backup.wait(3 * SECOND), ViewChange)


def test_no_timer_runs_when_all_requests_are_executed(backup: Stage) -> None:
    """§4.4: the timer stops when it is no longer waiting to execute."""
    backup.commit_batch(1)
    assert not sent(backup.wait(60 * SECOND), ViewChange)


def test_the_primary_does_not_suspect_itself(primary: Stage) -> None:
    """§4.4: *backups* wait."""
    primary.step(ClientRequest(primary.request(1)))
    assert not sent(primary.wait(60 * SECOND), ViewChange)


def test_in_a_view_change_nothing_but_checkpoints_and_view_changes_is_accepted(backup: Stage) -> None:
    """§4.4: it stops accepting messages other than checkpoint, view-change and new-view."""
    backup.step(ClientRequest(backup.request(1)))
    backup.wait(3 * SECOND)
    assert not backup.replica.active
    happened = backup.receive(0, backup.proposal(seq=1, batch=backup.batch(2)))
    assert not sent(happened, Prepare)


def test_the_view_change_carries_what_was_prepared(backup: Stage) -> None:
    """§4.4: P holds a set for each request prepared above the stable checkpoint."""
    batch = backup.batch()
    backup.receive(0, backup.proposal(seq=1, batch=batch))
    backup.receive(2, backup.prepare(2, seq=1, digest=batch.digest))
    vote = sent(backup.wait(3 * SECOND), ViewChange)[0]
    assert [(c.seq, c.digest) for c in vote.prepared] == [(1, batch.digest)]


def test_a_weak_quorum_of_higher_views_is_joined_at_the_smallest(backup: Stage) -> None:
    """§4.5.2: f+1 view-changes for views above ours: send one for the smallest, even before our timer expires."""
    assert not sent(backup.receive(2, backup.view_change(2, view=5)), ViewChange)
    happened = backup.receive(3, backup.view_change(3, view=2))
    assert [v.view for v in sent(happened, ViewChange)] == [2]


def test_one_replicas_view_changes_move_nobody(backup: Stage) -> None:
    """§4.5.2: a faulty replica cannot cause a view change by itself."""
    for view in range(1, 50):
        assert not sent(backup.receive(3, backup.view_change(3, view=view)), ViewChange)
    assert backup.replica.view == 0


def test_the_new_primary_sends_a_new_view_at_a_quorum(backup: Stage) -> None:
    """§4.4: 2f valid view-changes from other replicas (and its own)."""
    assert not sent(backup.receive(2, backup.view_change(2, view=1)), NewView)
    happened = backup.receive(3, backup.view_change(3, view=1))  # joins: three in all
    (message,) = sent(happened, NewView)
    assert [v.message.replica for v in message.view_changes] == [1, 2, 3]
    assert backup.replica.active


def test_the_new_view_reproposes_what_any_of_its_view_changes_prepared() -> None:
    """§4.4: some message in P with sequence number n: pre-prepare it with its digest."""
    stage = Stage(n=4, me=1)
    batch = stage.batch()
    stage.receive(2, stage.view_change(2, view=1, prepared=(stage.prepared(view=0, seq=1, digest=batch.digest),)))
    (message,) = sent(stage.receive(3, stage.view_change(3, view=1)), NewView)
    assert [p.message for p in message.pre_prepares] == [PrePrepare(1, 1, batch.digest, 1)]


def test_a_gap_below_a_prepared_request_becomes_a_null_request() -> None:
    """§4.4: otherwise, a special null request."""
    stage = Stage(n=4, me=1)
    batch = stage.batch()
    stage.receive(2, stage.view_change(2, view=1, prepared=(stage.prepared(view=0, seq=2, digest=batch.digest),)))
    (message,) = sent(stage.receive(3, stage.view_change(3, view=1)), NewView)
    assert [p.message.digest for p in message.pre_prepares] == [NULL_DIGEST, batch.digest]


def test_of_two_prepared_certificates_that_of_the_higher_view_wins() -> None:
    """§4.4: the pre-prepare with the highest view number in P."""
    stage = Stage(n=4, me=3)
    old, new = stage.batch(1), stage.batch(2)
    votes = [
        stage.view_change(0, view=2, prepared=(stage.prepared(view=0, seq=1, digest=old.digest),)),
        stage.view_change(1, view=2, prepared=(stage.prepared(view=1, seq=1, digest=new.digest),)),
        stage.view_change(2, view=2),
    ]
    stage.receive(2, stage.new_view(2, votes))
    assert stage.replica.view == 2
    assert [f.digests for f in sent(stage.effects, FetchBodies)] == [(new.digest,)]


def test_a_missing_body_is_fetched_and_never_taken_for_null() -> None:
    """§4.4: the request may have to be obtained from another replica; no PREPARE without it."""
    stage = Stage(n=4, me=3)
    batch = stage.batch()
    certificate = stage.prepared(view=0, seq=1, digest=batch.digest)
    votes = [stage.view_change(r, view=1, prepared=(certificate,) if r == 0 else ()) for r in (0, 1, 2)]
    happened = stage.receive(1, stage.new_view(1, votes))
    assert not sent(happened, Prepare)
    assert sent(happened, FetchBodies)


@pytest.mark.parametrize("defect", ["omits", "nulls", "too few", "twice one sender", "another view", "not primary"])
def test_a_new_view_that_differs_from_the_recomputed_one_is_refused(defect: str) -> None:
    """§4.4: a backup verifies O by performing the same computation."""
    stage = Stage(n=4, me=3)
    batch = stage.batch()
    certificate = stage.prepared(view=0, seq=1, digest=batch.digest)
    votes = [stage.view_change(r, view=1, prepared=(certificate,) if r == 0 else ()) for r in (0, 1, 2)]
    good = stage.new_view(1, votes).message
    signer = stage.signers[1]
    null = signer.sign(PrePrepare(1, 1, NULL_DIGEST, 1))
    forged = {
        "omits": NewView(1, good.view_changes, (), 1),
        "nulls": NewView(1, good.view_changes, (null,), 1),
        "too few": NewView(1, good.view_changes[:2], good.pre_prepares, 1),
        "twice one sender": NewView(1, (good.view_changes[0],) * 3, good.pre_prepares, 1),
        "another view": NewView(5, good.view_changes, good.pre_prepares, 1),
        "not primary": NewView(1, good.view_changes, good.pre_prepares, 2),
    }[defect]
    happened = stage.receive(forged.replica, stage.signers[forged.replica].sign(forged))
    assert rejections(happened) == [Rejection.BAD_NEW_VIEW]
    assert stage.replica.view == 0


def test_a_prepared_claim_without_a_quorum_is_refused(backup: Stage) -> None:
    """§4.4: valid view-change messages only."""
    thin = backup.prepared(view=0, seq=1, digest=backup.batch().digest)
    thin = type(thin)(thin.header, thin.prepares[:1])
    happened = backup.receive(2, backup.view_change(2, view=1, prepared=(thin,)))
    assert rejections(happened) == [Rejection.BAD_CERTIFICATE]


def test_the_wait_for_a_new_view_doubles_with_each_failed_attempt(backup: Stage) -> None:
    """§4.4: the timer is started at 2f+1 view-changes and then doubled."""
    timeout_ns = backup.parameters.view_change_timeout_ns
    for replica in (2, 3):
        backup.receive(replica, backup.view_change(replica, view=2))
    backup.receive(0, backup.view_change(0, view=2))
    assert {v.view for v in sent(backup.wait(timeout_ns), ViewChange)} >= {3}
    for replica in (0, 2, 3):
        backup.receive(replica, backup.view_change(replica, view=3))
    assert 4 not in {v.view for v in sent(backup.wait(2 * timeout_ns - 1), ViewChange)}
    assert 4 in {v.view for v in sent(backup.wait(1), ViewChange)}


def test_proof_of_equivocation_ends_the_view_without_a_time_out(backup: Stage) -> None:
    """DESIGN §4: two headers of one primary, one of them shown by a PREPARE, cost one message round."""
    backup.receive(0, backup.proposal(seq=1, batch=backup.batch(1)))
    happened = backup.receive(2, backup.prepare(2, seq=1, digest=backup.batch(2).digest))
    causes = [e.cause for e in happened if isinstance(e, effects.ViewChangeStarted)]
    assert causes == [ViewChangeCause.EQUIVOCATION]


def test_a_checkpoint_is_taken_at_each_multiple_of_the_interval(backup: Stage) -> None:
    """§4.3: states when n is divisible by K."""
    for seq in range(1, 6):
        backup.commit_batch(seq)
    assert [c.seq for c in sent(backup.effects, Checkpoint)] == [4]


def test_a_checkpoint_is_stable_at_a_quorum_of_equal_roots(backup: Stage) -> None:
    """§4.3: 2f+1 checkpoint messages with the same n and d."""
    for seq in range(1, 5):
        backup.commit_batch(seq)
    (own,) = sent(backup.effects, Checkpoint)
    backup.receive(2, backup.checkpoint(2, seq=4, root=own.root))
    backup.receive(3, backup.checkpoint(3, seq=4, root=bytes(32)))
    assert backup.replica.stable.seq == 0
    backup.receive(0, backup.checkpoint(0, seq=4, root=own.root))
    assert backup.replica.stable.seq == 4


def test_a_stable_checkpoint_moves_the_watermarks(backup: Stage) -> None:
    """§4.3: h is the last stable checkpoint; what was held beyond the old H is now accepted."""
    for seq in range(1, 5):
        backup.commit_batch(seq)
    (own,) = sent(backup.effects, Checkpoint)
    batch = backup.batch(9)
    assert not sent(backup.receive(0, backup.proposal(seq=9, batch=batch)), Prepare)
    happened = [e for r in (0, 2) for e in backup.receive(r, backup.checkpoint(r, seq=4, root=own.root))]
    assert [p.seq for p in sent(happened, Prepare)] == [9]


def test_the_log_is_truncated_only_after_certificate_and_durable_snapshot(backup: Stage) -> None:
    """§4.3, DESIGN §4: discard up to a stable checkpoint, when our own copy of it is safe."""
    for seq in range(1, 5):
        backup.commit_batch(seq)
    (own,) = sent(backup.effects, Checkpoint)
    for replica in (0, 2):
        backup.receive(replica, backup.checkpoint(replica, seq=4, root=own.root))
    assert not [e for e in backup.effects if isinstance(e, effects.TruncateLog)]
    assert effects.TruncateLog(4) in backup.step(SnapshotSaved(4))


def test_after_a_crash_the_first_accepted_header_still_binds(backup: Stage) -> None:
    """DESIGN §5: the first PRE-PREPARE for (view, seq) binds, also across restarts."""
    backup.receive(0, backup.proposal(seq=1, batch=backup.batch(1)))
    backup.restart()
    happened = backup.receive(0, backup.proposal(seq=1, batch=backup.batch(2)))
    assert not [p for p in sent(happened, Prepare) if p.digest != backup.batch(1).digest]
    assert [e.evidence.accused for e in happened if isinstance(e, effects.EvidenceFound)] == [0]


def test_after_a_crash_in_a_view_change_it_stays_out_of_the_old_view(backup: Stage) -> None:
    """DESIGN §1: never contradict after a restart what was signed before it."""
    backup.step(ClientRequest(backup.request(1)))
    backup.wait(3 * SECOND)
    backup.restart()
    assert (backup.replica.view, backup.replica.active) == (1, False)
    happened = backup.receive(0, backup.proposal(seq=1, batch=backup.batch(2)))
    assert not sent(happened, Prepare)


def test_after_a_crash_the_view_change_still_carries_what_was_prepared(backup: Stage) -> None:
    """DESIGN §3: the prepared certificate is on disk before the COMMIT leaves."""
    batch = backup.batch()
    backup.receive(0, backup.proposal(seq=1, batch=batch))
    assert sent(backup.receive(2, backup.prepare(2, seq=1, digest=batch.digest)), Commit)
    backup.restart()
    vote = sent(backup.wait(3 * SECOND), ViewChange)[0]
    assert [(c.seq, c.digest) for c in vote.prepared] == [(1, batch.digest)]


def test_after_a_crash_executed_batches_execute_again_without_a_peer(backup: Stage) -> None:
    """DESIGN §1: an acknowledged operation survives a crash of everybody."""
    for seq in range(1, 4):
        backup.commit_batch(seq)
    backup.restart()
    assert backup.replica.last_executed == 3


def test_a_restarted_primary_does_not_use_a_sequence_number_twice(primary: Stage) -> None:
    """A correct replica is never accused: the header it signed before the crash is remembered."""
    primary.step(ClientRequest(primary.request(1)))
    primary.restart()
    happened = primary.step(ClientRequest(primary.request(2)))
    assert [p.header.message.seq for p in sent(happened, Proposal)] == [2]


def test_batches_above_the_stable_checkpoint_are_served_whatever_the_archive_limit() -> None:
    """Found by simulation (liveness): a laggard above the stable checkpoint has nowhere else to get them from."""
    stage = Stage(n=4, me=1, archive_batches_max=1)
    for seq in range(1, 8):
        stage.commit_batch(seq)
    (answer,) = sent(stage.receive(3, FetchBatches(0)), Batches)
    assert [c.seq for c in answer.batches] == [1, 2, 3, 4, 5, 6, 7]


def test_nothing_is_prepared_in_a_view_before_its_new_view(backup: Stage) -> None:
    """§4.4: the new primary multicasts pre-prepares only after the NEW-VIEW, and backups accept none before it."""
    for replica in (2, 3):
        backup.receive(replica, backup.view_change(replica, view=2))
    assert (backup.replica.view, backup.replica.active) == (2, False)
    happened = backup.receive(2, backup.proposal(view=2, seq=1, batch=backup.batch()))
    assert not sent(happened, Prepare)


def test_who_missed_the_new_view_gets_it_in_answer_to_its_status(backup: Stage) -> None:
    """DESIGN §5: sent once and lost must not mean for ever."""
    votes = [backup.view_change(replica, view=2) for replica in (0, 2, 3)]
    backup.receive(2, backup.new_view(2, votes))
    happened = backup.receive(3, Status(1, False, 0, 0, 1))
    assert [e.to for e in happened if isinstance(e, effects.Send) and e.message == backup.new_view(2, votes)] == [3]


def test_who_missed_a_view_change_gets_ours_in_answer_to_its_status(backup: Stage) -> None:
    """DESIGN §5."""
    for replica in (2, 3):
        backup.receive(replica, backup.view_change(replica, view=2))
    assert [v.view for v in sent(backup.receive(0, Status(0, True, 0, 0, 1)), ViewChange)] == [2]
