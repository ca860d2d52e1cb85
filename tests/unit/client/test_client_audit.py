"""Which requests a client shows to all replicas at once."""

import pytest

from bft.client.audit import Audit
from tests.unit.client.world import World


@pytest.fixture
def audit() -> Audit:
    """Of a client whose requests took 5 ms so far."""
    audit = Audit(lambda: 0.5)
    for to_all in (True, False) * 20:
        audit.observe(0.005, to_all=to_all, retried=False)
    return audit


def test_few_requests_are_shown_to_all_while_all_is_well(audit: Audit) -> None:
    assert audit.fraction == 1 / 16
    assert not audit.chooses()


def test_more_are_while_requests_take_longer_than_they_did_but_never_most(audit: Audit) -> None:
    """What is slow may be overloaded."""
    for _ in range(20):
        audit.observe(0.7, to_all=False, retried=False)
        audit.observe(0.7, to_all=True, retried=False)
    assert audit.fraction == 1 / 4


def test_nearly_all_are_when_the_primary_hurries_only_if_it_is_watched(audit: Audit) -> None:
    for _ in range(20):
        audit.observe(0.7, to_all=False, retried=False)
        audit.observe(0.005, to_all=True, retried=False)
    assert audit.fraction == 15 / 16


def test_a_few_are_after_one_that_had_to_be_sent_again(audit: Audit) -> None:
    audit.observe(0.005, to_all=False, retried=True)
    assert [audit.chooses() for _ in range(6)] == [True] * 4 + [False] * 2


def test_what_takes_only_milliseconds_longer_is_not_slow(audit: Audit) -> None:
    audit.observe(0.04, to_all=False, retried=False)
    assert audit.fraction == 1 / 16


def test_a_client_gets_used_to_a_network_that_is_slower(audit: Audit) -> None:
    for _ in range(200):
        audit.observe(0.7, to_all=True, retried=False)
        audit.observe(0.7, to_all=False, retried=False)
    assert audit.fraction == 1 / 16


def test_a_chosen_request_goes_to_all_the_first_time() -> None:
    world = World.registered(chance=lambda: 0.0)
    world.submit(b"a")
    assert sorted(world.receivers()) == [0, 1, 2, 3]
