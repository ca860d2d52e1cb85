"""A replica that is alone in a view change comes back, and one that only says so gains next to nothing."""

import pytest

from bft.core.effects import Broadcast, Effect, Send, ViewChangeCause
from bft.core.messages import GENESIS, Authenticated, Status, View, ViewChange
from bft.testing.behaviours.base import Behaviour, BehaviourContext
from bft.testing.hosts import Host
from bft.testing.options import Options
from bft.testing.scheduler import MS, SECOND
from bft.testing.simulation import Simulation

pytestmark = pytest.mark.sim


class Asks(Behaviour):
    """Votes on nothing, so that nothing contradicts its VIEW-CHANGEs, and is always in a change to the next view."""

    def __init__(self) -> None:
        self._asked: dict[View, Authenticated[ViewChange]] = {}

    def transform(self, effects: list[Effect], context: BehaviourContext) -> list[Effect]:
        if not any(isinstance(e, Send | Broadcast) and isinstance(e.message, Status) for e in effects):
            return []
        view = context.view + 1
        if view not in self._asked:
            self._asked[view] = context.signer.sign(ViewChange(view, GENESIS, (), context.id))
        status = Status(view, False, context.executed, context.stable, context.executed + 1, ())
        return [Broadcast(status), Broadcast(self._asked[view])]


class World(Simulation):
    """The last replica asks for ever."""

    def _behaviour(self, replica):
        return Asks() if replica in dict(self.options.byzantine) else None


def positions(hosts: list[Host]) -> set[tuple[View, bool]]:
    """Their views, and whether they are active in them."""
    return {(host.core.view, host.core.active) for host in hosts if host.core is not None}


@pytest.mark.parametrize("n", [4, 7])
@pytest.mark.parametrize("seed", range(3))
def test_a_replica_that_was_cut_off_for_one_timeout_takes_part_again_without_any_fault(n, seed):
    """The others have no reason of their own to change the view."""
    cut_off = ((n - 1, 2 * SECOND, 4 * SECOND),)
    options = Options(seed=seed, n=n, cut_off=cut_off, fault_phase_ns=5 * SECOND, requests=60, think_ns=100 * MS)
    world = Simulation(options)
    world.watch(0)
    assert positions(world.hosts[:-1]) == {(0, True)}
    assert positions(world.hosts[-1:]) == {(1, False)}
    world.watch(10 * SECOND)
    assert positions(world.hosts) == {(1, True)}
    assert world.checker.causes[ViewChangeCause.COURTESY] == 1
    assert world.checker.causes[ViewChangeCause.REQUEST_TIMEOUT] == 1


@pytest.mark.parametrize("n", [4, 7])
def test_one_that_asks_for_ever_costs_five_view_changes_in_two_minutes(n):
    """After 3, 6, 12, 24 and 48 s, whoever is primary; without that account it would be 40."""
    options = Options(seed=1, n=n, byzantine=((n - 1, "silent"),), think_ns=2 * SECOND)
    world = World(options)
    world.watch(114 * SECOND)
    ((view, active),) = positions(world.hosts[:-1])
    assert active
    assert 3 <= view <= 6
    assert 3 <= world.checker.causes[ViewChangeCause.COURTESY] <= 5
