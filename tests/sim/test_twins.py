"""Two instances under one key, kept apart in every way for a few rounds."""

import pytest

from bft.testing.options import Family, Options
from bft.testing.run_twins import main, options_of
from bft.testing.scheduler import MS
from bft.testing.simulation import scenario, simulate
from bft.testing.twins import LONG_NS, SHORT_NS, enumerate_scenarios, partitions, sample

pytestmark = pytest.mark.sim

_ONE_ROUND = list(enumerate_scenarios(4, depth=1))


def run(chosen):
    """Safety after every event, progress after healing, and no evidence against anybody but the twins."""
    return simulate(options_of(chosen, 4))


def test_partitions_are_all_the_ways_to_split_the_instances():
    assert len(partitions(5, 2)) == 16  # Stirling numbers of the second kind: 1 + 15
    assert len(partitions(5, 3)) == 41  # + 25
    assert len(set(partitions(5, 3))) == 41


def test_mirror_images_are_enumerated_once():
    groups = [chosen.rounds[0][1] for chosen in _ONE_ROUND if chosen.twin == 3 and chosen.rounds[0][0] == SHORT_NS]
    assert ((0, 1, 2, 3), (4,)) in groups or ((0, 1, 2, 4), (3,)) in groups
    assert not {((0, 1, 2, 3), (4,)), ((0, 1, 2, 4), (3,))} <= set(groups)


def test_a_sample_covers_every_twin_and_length():
    chosen = sample(4, depth=2, budget=40)
    assert len(chosen) <= 40
    assert {one.twin for one in chosen} == {0, 1, 2, 3}
    assert {length for one in chosen for length, _ in one.rounds} == {SHORT_NS, LONG_NS}


@pytest.mark.parametrize("part", range(4))
def test_no_partition_of_twins_in_one_round_forks_or_stops_the_others(part):
    for chosen in _ONE_ROUND[part::12]:
        run(chosen)


@pytest.mark.parametrize("chosen", sample(4, depth=2, budget=12))
def test_no_partition_of_twins_in_two_rounds_forks_or_stops_the_others(chosen):
    run(chosen)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_one_round_scenario_of_twins_keeps_every_promise():
    for chosen in _ONE_ROUND:
        run(chosen)


def test_twins_that_lead_two_halves_equivocate_and_are_convicted():
    """No faulty code is needed: both instances of replica 0 are correct, and propose different batches at 1."""
    rounds = ((SHORT_NS, ((0, 1, 2), (3, 4))), (SHORT_NS, ((0, 1), (2, 3, 4))))  # 4 is the second instance of 0
    assert scenario(twins=(0,), rounds=rounds, requests=6, think_ns=30 * MS).accused == (0,)


def test_seeds_draw_twins_with_rounds_that_fill_the_fault_phase():
    drawn = [options for seed in range(80) if (options := Options.draw(seed, 4)).twins]
    assert drawn
    assert all(sum(length for length, _ in options.rounds) == options.fault_phase_ns for options in drawn)


@pytest.mark.parametrize("number", range(3))
def test_drawn_twins_stop_nothing(number):
    seeds = [seed for seed in range(80) if Options.draw(seed, 4, tuple(Family)).twins]
    simulate(Options.draw(seeds[number], 4))


def test_a_campaign_says_how_many_scenarios_there_are_and_how_many_it_ran(capsys):
    assert main(["--depth", "2", "--budget", "3"]) == 0
    assert "2560 scenarios, 3 of them run" in capsys.readouterr().out
