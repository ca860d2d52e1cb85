"""Real Ed25519 and the real codec under the same faults and the same invariants."""

import pytest

from bft.testing.byzantine import NAMES
from bft.testing.options import Options
from bft.testing.simulation import scenario, simulate


def test_one_seed_in_a_hundred_has_real_signatures():
    assert [seed for seed in range(301) if Options.draw(seed, 4).keyed] == [0, 100, 200, 300]


@pytest.mark.sim
def test_messages_as_bytes_keep_every_promise_under_drawn_faults():
    simulate(Options.draw(100, 4))


@pytest.mark.sim
@pytest.mark.parametrize("behaviour", NAMES)
def test_a_byzantine_primary_stops_nothing_when_what_it_sends_are_bytes(behaviour):
    run = scenario(keyed=True, byzantine=((0, behaviour),), clients=1, requests=12, fault_phase_ns=3_000_000_000)
    assert run.accepted == 12


@pytest.mark.sim
def test_forged_certificates_are_refused_at_the_gate():
    run = scenario(keyed=True, byzantine=((0, "forged_certificates"),), clients=1, requests=12, crashes=3, partitions=2)
    assert run.coverage.get("refused at the gate", 0) > 0


@pytest.mark.sim
def test_the_kind_of_signature_changes_nothing_that_clients_see():
    """Both worlds accept all requests of the same run without faults."""
    assert scenario(seed=7, keyed=True).accepted == scenario(seed=7).accepted
