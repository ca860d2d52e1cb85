"""Clients that accept a result only on a quorum of replies, as fast reads need, get every result."""

from dataclasses import replace

import pytest

from bft.testing.options import Options
from bft.testing.simulation import simulate

pytestmark = pytest.mark.sim


@pytest.mark.parametrize("seed", range(8))
def test_every_result_comes_through_crashes_view_changes_and_transfers(seed):
    """Berger et al., SRDS 2021: replicas that caught up must hold and resend replies, else such a client waits."""
    options = replace(Options.draw(seed, 4), fast_reads=True)
    assert simulate(options).accepted == options.clients * options.requests
