"""Bugs that others shipped, each as a scenario; docs/track-record.md says where each was found.

`tests/mutants/track_record.py` names the mutant that has each bug: `make track-record` puts it into a copy of the code
and demands that the scenario fails.
"""

import pytest

from bft.core.effects import Executed
from bft.testing.scheduler import MS, SECOND
from bft.testing.simulation import scenario
from tests.paper.stage import Stage

pytestmark = pytest.mark.sim

SILENT_AFTER_1500_MS = "after(1500ms, silent)"


def test_a_view_change_that_was_sent_once_and_lost_is_completed_all_the_same():
    """Only replica 0 can talk with the others: nobody else sees a quorum of VIEW-CHANGEs until the links mend."""
    hub = ((4 * SECOND, ((0, 1), (0, 2), (0, 3))),)
    run = scenario(rounds=hub, fault_phase_ns=4 * SECOND, think_ns=30 * MS)
    assert run.accepted == 36


def test_a_new_view_begins_at_the_highest_checkpoint_of_all_its_view_changes():
    """Replica 3, cut off, left the view alone; its VIEW-CHANGE is one of the quorum: the others' checkpoint counts."""
    run = scenario(
        byzantine=((0, SILENT_AFTER_1500_MS),),
        byzantine_clients=("few_backups:reach=1",),  # so that 3 waits for something
        rounds=((1500 * MS, ((0, 1, 2), (3,))),),
        fault_phase_ns=3 * SECOND,
        requests=40,
        think_ns=40 * MS,
    )
    assert run.view == 1


def test_no_request_timer_fires_while_a_view_change_is_under_way():
    """Messages are slow, and the request for which the view was left is still owed."""
    run = scenario(
        byzantine=((0, "silent"),), delay_ns=100 * MS, request_timeout_ns=SECOND, view_change_timeout_ns=5 * SECOND
    )
    assert run.view == 1
    assert run.view_changes == 3  # each correct replica left one view


def test_who_missed_everything_catches_up_though_nobody_asks_for_anything_any_more():
    """All requests are done before replica 3 can be reached."""
    away = ((5 * SECOND, ((0, 1, 2), (3,))),)
    run = scenario(rounds=away, fault_phase_ns=5 * SECOND, think_ns=30 * MS)
    assert run.accepted == 36


def test_backups_suspect_a_primary_that_keeps_a_request_to_itself():
    """It proposes nothing, so no PRE-PREPARE starts a timer: hearing of the request does."""
    run = scenario(byzantine=((0, "silent"),))
    assert run.view == 1


def test_a_later_request_that_executed_first_censors_no_earlier_one():
    """Six in flight, in any order on the wire: none is dropped as old."""
    run = scenario(reorder=0.6, delay_ns=40 * MS, in_flight=6, requests=30, think_ns=20 * MS, batch_requests_max=1)
    assert run.accepted == 90


def test_a_laggard_believes_no_single_answer_of_a_state_transfer():
    """One peer answers with certificates that it filled by itself, for what comes next."""
    run = scenario(
        byzantine=((2, "forged_certificates"),),
        rounds=((3 * SECOND, ((0, 1, 2), (3,))),),
        fault_phase_ns=3 * SECOND,
        checkpoint_interval=2,
        window=4,
        requests=30,
        think_ns=60 * MS,
    )
    assert run.accepted == 90


def test_a_replica_that_was_stopped_and_resumed_comes_back():
    """Nothing passes for four seconds; what it missed is below everybody's log then: the state itself has to come."""
    run = scenario(
        pauses=2,
        rounds=((4 * SECOND, ((0, 1, 2), (3,))),),
        checkpoint_interval=2,
        window=4,
        batch_requests_max=1,
        requests=80,
        think_ns=40 * MS,
    )
    assert run.transfers > 0


def test_a_proposal_under_the_next_number_to_one_replica_breaks_no_agreement():
    """A small mutation: what all get at 1, this replica gets again at 2, where the others commit something else."""
    stage = Stage(n=4, me=3)
    first, second = stage.batch(1), stage.batch(2)
    for seq in (1, 2):
        stage.receive(0, stage.proposal(seq=seq, batch=first))
    for seq, batch in ((1, first), (2, second)):
        for replica in (0, 1, 2):
            stage.receive(replica, stage.commit(replica, seq=seq, digest=batch.digest))
    assert [effect.seq for effect in stage.effects if isinstance(effect, Executed)] == [1]


def test_what_one_replica_committed_alone_is_what_the_new_view_begins_with():
    """The primary reaches two of three, then nobody any more."""
    run = scenario(
        byzantine=((0, "drop_to + after(1500ms, silent)"),),
        rounds=((1500 * MS, ((0, 1, 2), (1, 2, 3))),),
        fault_phase_ns=2 * SECOND,
        requests=30,
        think_ns=40 * MS,
    )
    assert run.accepted == 90


def test_view_numbers_run_away_with_nobody():
    """One replica votes for ever higher views while the primary cannot be reached."""
    run = scenario(
        byzantine=((3, "view_change_spam:jump=1000"),),
        rounds=((3 * SECOND, ((1, 2, 3), (0,))),),
        fault_phase_ns=3 * SECOND,
    )
    assert run.view < 10


def test_a_proposal_that_outruns_the_checkpoint_votes_is_kept():
    """The primary's window moved first; the others hold what is above theirs.  No view changes in a good network."""
    run = scenario(
        seed=1,
        checkpoint_interval=2,
        window=4,
        pipeline_depth=4,
        batch_requests_max=1,
        requests=40,
        in_flight=6,
        think_ns=2 * MS,
        delay_ns=5 * MS,
        sync_ns=100_000,
        request_timeout_ns=150 * MS,
        fault_phase_ns=SECOND,
    )
    assert run.view_changes == 0
