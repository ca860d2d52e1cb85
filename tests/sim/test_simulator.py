"""Whole clusters under faults.  The campaign of 200 seeds each for n = 4 and n = 7 is `make sim`."""

import os
import subprocess
import sys

import pytest

from bft.core.replica import Replica
from bft.testing.byzantine import CATALOGUE, Role
from bft.testing.options import Options
from bft.testing.scheduler import MS, SECOND
from bft.testing.simulation import scenario, simulate

pytestmark = pytest.mark.sim

_PRINT_HASH = """
import sys
from bft.testing.options import Options
from bft.testing.simulation import simulate
print(simulate(Options.draw(int(sys.argv[1]), int(sys.argv[2]))).trace_hash)
"""


@pytest.mark.parametrize("seed", range(24))
def test_four_replicas_keep_every_promise_under_drawn_faults(seed):
    simulate(Options.draw(seed, 4))


@pytest.mark.parametrize("seed", range(8))
def test_seven_replicas_keep_every_promise_under_drawn_faults(seed):
    simulate(Options.draw(seed, 7))


@pytest.mark.parametrize("n", [1, 2, 3, 5, 6, 10, 13])
def test_clusters_of_other_sizes_keep_every_promise_under_drawn_faults(n):
    simulate(Options.draw(1, n))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("n", [4, 5, 6, 7])
@pytest.mark.parametrize("start", range(1000, 1200, 50))
def test_hundreds_of_seeds_keep_every_promise(n, start):
    for seed in range(start, start + 50):
        simulate(Options.draw(seed, n))


@pytest.mark.parametrize(("seed", "n"), [(3, 4), (12, 7)])
def test_one_seed_gives_one_trace_hash_whatever_the_hash_seed(seed, n):
    hashes = {
        subprocess.run(
            [sys.executable, "-c", _PRINT_HASH, str(seed), str(n)],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(hashes) == 1


def test_different_seeds_give_different_traces():
    assert simulate(Options.draw(1, 4)).trace_hash != simulate(Options.draw(2, 4)).trace_hash


@pytest.mark.parametrize("n", [4, 7])
@pytest.mark.parametrize("behaviour", ["equivocate_split", "equivocate_one"])
def test_an_equivocating_primary_cannot_fork_and_is_convicted(n, behaviour):
    """OSDI'99 §4.2: no two correct replicas prepare different batches at one (view, seq)."""
    run = scenario(n=n, byzantine=((0, behaviour),))
    assert run.accused == (0,)
    assert run.view == 1


def test_conviction_costs_no_time_out():
    """DESIGN §4: a proven equivocator is left at once."""
    run = scenario(
        byzantine=((0, "equivocate_split"),), request_timeout_ns=60 * SECOND, view_change_timeout_ns=60 * SECOND
    )
    assert run.virtual_ns < 20 * SECOND


@pytest.mark.parametrize("n", [4, 7])
def test_a_silent_primary_is_replaced(n):
    run = scenario(n=n, byzantine=((0, "silent"),))
    assert run.view == 1


def test_f_silent_primaries_in_a_row_are_replaced():
    run = scenario(n=7, byzantine=((0, "silent"), (1, "silent")))
    assert run.view == 2


@pytest.mark.parametrize(
    "behaviour", ["silent", "delay", "drop_to", "lying_view_change", "forged_certificates", "wrong_transfer"]
)
def test_one_byzantine_backup_changes_no_view(behaviour):
    """No backup alone can make the others leave a correct primary; test_behaviours.py tries all that backups do."""
    run = scenario(byzantine=((3, behaviour),))
    assert run.view == 0
    assert run.view_changes == 0


@pytest.mark.parametrize("behaviour", [entry.name for entry in CATALOGUE if entry.role is not Role.SOURCE])
def test_a_byzantine_primary_stops_nothing_even_while_messages_are_lost(behaviour):
    scenario(byzantine=((0, behaviour),), loss=0.05, partitions=1)


def test_the_cluster_goes_on_after_f_replicas_stopped_for_good():
    run = scenario(n=7, crash_stop=(0, 4))
    assert run.accepted == 36


def test_a_healed_partition_leaves_one_history():
    run = scenario(partitions=4)
    assert run.accepted == 36


def test_a_replica_that_was_away_catches_up_by_state_transfer():
    """It needs no new traffic: what it missed is below every peer's log when it returns.

    How long the partitions of a seed last is chance: some of these are long enough.
    """
    settings = {"partitions": 2, "checkpoint_interval": 2, "window": 4, "requests": 60, "think_ns": 50 * MS}
    assert sum(scenario(seed=seed, **settings).transfers for seed in (0, 1, 3, 10)) > 0


def test_a_crash_of_every_replica_loses_nothing_that_was_acknowledged():
    run = scenario(crashes=16)
    assert run.accepted == 36


def test_replicas_that_take_many_events_in_one_round_keep_every_promise(monkeypatch):
    """As production does under load: all that waits is absorbed, then settled once."""
    settled = 0
    settle = Replica.settle

    def counted(core, now):
        nonlocal settled
        settled += 1
        return settle(core, now)

    monkeypatch.setattr(Replica, "settle", counted)
    run = scenario(3, round_events_max=16, round_ns=5 * MS, crashes=3, loss=0.05)
    assert 0 < settled < run.events / 2


def test_wall_clocks_that_drift_and_step_do_no_harm():
    run = scenario(clock_offset_ns=5 * SECOND, clock_drift_ppm=500, clock_steps=4)
    assert run.accepted == 36


@pytest.mark.parametrize("n", [4, 7])
def test_a_proven_equivocator_is_put_on_record(n):
    """DESIGN §4: the proof is submitted as an ordered operation."""
    run = scenario(n=n, byzantine=((0, "equivocate_split"),))
    assert run.accused == run.convicted == (0,)


def test_requests_that_wait_for_each_other_in_a_slow_network_are_given_their_time():
    """Found by seeds 70010 (n = 7) and 70022 (n = 4): every request was served, but not all of them in 240 s."""
    run = scenario(
        clients=1,
        in_flight=1,
        requests=60,
        delay_ns=SECOND,
        request_timeout_ns=20 * SECOND,
        view_change_timeout_ns=20 * SECOND,
    )
    assert run.done_ns > 240 * SECOND
