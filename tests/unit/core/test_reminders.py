"""How often a VIEW-CHANGE or NEW-VIEW is repeated to a peer that seems to lack it."""

from itertools import pairwise

import pytest

from bft.core.messages import Status
from bft.core.parameters import MS, SECOND, Parameters
from bft.core.reminders import Reminders

PEER = 2


@pytest.fixture
def reminders() -> Reminders:
    return Reminders(Parameters(n=4))


def said(reminders: Reminders, what: object, seconds: int, *, status: Status | None = None) -> list[int]:
    """When, in milliseconds, asked every 100 ms; with a STATUS of the peer each time."""
    times = []
    for now_ms in range(0, seconds * 1000, 100):
        if status is not None:
            reminders.on_status(PEER, status, now_ns=now_ms * MS)
        if reminders.is_due(PEER, what, now_ns=now_ms * MS):
            times.append(now_ms)
    return times


def at(view: int, *, active: bool = True) -> Status:
    return Status(view, active, 0, 0, 1, ())


def test_what_does_not_change_is_repeated_ever_more_seldom(reminders: Reminders) -> None:
    """42 KB to each peer five times a second, for as long as one is alone in a view change, were waste."""
    times = said(reminders, "view-change", 60, status=at(3))
    assert times[:6] == [0, 200, 600, 1400, 3000, 6200]
    assert all(later - earlier == 3200 for earlier, later in pairwise(times[5:]))


def test_what_is_new_is_said_at_once(reminders: Reminders) -> None:
    said(reminders, "view-change", 60)
    assert reminders.is_due(PEER, "another", now_ns=60 * SECOND)


def test_a_peer_that_restarted_is_told_at_once(reminders: Reminders) -> None:
    said(reminders, "view-change", 10, status=at(3))
    assert not reminders.is_due(PEER, "view-change", now_ns=10 * SECOND)
    reminders.forget(PEER)
    assert reminders.is_due(PEER, "view-change", now_ns=10 * SECOND)


@pytest.mark.parametrize(
    ("status", "after_ms", "is_due"),
    [(at(3), 100, False), (at(3), 2500, True), (at(3, active=False), 100, True), (at(4), 100, True)],
    ids=["nothing new", "heard again after a silence", "left its view", "in another view"],
)
def test_a_peer_of_which_something_new_is_heard_is_told_at_once(
    reminders: Reminders, status: Status, after_ms: int, is_due: bool
) -> None:
    said(reminders, "view-change", 10, status=at(3))
    now_ns = 10 * SECOND - 100 * MS + after_ms * MS
    reminders._last[PEER].next_ns = now_ns + 1  # it is not its turn
    reminders.on_status(PEER, status, now_ns=now_ns)
    assert reminders.is_due(PEER, "view-change", now_ns=now_ns) is is_due
