"""When a primary counts as slow (DESIGN §5, slow-primary just under the time-out)."""

import pytest

from bft.core.messages import Authenticated, Request, RequestKind
from bft.core.parameters import MS, SECOND, Parameters
from bft.core.pending import PendingRequests
from bft.core.primary_monitor import PrimaryMonitor
from bft.testing.symbolic import ClientSigner, Registry

REGISTRY = Registry(4)
CLIENT = bytes(32)


class Backup:
    """Feeds a monitor: each round the primary proposes `gap_ms` after a request was relayed, then the batch commits."""

    def __init__(self, batch_requests_max: int = 256) -> None:
        parameters = Parameters(n=4, request_timeout_ns=SECOND, batch_requests_max=batch_requests_max)
        self.pending = PendingRequests(parameters)
        self.monitor = PrimaryMonitor(parameters, self.pending)
        self.now_ns = 0
        self._seq = 0
        self._number = 0

    def relay(self, *, shown: bool = True) -> Authenticated[Request]:
        """A client's request comes, and goes to the primary unless there is a flood."""
        self._number += 1
        request = Request(CLIENT, 1, self._number, 0, RequestKind.APPLICATION, (b"x",))
        signed = ClientSigner(REGISTRY, CLIENT).sign(request)
        self.pending.add(signed, origin=CLIENT, now_ns=self.now_ns)
        if shown:
            self.pending.show(signed, now_ns=self.now_ns)
        return signed

    def propose(self, *requests: Authenticated[Request], seq: int | None = None) -> int:
        if seq is None:
            self._seq += 1
            seq = self._seq
        self.monitor.on_proposal(seq, requests, now_ns=self.now_ns, patient_from_ns=-100 * SECOND)
        self.pending.add_proposed(requests, now_ns=self.now_ns)
        return seq

    def execute(self, seq: int, *requests: Authenticated[Request]) -> None:
        for request in requests:
            self.pending.remove(request.message.id, now_ns=self.now_ns)
        self.monitor.on_executed(seq, now_ns=self.now_ns)

    def round(self, *, gap_ms: int, commit_ms: int, shown: bool = True) -> None:
        request = self.relay(shown=shown)
        self.now_ns += gap_ms * MS
        seq = self.propose(request)
        self.now_ns += commit_ms * MS
        self.execute(seq, request)

    def rounds(self, count: int, *, gap_ms: int, commit_ms: int) -> None:
        for _ in range(count):
            self.round(gap_ms=gap_ms, commit_ms=commit_ms)


@pytest.fixture
def backup() -> Backup:
    backup = Backup()
    backup.rounds(16, gap_ms=2, commit_ms=4)
    return backup


def test_a_primary_that_delays_just_under_the_timeout_is_slow(backup: Backup) -> None:
    backup.rounds(8, gap_ms=900, commit_ms=4)
    assert backup.monitor.is_slow


def test_less_than_sustained_delay_is_not_slow(backup: Backup) -> None:
    backup.rounds(7, gap_ms=900, commit_ms=4)
    assert not backup.monitor.is_slow


def test_a_network_that_is_slow_for_all_is_no_fault_of_the_primary() -> None:
    backup = Backup()
    backup.rounds(64, gap_ms=600, commit_ms=620)
    assert not backup.monitor.is_slow


def test_one_late_proposal_in_three_is_loss_and_not_delay(backup: Backup) -> None:
    for _ in range(100):
        backup.rounds(1, gap_ms=900, commit_ms=4)
        backup.rounds(2, gap_ms=2, commit_ms=4)
    assert not backup.monitor.is_slow


def test_what_is_below_a_fraction_of_the_timeout_are_never_long(backup: Backup) -> None:
    backup.rounds(100, gap_ms=120, commit_ms=1)
    assert not backup.monitor.is_slow


def test_a_request_that_was_not_relayed_says_nothing_about_the_primary(backup: Backup) -> None:
    """In a flood only the oldest are shown to it: else a client could depose a correct primary."""
    for _ in range(100):
        backup.round(gap_ms=900, commit_ms=4, shown=False)
    assert not backup.monitor.is_slow


def test_batches_that_leave_out_a_late_request_are_not_prompt(backup: Backup) -> None:
    """A primary that serves its friends at once is as slow to the others, of whom some always wait."""
    victims = [backup.relay()]
    for _ in range(300):
        if backup.now_ns % (100 * MS) < 10 * MS:
            victims.append(backup.relay())
        backup.round(gap_ms=5, commit_ms=5)
        if len(victims) > 6:
            victim = victims.pop(0)
            backup.execute(backup.propose(victim), victim)
    assert backup.monitor.is_slow


def test_one_request_that_waits_long_counts_once(backup: Backup) -> None:
    """It may have been lost on its way, or be one that the primary rightly refuses."""
    backup.relay()
    for _ in range(100):
        backup.round(gap_ms=30, commit_ms=4)
    assert not backup.monitor.is_slow


def test_a_full_batch_may_leave_others_waiting() -> None:
    backup = Backup(batch_requests_max=2)
    backup.rounds(16, gap_ms=2, commit_ms=4)
    waiting = [backup.relay() for _ in range(10)]
    for _ in range(30):
        backup.now_ns += 50 * MS
        waiting += [backup.relay(), backup.relay()]
        batch, waiting = waiting[:2], waiting[2:]
        backup.execute(backup.propose(*batch), *batch)
    assert not backup.monitor.is_slow


def test_what_a_missing_proposal_may_hold_is_not_held_against_the_primary(backup: Backup) -> None:
    held = [backup.relay() for _ in range(20)]
    backup.now_ns += 900 * MS
    for seq in range(100, 120):
        backup.propose(backup.relay(), seq=seq)
    assert held
    assert not backup.monitor.is_slow


def test_a_batch_that_waits_for_an_earlier_one_times_no_commit(backup: Backup) -> None:
    """Else a primary that shows them out of order makes its own delay the measure."""
    before = backup.monitor.tolerated_ns
    for seq in range(18, 100, 2):
        backup.propose(seq=seq)
        backup.now_ns += 900 * MS
        backup.propose(seq=seq - 1)
        backup.now_ns += 4 * MS
        backup.execute(seq - 1)
        backup.execute(seq)
    assert backup.monitor.tolerated_ns == before


def test_before_commits_were_timed_nobody_is_judged() -> None:
    backup = Backup()
    backup.rounds(7, gap_ms=900, commit_ms=4)
    assert backup.monitor.tolerated_ns is None
    assert not backup.monitor.is_slow


def test_each_rotation_in_vain_doubles_what_is_tolerated_and_quick_ones_bring_the_demand_back(backup: Backup) -> None:
    demanded = backup.monitor.tolerated_ns
    assert demanded is not None
    backup.monitor.leave_view(as_slow=True)
    assert backup.monitor.tolerated_ns == 2 * demanded
    for _ in range(100):
        backup.monitor.leave_view(as_slow=True)
    assert backup.monitor.tolerated_ns == demanded << 6
    backup.rounds(300, gap_ms=2, commit_ms=4)
    assert backup.monitor.tolerated_ns == demanded << 5


def test_a_view_left_for_another_reason_relaxes_nothing(backup: Backup) -> None:
    demanded = backup.monitor.tolerated_ns
    backup.rounds(7, gap_ms=900, commit_ms=4)
    backup.monitor.leave_view(as_slow=False)
    assert backup.monitor.tolerated_ns == demanded
    backup.rounds(7, gap_ms=900, commit_ms=4)
    assert not backup.monitor.is_slow
