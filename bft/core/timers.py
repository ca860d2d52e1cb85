"""The core's timers are deadlines on the monotonic clock; the shell arms one alarm for the earliest."""

from __future__ import annotations

from enum import IntEnum


class Timer(IntEnum):
    """What a deadline is for."""

    REQUEST = 0  # the oldest pending request must be executed
    NEW_VIEW = 1  # the NEW-VIEW must come
    STATUS = 2  # tell the others where we stand, retransmit
    TRANSFER = 3  # a peer must have answered a FetchState


class Deadlines:
    """One deadline a timer, in monotonic nanoseconds."""

    def __init__(self) -> None:
        self._at: tuple[int | None, ...] = (None,) * len(Timer)  # by timer
        self.earliest_ns: int | None = None

    def arm(
        self, *, request_ns: int | None, new_view_ns: int | None, status_ns: int | None, transfer_ns: int | None
    ) -> None:
        """Arm or re-arm each; None disarms.  Called after every event, which seldom changes any."""
        at = (request_ns, new_view_ns, status_ns, transfer_ns)
        if at != self._at:
            self._at = at
            self.earliest_ns = min([at_ns for at_ns in at if at_ns is not None], default=None)

    def due(self, timer: Timer, now_ns: int) -> bool:
        at_ns = self._at[timer]
        return at_ns is not None and at_ns <= now_ns
