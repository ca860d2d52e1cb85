"""How long the client waits before it asks again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bft.client.retry import Backoff, RetryPolicy, RoundTrip, full_spread


def test_the_retransmission_time_out_follows_the_measured_round_trips():
    round_trip = RoundTrip()
    for _ in range(50):
        round_trip.observe(0.5)
    slow = round_trip.timeout
    assert 0.75 <= slow < 0.8
    for _ in range(50):
        round_trip.observe(0.001)
    assert round_trip.timeout < slow


@given(st.floats(0, 3.5), st.floats(0, 0.24))
def test_after_many_equal_round_trips_a_hiccup_is_waited_for(usual, hiccup):
    """RFC 6298 §2.3: RTO = SRTT + max(G, 4 RTTVAR); without G the variation of equal samples goes to nothing."""
    round_trip = RoundTrip()
    for _ in range(200):
        round_trip.observe(usual)
    assert round_trip.timeout > usual + hiccup


@given(st.lists(st.floats(0, 1000), min_size=1))
def test_the_retransmission_time_out_has_a_floor_and_a_ceiling(samples):
    round_trip = RoundTrip()
    for sample in samples:
        round_trip.observe(sample)
    assert 0.25 <= round_trip.timeout <= 4.0


def test_delays_double_up_to_the_ceiling_and_start_again_after_a_reset():
    backoff = Backoff(1.0, 3.0, lambda delay: delay)
    assert [backoff.next() for _ in range(4)] == [1.0, 2.0, 3.0, 3.0]
    backoff.reset()
    assert backoff.next() == 1.0


def test_jitter_spreads_by_a_quarter_either_way():
    delays = [full_spread(1.0) for _ in range(200)]
    assert 0.75 <= min(delays) < max(delays) <= 1.25


def test_a_policy_says_how_far_pauses_are_spread():
    policy = RetryPolicy(jitter=0.5)
    assert all(1.0 <= policy.spread(2.0) <= 3.0 for _ in range(200))
    assert RetryPolicy(jitter=0).spread(2.0) == 2.0


@pytest.mark.parametrize("wrong", [{"first_s": 0}, {"ceiling_s": 0}, {"jitter": 1}, {"jitter": -0.1}])
def test_a_policy_that_cannot_work_is_refused(wrong):
    with pytest.raises(ValueError, match="must be"):
        RetryPolicy(**wrong)
