"""A primary that delays just under the time-out is rotated out, and nobody else is (DESIGN §5)."""

import pytest

from bft.core.effects import ViewChangeCause
from bft.testing.options import Options
from bft.testing.scheduler import MS, SECOND
from bft.testing.simulation import Simulation

pytestmark = pytest.mark.sim


def world(seed: int = 1, n: int = 4, **settings) -> Simulation:
    ran = Simulation(Options(seed=seed, n=n, requests=60, **settings))
    ran.run()
    return ran


def middle(latencies_ns: list[int]) -> int:
    return sorted(latencies_ns)[len(latencies_ns) // 2]


@pytest.mark.parametrize("n", [4, 7])
@pytest.mark.parametrize("seed", range(2))
def test_a_primary_that_delays_just_under_the_timeout_is_rotated_out(n, seed):
    """No request times out, and yet latency comes back to what the network allows."""
    ran = world(seed, n, byzantine=((0, "delay(ms=700)"),), request_timeout_ns=SECOND)
    causes = ran.checker.causes
    assert causes[ViewChangeCause.SLOW_PRIMARY] > 0
    assert causes[ViewChangeCause.REQUEST_TIMEOUT] == 0
    attacked = [latency for client in ran.clients for latency in client.latencies_ns[:5]]
    recovered = [latency for client in ran.clients for latency in client.latencies_ns[-20:]]
    assert middle(recovered) * 10 < middle(attacked)
    assert {host.core.view for host in ran.hosts[1:] if host.core is not None} == {1}


@pytest.mark.parametrize("n", [4, 7])
@pytest.mark.parametrize(
    "trouble",
    [
        {"delay_ns": 300 * MS},
        {"delay_ns": 50 * MS, "loss": 0.2},
        {"pauses": 4},
        {"sync_ns": 100 * MS},
        {"reorder": 0.3},
        {"loss": 0.25},
        {"byzantine_clients": ("flood_backups", "two_faced")},
    ],
    ids=str,
)
def test_trouble_that_all_share_is_not_held_against_the_primary(n, trouble):
    """Time-outs may be too short for such a network; the monitor of the primary is not."""
    ran = world(1, n, request_timeout_ns=20 * SECOND, **trouble)
    assert ran.checker.causes[ViewChangeCause.SLOW_PRIMARY] == 0


@pytest.mark.parametrize(("n", "liars"), [(4, (3,)), (7, (5, 6))])
def test_f_backups_that_are_late_or_early_with_everything_depose_no_primary(n, liars):
    for behaviour in ("delay(ms=700)", "early_commits", "view_change_spam(jump=1)"):
        ran = world(1, n, byzantine=tuple((liar, behaviour) for liar in liars), request_timeout_ns=SECOND)
        assert ran.checker.causes[ViewChangeCause.SLOW_PRIMARY] == 0
