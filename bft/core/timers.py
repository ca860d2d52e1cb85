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
        self._at: dict[Timer, int] = {}

    def set(self, timer: Timer, at_ns: int | None) -> None:
        """Arm or re-arm; None disarms."""
        if at_ns is None:
            self._at.pop(timer, None)
        else:
            self._at[timer] = at_ns

    def due(self, timer: Timer, now_ns: int) -> bool:
        at = self._at.get(timer)
        return at is not None and at <= now_ns

    @property
    def earliest_ns(self) -> int | None:
        return min(self._at.values(), default=None)
