"""When active replicas change the view for one that is alone in a view change, and what that can be made to cost."""

from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from bft.core.context import Context, CurrentView
from bft.core.courtesy import Courtesy
from bft.core.evidence import EvidenceBook
from bft.core.messages import GENESIS, Batch, Evidence, PrePrepare, ReplicaId, Status, View, ViewChange
from bft.core.parameters import SECOND, Parameters
from bft.core.quorum import Quorums
from bft.core.view_change import ViewChanges
from bft.testing.symbolic import Registry, SymbolicSigner

HOUR = 3600


@dataclass
class Replica0:
    """Primary of view 0, 4, ..., hears replica 3's STATUS once a second."""

    n: int = 4
    now_s: int = 0
    registry: Registry = field(init=False)
    current: CurrentView = field(default_factory=CurrentView)
    guilty: EvidenceBook = field(default_factory=EvidenceBook)

    def __post_init__(self) -> None:
        self.registry = Registry(self.n)
        context = Context(0, Parameters(n=self.n), Quorums.of(self.n), SymbolicSigner(self.registry, 0))
        self.view_changes = ViewChanges(context, self.current, self.guilty)
        self.courtesy = Courtesy(context, self.current, view_changes=self.view_changes, guilty=self.guilty)

    def vote(self, replica: ReplicaId, view: View) -> None:
        signed = SymbolicSigner(self.registry, replica).sign(ViewChange(view, GENESIS, (), replica))
        self.view_changes.on_view_change(signed)

    def hear(self, seconds: int, *, view: View = 0, active: bool, every: int = 1) -> list[int]:
        """When it would have granted the favour."""
        granted = []
        for _ in range(0, seconds, every):
            self.now_s += every
            now_ns = self.now_s * SECOND
            self.courtesy.on_status(3, Status(view, active, 0, 0, 1, ()), now_ns=now_ns)
            if self.courtesy.to_grant(now_ns=now_ns) is not None:
                granted.append(self.now_s)
        return granted

    def ask(self, seconds: int, *, every: int = 1) -> list[int]:
        self.vote(3, self.current.view + 1)
        return self.hear(seconds, view=self.current.view + 1, active=False, every=every)


@pytest.fixture
def primary() -> Replica0:
    return Replica0()


def test_a_replica_that_was_alone_for_long_is_granted_a_view_change(primary: Replica0) -> None:
    assert primary.ask(29) == []
    assert primary.ask(10) == [31]


def test_one_that_asks_for_ever_waits_twice_as_long_each_time_up_to_an_hour(primary: Replica0) -> None:
    granted = primary.ask(24 * HOUR)
    waits = [later - earlier for earlier, later in pairwise(granted)]
    assert [round(wait / 30) for wait in waits[:7]] == [2, 4, 8, 16, 32, 64, 128]
    assert set(waits[7:]) == {waits[6]}
    assert len([at for at in granted if at <= HOUR]) == 6


def test_an_hour_together_clears_the_account_and_less_does_not(primary: Replica0) -> None:
    primary.ask(31)
    primary.hear(HOUR // 2, active=True)
    assert primary.ask(31) == []
    primary.hear(HOUR, active=True)
    assert len(primary.ask(31)) == 1


def test_time_away_does_not_clear_it(primary: Replica0) -> None:
    primary.ask(31)
    primary.now_s += 24 * HOUR
    assert primary.ask(31) == []


def test_every_replica_keeps_the_account_for_the_primary_changes(primary: Replica0) -> None:
    primary.current.view = 1
    primary.vote(3, 2)
    vote = ViewChange(2, GENESIS, (), 3)
    primary.courtesy.on_passed_on(1, vote, now_ns=0)
    primary.current.view = 4
    assert primary.ask(59) == []
    assert len(primary.ask(10)) == 1


@pytest.mark.parametrize("sender", [2, 3])
def test_only_what_the_primary_passes_on_is_charged(primary: Replica0, sender: ReplicaId) -> None:
    primary.current.view = 1
    primary.vote(3, 2)
    primary.courtesy.on_passed_on(sender, ViewChange(2, GENESIS, (), 3), now_ns=0)
    primary.current.view = 4
    assert len(primary.ask(32)) == 1


def test_a_primary_charges_an_account_once_in_its_view(primary: Replica0) -> None:
    """Else a faulty one could have a correct replica wait for ever."""
    primary.current.view = 1
    primary.vote(3, 2)
    for _ in range(10):
        primary.courtesy.on_passed_on(1, ViewChange(2, GENESIS, (), 3), now_ns=0)
    primary.current.view = 4
    assert len(primary.ask(62)) == 1


def test_a_backup_grants_nothing(primary: Replica0) -> None:
    primary.current.view = 1
    assert primary.ask(HOUR) == []


def test_nobody_grants_anything_during_a_view_change(primary: Replica0) -> None:
    primary.current.active = False
    assert primary.ask(HOUR) == []


def test_one_that_shows_no_valid_view_change_gets_nothing(primary: Replica0) -> None:
    assert primary.hear(HOUR, view=1, active=False) == []


def test_one_that_is_active_asks_for_nothing(primary: Replica0) -> None:
    primary.vote(3, 1)
    assert primary.hear(HOUR, view=1, active=True) == []


def test_one_that_is_seldom_heard_gets_nothing(primary: Replica0) -> None:
    """It would not hear the NEW-VIEW either."""
    assert primary.ask(HOUR, every=10) == []


def test_a_view_in_which_no_correct_replica_can_be_brings_nothing(primary: Replica0) -> None:
    primary.vote(3, 4)
    assert primary.hear(HOUR, view=4, active=False) == []


def test_a_proven_equivocator_gets_nothing(primary: Replica0) -> None:
    sign = SymbolicSigner(primary.registry, 3).sign
    headers = [sign(PrePrepare(3, 1, Batch(time_ns, ()).digest, 3)) for time_ns in (1, 2)]
    primary.guilty.add(Evidence(*headers))
    assert primary.ask(HOUR) == []
