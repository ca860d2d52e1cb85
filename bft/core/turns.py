"""Whose request is proposed next: one of each link in turn."""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeAlias

from bft.core.messages import ClientKey, ReplicaId, RequestId

Origin: TypeAlias = ClientKey | ReplicaId | None  # the link a request came on; None: from an accepted proposal


class Turns:
    """Ids queued by origin: who sends much waits behind itself alone.

    Deviation (§4.2, which says nothing of it): requests of one link keep their order, those of different links do not.
    """

    def __init__(self) -> None:
        self._queues: OrderedDict[Origin, OrderedDict[RequestId, None]] = OrderedDict()  # in order of their turns

    def length(self, origin: Origin) -> int:
        return len(self._queues.get(origin, ()))

    def add(self, origin: Origin, request_id: RequestId) -> None:
        self._queues.setdefault(origin, OrderedDict())[request_id] = None

    def lead(self, origin: Origin, request_id: RequestId) -> None:
        """Before all others."""
        self.add(origin, request_id)
        self._queues[origin].move_to_end(request_id, last=False)
        self._queues.move_to_end(origin, last=False)

    def discard(self, origin: Origin, request_id: RequestId) -> None:
        queue = self._queues.get(origin)
        if queue is not None:
            queue.pop(request_id, None)
            if not queue:
                del self._queues[origin]

    def first(self) -> RequestId:
        """The next one's id; there must be one."""
        return next(iter(next(iter(self._queues.values()))))

    def pass_on(self) -> None:
        """Whose turn it was waits until all others had theirs."""
        self._queues.move_to_end(next(iter(self._queues)))

    def newest(self, origin: Origin) -> RequestId | None:
        queue = self._queues.get(origin)
        return next(reversed(queue)) if queue else None

    def clear(self) -> None:
        self._queues.clear()
