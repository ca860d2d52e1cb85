"""Frames that wait for the node: one bounded queue a sender, served in turn.

A sender whose queue is full is not read from until half of it was served, so TCP slows it down; nobody else notices.
Replicas and clients wait in separate circles, so that many clients cannot crowd out the replicas' votes.
"""

from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from bft.net.link import Link


class Frame(NamedTuple):
    """A frame and where it is from."""

    source: "Source"
    link: Link
    type: int
    body: bytes


class Source:
    """One sender: a replica, or a client with all its links."""

    __slots__ = ("bytes_max", "frames", "items_max", "key", "paused", "replica", "waiting_bytes")

    def __init__(self, *, replica: int | None, key: bytes, items_max: int, bytes_max: int) -> None:
        self.replica: Final = replica  # None: a client
        self.key: Final = key  # raw public key
        self.items_max: Final = items_max
        self.bytes_max: Final = bytes_max
        self.frames: deque[Frame] = deque()
        self.waiting_bytes = 0
        self.paused: list[Link] = []  # not read from until there is room

    @property
    def is_full(self) -> bool:
        return len(self.frames) >= self.items_max or self.waiting_bytes >= self.bytes_max

    @property
    def has_room(self) -> bool:
        return len(self.frames) <= self.items_max // 2 and self.waiting_bytes <= self.bytes_max // 2


class Inbox:
    """All queues.  `wake` is called when a frame comes and none was there."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._replicas: deque[Source] = deque()  # those with frames, next one first
        self._clients: deque[Source] = deque()

    def __len__(self) -> int:
        return sum(len(source.frames) for circle in (self._replicas, self._clients) for source in circle)

    def __bool__(self) -> bool:
        return bool(self._replicas or self._clients)

    def put(self, source: Source, link: Link, frames: list[tuple[int, bytes]]) -> None:
        """Queue frames of one sender; stops reading its link when that fills the queue."""
        if not source.frames:
            (self._clients if source.replica is None else self._replicas).append(source)
        for type_, body in frames:
            source.frames.append(Frame(source, link, type_, body))
            source.waiting_bytes += len(body)
        if source.is_full and link not in source.paused:
            link.pause_reading()
            source.paused.append(link)
        self._wake()

    def take(self, *, from_replicas: int, from_clients: int) -> list[Frame]:
        """At most so many frames, one of each sender in turn."""
        frames: list[Frame] = []
        if self._replicas:
            _serve(self._replicas, from_replicas, frames)
        if self._clients:
            _serve(self._clients, from_clients, frames)
        return frames


def _serve(circle: deque[Source], limit: int, frames: list[Frame]) -> None:
    while circle and limit > 0:
        limit -= 1
        source = circle.popleft()
        frame = source.frames.popleft()
        source.waiting_bytes -= len(frame.body)
        frames.append(frame)
        if source.frames:
            circle.append(source)
        if source.paused and source.has_room:
            for link in source.paused:
                link.resume_reading()
            source.paused.clear()
