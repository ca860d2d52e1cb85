"""A liar that tells some only that it lost its disk: what it makes one do must not cost that one the others' trust."""

from typing import Any

import pytest

from bft.core import effects as fx
from bft.core.events import ClientRequest, Received
from bft.core.messages import QueryStable
from bft.core.parameters import MS, SECOND
from tests.paper.stage import Stage

LIAR = 3
H = 16  # two windows above genesis
VIEW = 99  # too far for anybody to change views for it: this is about batches alone


class Three:
    """The correct replicas of n = 4, wired to each other; replica 3 says what the test lets it say."""

    def __init__(self) -> None:
        self.stages = [Stage(n=4, me=replica) for replica in range(LIAR)]

    def tell(self, replica: int, event: Any) -> None:
        self._deliver([(replica, effect) for effect in self.stages[replica].step(event)])

    def pass_time(self, nanoseconds: int) -> None:
        for _ in range(nanoseconds // (50 * MS)):
            for replica, stage in enumerate(self.stages):
                self._deliver([(replica, effect) for effect in stage.wait(50 * MS)])

    def order(self, number: int) -> None:
        """A client asks all of them."""
        request = self.stages[0].request(number)
        for replica in range(LIAR):
            self.tell(replica, ClientRequest(request))

    def _deliver(self, sent: list[tuple[int, Any]]) -> None:
        while sent:
            sender, effect = sent.pop(0)
            match effect:
                case fx.Broadcast(message):
                    targets = [replica for replica in range(LIAR) if replica != sender]
                case fx.Send(to, message) if to != LIAR:
                    targets = [to]
                case _:
                    continue
            for target in targets:
                sent += [(target, new) for new in self.stages[target].step(Received(sender, message))]


@pytest.mark.parametrize("told", [[0], [0, 1], [0, 2]])
def test_a_liar_that_begs_from_some_only_deposes_no_correct_primary(told):
    cluster = Three()
    for replica in told:
        cluster.tell(replica, Received(LIAR, QueryStable(0, H, VIEW)))
    cluster.pass_time(SECOND)
    for number in range(1, 4):
        cluster.order(number)
        cluster.pass_time(3 * SECOND)
    assert [stage.replica.view for stage in cluster.stages] == [0, 0, 0]
    assert [len(stage.replica.evidence) for stage in cluster.stages] == [0, 0, 0]
    assert len({stage.replica.last_executed for stage in cluster.stages}) == 1
