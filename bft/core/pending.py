"""Requests heard of and not yet executed, oldest first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice

from bft.core.effects import Rejection
from bft.core.messages import Authenticated, Request, RequestId
from bft.core.parameters import Parameters
from bft.core.turns import Origin, Turns

_JUDGED = 64  # of the oldest unproposed requests, as many as are relayed
_BACKLOG_TIMEOUTS = 16  # a request may wait this many time-outs, from being heard of, whatever stands before it


@dataclass(slots=True)
class PendingRequest:
    """A request whose execution is owed."""

    request: Authenticated[Request]
    heard_ns: int  # monotonic
    origin: Origin  # whose share it counts in
    proposed: bool  # in an accepted proposal of the current view
    shown_ns: int | None = None  # to the primary of this view, by us, monotonic
    held_against: bool = False  # the primary, that it came so late
    queued: list[Origin] = field(default_factory=list)  # in whose turns it may be taken, while it is unproposed


class PendingRequests:
    """Bounded in count, in bytes and for each origin; one request an id (client, session, number).

    No client can crowd out another: when all places are taken, whoever holds most gives one up, and requests are
    proposed one of each origin in turn.  A backup's relays are an origin too: what its timer waits for is soon taken.

    A second request of the same id is the client's fault: the first stays, whichever is ordered clears both.
    Requests out of accepted proposals are always taken: the window and the batch limits bound them.  What is known from
    such a proposal alone is given up again when that is over and the table is full: its client asks again.
    """

    def __init__(self, parameters: Parameters) -> None:
        self._parameters = parameters
        self._by_id: OrderedDict[RequestId, PendingRequest] = OrderedDict()  # in order of hearing
        self._head_since_ns = 0  # when the present oldest became the oldest, monotonic
        self._unproposed: OrderedDict[RequestId, None] = OrderedDict()  # in order of hearing
        self._turns = Turns()  # the same ones, in the order of proposing
        self._brought = Turns()  # the same ones, each with who brought it alone
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
            if known.request.digest != request.digest:
                return Rejection.CONFLICTING
            self._also_wanted_by(origin, known)
            return Rejection.DUPLICATE
        requests, size = self._of_origin.get(origin, (0, 0))
        if (
            requests >= self._parameters.pending_per_origin_max
            or size + len(request.payload) > self._parameters.pending_bytes_per_origin_max
        ):
            return Rejection.OVERLOADED
        share = (requests + 1, size + len(request.payload))
        while not self._has_room(len(request.payload)):
            if not self._drop_one_of_the_largest(than=share, now_ns=now_ns):
                return Rejection.OVERLOADED
        self._insert(request, origin=origin, now_ns=now_ns, proposed=False)
        return None

    def _has_room(self, size: int) -> bool:
        return (
            len(self._by_id) < self._parameters.pending_requests_max
            and self._bytes + size <= self._parameters.pending_bytes_max
        )

    def _is_over(self) -> bool:
        return (
            len(self._by_id) > self._parameters.pending_requests_max or self._bytes > self._parameters.pending_bytes_max
        )

    def _drop_one_of_the_largest(self, *, than: tuple[int, int], now_ns: int) -> bool:
        """Give up the newest unproposed request of who holds most of what is short; False if nobody has more than that.

        What somebody else brought stays, whoever waits for it too.
        """
        short = 0 if len(self._by_id) >= self._parameters.pending_requests_max else 1  # requests, or bytes
        able = [origin for origin in self._of_origin if self._brought.length(origin)]
        largest = max(able, key=lambda origin: self._of_origin[origin][short], default=None)
        newest = self._brought.newest(largest)
        if newest is None or self._of_origin[largest][short] <= than[short]:
            return False
        self.remove(newest, now_ns=now_ns)
        return True

    def _also_wanted_by(self, origin: Origin, known: PendingRequest) -> None:
        """A backup waits for it too: it may be taken in that backup's turn as well."""
        if (
            isinstance(origin, int)
            and not known.proposed
            and origin not in known.queued
            and self._turns.length(origin) < self._parameters.pending_per_origin_max
        ):
            known.queued.append(origin)
            self._turns.add(origin, known.request.message.id)

    def show(self, request: Authenticated[Request], *, now_ns: int) -> None:
        """We relay it to the primary now, which may not have known it before."""
        entry = self._by_id.get(request.message.id)
        if entry is not None and entry.shown_ns is None:
            entry.shown_ns = now_ns

    def judge(self, batch: Sequence[Authenticated[Request]], *, in_turn: bool, shown_by_ns: int) -> bool | None:
        """Whether an accepted proposal is late: for a request in it, or left out of it, that we showed by then.

        None: it says nothing.  To be called before `add_proposed`; each request is held against the primary once.
        ``in_turn``: no earlier proposal is missing here, so what this one leaves out is in none.
        """
        limits = self._parameters
        size = sum(len(request.payload) for request in batch)
        if len(batch) >= limits.batch_requests_max or 2 * size >= limits.batch_bytes_max:
            return None  # others may have to wait
        here = {request.message.id for request in batch}
        candidates = [entry for request_id in here if (entry := self._by_id.get(request_id)) is not None]
        if in_turn:
            oldest = islice(self._unproposed, _JUDGED)
            candidates += [self._by_id[request_id] for request_id in oldest if request_id not in here]
        shown = [entry for entry in candidates if not entry.proposed and entry.shown_ns is not None]
        late = [entry for entry in shown if entry.shown_ns is not None and entry.shown_ns <= shown_by_ns]
        if any(not entry.held_against for entry in late):
            for entry in late:
                entry.held_against = True
            return True
        return False if in_turn and not late and any(entry.request.message.id in here for entry in shown) else None

    def add_proposed(self, requests: Iterable[Authenticated[Request]], *, now_ns: int) -> None:
        """These are in an accepted proposal of the current view."""
        for request in requests:
            known = self._by_id.get(request.message.id)
            if known is None:
                self._insert(request, origin=None, now_ns=now_ns, proposed=True)
            else:
                self._set_proposed(known)

    def take(self) -> tuple[Authenticated[Request], ...]:
        """Unproposed requests, one of each origin in turn, up to the batch limits; from now on they are proposed."""
        taken: list[Authenticated[Request]] = []
        size = 0
        while self._unproposed:
            entry = self._by_id[self._turns.first()]
            size += len(entry.request.payload)
            if taken and (size > self._parameters.batch_bytes_max or len(taken) >= self._parameters.batch_requests_max):
                break
            self._turns.pass_on()
            self._set_proposed(entry)
            taken.append(entry.request)
        return tuple(taken)

    def put_back(self, requests: Sequence[Authenticated[Request]], *, now_ns: int) -> None:
        """Ordered but not executed: those that are pending here lead the next batch."""
        for request in reversed(requests):
            entry = self._by_id.get(request.message.id)
            if entry is not None and entry.origin is None and self._is_over():
                self.remove(request.message.id, now_ns=now_ns)
            elif entry is not None:
                self._set_proposed(entry)  # catch-up brings batches with what is unproposed here, and in turns
                self._set_unproposed(entry)
                entry.shown_ns = None
                self._unproposed.move_to_end(request.message.id, last=False)
                self._turns.lead(entry.origin, request.message.id)

    def remove(self, request_id: RequestId, *, now_ns: int) -> None:
        """Its id is executed (or can never be)."""
        was_head = self._by_id and next(iter(self._by_id)) == request_id
        gone = self._by_id.pop(request_id, None)
        if gone is None:
            return
        if was_head:
            self._head_since_ns = now_ns
        self._set_proposed(gone)
        self._bytes -= len(gone.request.payload)
        share = self._of_origin[gone.origin]
        share[0] -= 1
        share[1] -= len(gone.request.payload)
        if not share[0]:
            del self._of_origin[gone.origin]

    def pass_over(self, requests: Iterable[Authenticated[Request]], *, now_ns: int) -> None:
        """The window moved beyond their proposal, and it was not executed here: somebody else's business now."""
        for request in requests:
            entry = self._by_id.get(request.message.id)
            if entry is not None and entry.origin is None:
                self.remove(request.message.id, now_ns=now_ns)

    def enter_view(self, now_ns: int) -> None:
        """In the new view nothing is proposed yet, and everybody gets the full time again."""
        if self._is_over():
            for request_id in [i for i, entry in reversed(self._by_id.items()) if entry.origin is None]:
                self.remove(request_id, now_ns=now_ns)
                if not self._is_over():
                    break
        self._turns.clear()
        self._brought.clear()
        self._unproposed.clear()
        for entry in self._by_id.values():
            entry.heard_ns = now_ns
            entry.shown_ns, entry.held_against = None, False
            self._set_unproposed(entry)
        self._head_since_ns = now_ns

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
    def unproposed_count(self) -> int:
        return len(self._unproposed)

    @property
    def has_unproposed(self) -> bool:
        return bool(self._unproposed)

    def requests(self) -> list[Authenticated[Request]]:
        """All of them, oldest first."""
        return [entry.request for entry in self._by_id.values()]

    def _set_proposed(self, entry: PendingRequest) -> None:
        """It is nobody's turn to be taken any more."""
        entry.proposed = True
        self._unproposed.pop(entry.request.message.id, None)
        self._brought.discard(entry.origin, entry.request.message.id)
        for origin in entry.queued:
            self._turns.discard(origin, entry.request.message.id)
        entry.queued = []

    def _set_unproposed(self, entry: PendingRequest) -> None:
        """It is in the turn of who brought it, and in no other."""
        entry.proposed = False
        entry.queued = [entry.origin]
        self._unproposed[entry.request.message.id] = None
        self._turns.add(entry.origin, entry.request.message.id)
        self._brought.add(entry.origin, entry.request.message.id)

    def _insert(self, request: Authenticated[Request], *, origin: Origin, now_ns: int, proposed: bool) -> None:
        if not self._by_id:
            self._head_since_ns = now_ns
        entry = self._by_id[request.message.id] = PendingRequest(request, now_ns, origin, proposed)
        if not proposed:
            self._set_unproposed(entry)
        self._bytes += len(request.payload)
        share = self._of_origin.setdefault(origin, [0, 0])
        share[0] += 1
        share[1] += len(request.payload)
