"""Clusters whose replicas lose their disks, or find an older copy in place: nothing is contradicted, all rejoin."""

from dataclasses import replace
from typing import Any

import pytest

from bft.testing.options import Family, Options
from bft.testing.simulation import Simulation, scenario

pytestmark = pytest.mark.sim

DISKS: dict[str, Any] = {"requests": 15, "think_ns": 300_000_000}


@pytest.mark.parametrize("seed", range(4))
def test_four_replicas_lose_disks_one_after_another_and_rejoin(seed):
    scenario(seed, lost_disks=3, **DISKS)


@pytest.mark.parametrize("seed", range(4))
def test_a_rollback_is_noticed_when_the_network_delivers(seed):
    """Every peer answers: the replica either lacks nothing that anybody holds, or falls silent; nobody is accused."""
    simulation = Simulation(Options(seed=seed, rollbacks=3, **DISKS))
    assert simulation.run().accused == ()


def test_disks_are_lost_while_a_byzantine_replica_of_seven_lies():
    scenario(2, n=7, lost_disks=2, rollbacks=2, byzantine=((1, "equivocate_split"),), loss=0.1, crashes=4, **DISKS)


def test_a_copy_that_lacks_nothing_but_the_newest_snapshot_makes_nobody_silent():
    """Found by seed 210039: a state had been transferred, its certificate was in the copy and its snapshot not yet."""
    options = replace(Options.draw(210039, 4), byzantine=(), crash_stop=(), byzantine_clients=(), crashes=6)
    Simulation(replace(options, rollbacks=4, requests=30)).run()


def test_a_silent_primary_of_an_idle_cluster_does_not_keep_itself_silent():
    """Found by seed 25: the primary lost its disk after the last request, and nobody filled the log up to H."""
    families = (Family.DUPLICATE, Family.PARTITION, Family.CRASH)
    options = replace(Options.draw(25, 4, families), lost_disks=2, byzantine=(), requests=15)
    Simulation(options).run()


def test_what_is_struck_and_who_is_faulty_stays_within_f():
    with pytest.raises(ValueError, match="no promise holds"):
        Options(seed=1, crash_stop=(1,), byzantine=((0, "silent"),))
    assert Options(seed=1, crash_stop=(1,)).spare == 0
    assert Options(seed=1, n=7, crash_stop=(1,)).spare == 1
