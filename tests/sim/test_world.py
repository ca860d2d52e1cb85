"""The simulated world itself: disk, clocks, network, options."""

import random

import pytest

from bft.core.effects import CheckpointTaken, LeftView, Stable
from bft.core.messages import GENESIS, Checkpoint, CheckpointCertificate, ViewChange
from bft.statemachine.trie import MerkleTrie
from bft.testing.disk import Disk
from bft.testing.hosts import Clock
from bft.testing.network import Network
from bft.testing.options import Family, Options
from bft.testing.scheduler import MS, SECOND, Scheduler
from bft.testing.simulation import simulate
from bft.testing.symbolic import Registry, SymbolicSigner


def stable(seq):
    registry = Registry(4)
    votes = tuple(SymbolicSigner(registry, r).sign(Checkpoint(seq, b"r" * 32, r)) for r in range(3))
    return Stable(CheckpointCertificate(votes))


def test_what_was_synced_survives_a_crash_and_the_rest_is_lost_from_its_end():
    for seed in range(20):
        disk = Disk()
        records = [stable(seq) for seq in (4, 8, 12, 16)]
        for record in records:
            disk.append(record)
        disk.sync(2)
        disk.crash(random.Random(seed))
        found = disk.recover()[0]
        assert found == records[: len(found)]
        assert len(found) >= 2


def test_recovery_takes_the_newest_snapshot_that_a_certificate_proves():
    disk = Disk()
    for record in (stable(4), stable(8)):
        disk.append(record)
    disk.sync(2)
    tries = {seq: MerkleTrie().update({b"seq": bytes([seq])}) for seq in (4, 12)}
    for seq, trie in tries.items():
        disk.save_snapshot(seq, trie)
    _, certificate, newest = disk.recover()
    assert certificate.seq == 4
    assert newest is tries[4]


def test_truncation_keeps_views_and_what_is_above():
    registry = Registry(4)
    sign = SymbolicSigner(registry, 1).sign
    left = LeftView(sign(ViewChange(1, GENESIS, (), 1)))
    taken = [CheckpointTaken(sign(Checkpoint(seq, b"r" * 32, 1))) for seq in (4, 8)]
    disk = Disk()
    for record in (taken[0], left, stable(4), taken[1]):
        disk.append(record)
    disk.sync(4)
    disk.truncate(4)
    kept = disk.recover()[0]
    assert taken[0] not in kept
    assert left in kept
    assert taken[1] in kept


@pytest.mark.parametrize("drift_ppm", [-500, 0, 333])
def test_an_alarm_rings_when_the_clock_shows_its_time_and_not_before(drift_ppm):
    clock = Clock(random.Random(1), wall_offset_ns=0, drift_ppm=drift_ppm)
    deadline = clock.read(5 * SECOND).monotonic_ns + 12_345
    at = clock.when(deadline)
    assert clock.read(at).monotonic_ns >= deadline
    assert clock.read(at - 1).monotonic_ns < deadline


def delivered(network, scheduler, count):
    arrived: list[int] = []
    for number in range(count):
        network.transmit(0, 1, arrived.append, number)
    scheduler.run_until(scheduler.now_ns + 60 * SECOND)
    return arrived


def test_a_link_without_faults_delivers_all_in_order():
    scheduler = Scheduler(0)
    assert delivered(Network(scheduler, Options(seed=0)), scheduler, 50) == list(range(50))


def test_loss_duplication_and_reordering_happen_and_end_with_healing():
    scheduler = Scheduler(0)
    network = Network(scheduler, Options(seed=0, loss=0.2, duplicate=0.2, reorder=0.3))
    arrived = delivered(network, scheduler, 200)
    assert set(arrived) < set(range(200))
    assert len(set(arrived)) < len(arrived)
    assert arrived != sorted(arrived)
    network.heal()
    assert delivered(network, scheduler, 50) == list(range(50))


def test_a_link_that_two_partitions_cut_is_mended_by_the_second_mending():
    scheduler = Scheduler(0)
    network = Network(scheduler, Options(seed=0))
    network.cut([(0, 1)])
    network.cut([(0, 1)])
    network.mend([(0, 1)])
    assert delivered(network, scheduler, 3) == []
    network.mend([(0, 1)])
    assert delivered(network, scheduler, 3) == [0, 1, 2]


def test_a_cut_is_directed():
    scheduler = Scheduler(0)
    network = Network(scheduler, Options(seed=0))
    network.cut([(1, 0)])
    assert delivered(network, scheduler, 3) == [0, 1, 2]


def test_more_than_f_faulty_replicas_are_refused():
    with pytest.raises(ValueError, match="no promise holds"):
        Options(seed=0, n=4, byzantine=((0, "silent"),), crash_stop=(1,))


def test_a_seed_draws_only_from_the_families_it_may():
    for seed in range(50):
        options = Options.draw(seed, 7, (Family.LOSS, Family.CRASH))
        assert set(options.families) <= {Family.LOSS, Family.CRASH}
        assert not options.byzantine
        assert not options.partitions


def test_every_family_is_drawn_in_some_seed_and_left_out_in_another():
    drawn = [set(Options.draw(seed, 7).families) for seed in range(60)]
    assert set.union(*drawn) == set(Family)
    assert not set.intersection(*drawn)


def test_the_replay_command_names_the_seed_and_the_families_when_they_were_chosen():
    assert Options.draw(3, 4).replay == "bft sim --seed 3 -n 4"
    some = Options.draw(3, 4, (Family.LOSS, Family.CRASH, Family.PAUSE))
    assert some.replay.startswith("bft sim --seed 3 -n 4 --family ")


def test_chosen_options_replay_as_written():
    options = Options(seed=5, n=4, byzantine=((0, "silent"),), delay_ns=2 * MS)
    expression = options.replay.split("simulate(")[1].removesuffix(", print)'")
    assert eval(expression, {"Options": Options}) == options  # noqa: S307 - our own text
    assert simulate(options).trace_hash == simulate(options).trace_hash
