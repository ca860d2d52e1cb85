"""When to repeat to a peer what it may hold already: soon at first, then ever more seldom."""

from __future__ import annotations

from dataclasses import dataclass

from bft.core.messages import ReplicaId, Status, View
from bft.core.parameters import Parameters

_DOUBLINGS = 4  # of the interval, from one status interval on


@dataclass(slots=True)
class Reminder:
    """The last one to a peer."""

    what: object
    next_ns: int  # monotonic
    interval_ns: int


@dataclass(slots=True)
class Position:
    """Where a peer said last that it stands."""

    view: View
    active: bool
    heard_ns: int  # monotonic


class Reminders:
    """One message a peer: the VIEW-CHANGE or NEW-VIEW that it seems to lack.

    Nobody acknowledges these, and a peer that holds ours may have good reason to stay where it is.  What may have
    been lost with a restart or a broken link is said at once: the peer asks what it said before, or moved, or is heard
    again after a silence.
    """

    def __init__(self, parameters: Parameters) -> None:
        self._first_ns = parameters.status_interval_ns
        self._silence_ns = 2 * parameters.idle_status_interval_ns
        self._last: dict[ReplicaId, Reminder] = {}
        self._positions: dict[ReplicaId, Position] = {}

    def is_due(self, peer: ReplicaId, what: object, *, now_ns: int) -> bool:
        """Whether to say it now; if so, it counts as said."""
        last = self._last.get(peer)
        if last is None or last.what is not what:
            self._last[peer] = Reminder(what, now_ns + self._first_ns, self._first_ns)
            return True
        if now_ns < last.next_ns:
            return False
        last.interval_ns = min(2 * last.interval_ns, self._first_ns << _DOUBLINGS)
        last.next_ns = now_ns + last.interval_ns
        return True

    def on_status(self, peer: ReplicaId, status: Status, *, now_ns: int) -> None:
        """Start anew for a peer that moved, or was not heard of for long."""
        before = self._positions.get(peer)
        self._positions[peer] = Position(status.view, status.active, now_ns)
        moved = before is not None and (before.view, before.active) != (status.view, status.active)
        if moved or before is None or now_ns - before.heard_ns > self._silence_ns:
            self.forget(peer)

    def forget(self, peer: ReplicaId) -> None:
        """It restarted, and may have lost what we said."""
        self._last.pop(peer, None)
