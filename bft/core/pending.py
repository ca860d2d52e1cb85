"""Requests heard of and not yet executed, oldest first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from bft.core.effects import Rejection
from bft.core.messages import Authenticated, ClientKey, ReplicaId, Request, RequestId
from bft.core.parameters import Parameters

_BACKLOG_TIMEOUTS = 16  # a request may wait this many time-outs, from being heard of, whatever stands before it

Origin = ClientKey | ReplicaId | None  # the link it came on; None: from an accepted proposal


@dataclass(slots=True)
class PendingRequest:
    """A request whose execution is owed."""

    request: Authenticated[Request]
    heard_ns: int  # monotonic
    origin: Origin
    proposed: bool  # in an accepted proposal of the current view


class PendingRequests:
    """Bounded in count, in bytes and for each origin; one request an id (client, session, number).

    A second request of the same id is the client's fault: the first stays, whichever is ordered clears both.
    Requests out of accepted proposals are always taken: the window and the batch limits bound them.
    """

    def __init__(self, parameters: Parameters) -> None:
        self._parameters = parameters
        self._by_id: OrderedDict[RequestId, PendingRequest] = OrderedDict()  # in order of hearing
        self._head_since_ns = 0  # when the present oldest became the oldest, monotonic
        self._unproposed: OrderedDict[RequestId, None] = OrderedDict()
        self._bytes = 0
        self._of_origin: dict[Origin, list[int]] = {}  # [requests, bytes] that each link brought

    def __len__(self) -> int:
        return len(self._by_id)

    def __contains__(self, request_id: RequestId) -> bool:
        return request_id in self._by_id

    def add(self, request: Authenticated[Request], *, origin: Origin, now_ns: int) -> Rejection | None:
        """Owe this request's execution; the reason when it is not taken."""
        known = self._by_id.get(request.message.id)
        if known is not None:
            same = known.request.digest == request.digest
            return Rejection.DUPLICATE if same else Rejection.CONFLICTING
        requests, size = self._of_origin.get(origin, (0, 0))
        full = (
            len(self._by_id) >= self._parameters.pending_requests_max
            or self._bytes + len(request.payload) > self._parameters.pending_bytes_max
            or requests >= self._parameters.pending_per_origin_max
            or size + len(request.payload) > self._parameters.pending_bytes_per_origin_max
        )
        if full:
            return Rejection.OVERLOADED
        self._insert(request, origin=origin, now_ns=now_ns, proposed=False)
        return None

    def add_proposed(self, requests: Iterable[Authenticated[Request]], *, now_ns: int) -> None:
        """These are in an accepted proposal of the current view."""
        for request in requests:
            known = self._by_id.get(request.message.id)
            if known is None:
                self._insert(request, origin=None, now_ns=now_ns, proposed=True)
            else:
                known.proposed = True
                self._unproposed.pop(request.message.id, None)

    def take(self) -> tuple[Authenticated[Request], ...]:
        """The oldest unproposed requests, up to the batch limits; they count as proposed from now on."""
        taken: list[Authenticated[Request]] = []
        size = 0
        for request_id in self._unproposed:
            request = self._by_id[request_id].request
            size += len(request.payload)
            if taken and (size > self._parameters.batch_bytes_max or len(taken) >= self._parameters.batch_requests_max):
                break
            taken.append(request)
        for request in taken:
            self._by_id[request.message.id].proposed = True
            del self._unproposed[request.message.id]
        return tuple(taken)

    def put_back(self, requests: Sequence[Authenticated[Request]]) -> None:
        """Ordered but not executed: those that are pending here lead the next batch."""
        for request in reversed(requests):
            entry = self._by_id.get(request.message.id)
            if entry is not None:
                entry.proposed = False
                self._unproposed[request.message.id] = None
                self._unproposed.move_to_end(request.message.id, last=False)

    def remove(self, request_id: RequestId, *, now_ns: int) -> None:
        """Its id is executed (or can never be)."""
        was_head = self._by_id and next(iter(self._by_id)) == request_id
        gone = self._by_id.pop(request_id, None)
        if gone is None:
            return
        if was_head:
            self._head_since_ns = now_ns
        self._unproposed.pop(request_id, None)
        self._bytes -= len(gone.request.payload)
        share = self._of_origin[gone.origin]
        share[0] -= 1
        share[1] -= len(gone.request.payload)
        if not share[0]:
            del self._of_origin[gone.origin]

    def enter_view(self, now_ns: int) -> None:
        """In the new view nothing is proposed yet, and everybody gets the full time again."""
        for entry in self._by_id.values():
            entry.proposed = False
            entry.heard_ns = now_ns
        self._head_since_ns = now_ns
        self._unproposed = OrderedDict.fromkeys(self._by_id)

    def deadline_ns(self, timeout_ns: int, *, patient_from_ns: int) -> int:
        """When the oldest request, there must be one, has to be executed; monotonic, as ``patient_from_ns``.

        OSDI'99 §4.4: the time runs anew when another request becomes the one waited for.  So a backlog deposes no
        primary that works it off, and a request that a primary leaves out is found: it becomes the oldest, and stays.
        A primary that makes it wait behind others for very long is found by the second, absolute bound.
        """
        oldest = next(iter(self._by_id.values()))
        relative_ns = max(self._head_since_ns, patient_from_ns) + timeout_ns
        absolute_ns = max(oldest.heard_ns, patient_from_ns) + _BACKLOG_TIMEOUTS * timeout_ns
        return min(relative_ns, absolute_ns)

    def unproposed(self, limit: int, *, heard_before_ns: int) -> list[Authenticated[Request]]:
        """The oldest that no accepted proposal contains, of those heard of until then."""
        oldest = [self._by_id[request_id] for request_id in islice(self._unproposed, limit)]
        return [entry.request for entry in oldest if entry.heard_ns <= heard_before_ns]

    @property
    def has_unproposed(self) -> bool:
        return bool(self._unproposed)

    def requests(self) -> list[Authenticated[Request]]:
        """All of them, oldest first."""
        return [entry.request for entry in self._by_id.values()]

    def _insert(self, request: Authenticated[Request], *, origin: Origin, now_ns: int, proposed: bool) -> None:
        if not self._by_id:
            self._head_since_ns = now_ns
        self._by_id[request.message.id] = PendingRequest(request, now_ns, origin, proposed)
        if not proposed:
            self._unproposed[request.message.id] = None
        self._bytes += len(request.payload)
        share = self._of_origin.setdefault(origin, [0, 0])
        share[0] += 1
        share[1] += len(request.payload)
