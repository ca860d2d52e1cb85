"""Any number of Byzantine clients: nobody else loses anything, and no correct primary its view."""

import pytest

from bft.testing.byzantine_clients import DESCRIPTIONS, NAMES, SWARM, parse
from bft.testing.options import Family, Options
from bft.testing.scheduler import SECOND
from bft.testing.simulation import scenario, simulate

pytestmark = pytest.mark.sim


def latency_ns(run):
    """Mean, of correct clients' requests, in virtual time."""
    return sum(run.latencies_ns) / len(run.latencies_ns)


@pytest.fixture(scope="module")
def fault_free():
    return scenario(fault_phase_ns=SECOND)


@pytest.mark.parametrize("behaviour", NAMES)
def test_three_byzantine_clients_change_no_view_and_take_at_most_half_of_the_goodput(behaviour, fault_free):
    """No view change by clients alone, and bounded tables: the checker holds every size to its limit."""
    run = scenario(fault_phase_ns=SECOND, byzantine_clients=(behaviour,) * 3)
    assert run.view_changes == 0
    assert run.accepted == fault_free.accepted
    assert latency_ns(run) <= 2 * latency_ns(fault_free)


@pytest.mark.parametrize("behaviour", ["flood", "flood_backups"])
def test_a_flood_beyond_what_can_be_ordered_costs_correct_clients_their_turn_at_most(behaviour):
    """Twelve clients ask for some five times what one request a batch, one batch at a time, can do.

    Found: a table that four clients fill, and a queue in order of arrival: correct clients waited for seconds or were
    refused, and the backups deposed a correct primary.
    """
    flooded = scenario(
        fault_phase_ns=SECOND, requests=4, batch_requests_max=1, pipeline_depth=1, byzantine_clients=(behaviour,) * 12
    )
    assert flooded.view_changes == 0
    assert flooded.accepted == 12
    # a turn comes round once in (12 hostile + 3 correct clients + 3 relaying backups) batches of some 6 ms
    assert max(flooded.latencies_ns) < 3 * 18 * 6_000_000


@pytest.mark.parametrize("behaviour", NAMES)
def test_byzantine_clients_help_no_byzantine_primary(behaviour):
    scenario(fault_phase_ns=SECOND, byzantine_clients=(behaviour,), byzantine=((0, "equivocate_one"),), loss=0.02)


def hostile_seeds():
    return [seed for seed in range(100) if Options.draw(seed, 4).byzantine_clients]


@pytest.mark.parametrize("seed", range(6))
def test_drawn_byzantine_clients_stop_nothing(seed):
    simulate(Options.draw(hostile_seeds()[seed], 4))


def test_seeds_draw_byzantine_clients():
    drawn = [Options.draw(seed, 4).byzantine_clients for seed in range(40)]
    assert any(drawn)
    assert not all(drawn)


def test_the_other_families_of_a_seed_do_not_depend_on_whether_clients_may_be_byzantine():
    for seed in range(20):
        all_on = Options.draw(seed, 4)
        without = Options.draw(seed, 4, tuple(f for f in Family if f is not Family.BYZANTINE_CLIENT))
        assert (all_on.byzantine, all_on.requests, all_on.loss) == (without.byzantine, without.requests, without.loss)


@pytest.mark.parametrize("text", ["nonsense", "flood:count", "flood:hours=3", "flood+", ""])
def test_what_names_no_client_behaviour_is_refused(text):
    with pytest.raises(ValueError, match=r"behaviour|key=integer"):
        parse(text)


def test_every_client_behaviour_says_what_it_does():
    assert all(DESCRIPTIONS[name] for name in NAMES)
    assert all(parse(text) for text in SWARM)
