"""One request under way: sent, sent again, and finally answered."""

import math

from bft.client.bundler import PendingCall
from bft.client.collector import ReplyCollector
from bft.client.retry import Backoff
from bft.core.messages import Authenticated, ReplicaId, Request


class Exchange:
    """A signed request, the calls that it carries, and what came back so far.

    It lives until its outcome is accepted or its session ends, also when nobody awaits its calls any more: the
    replicas need every number of a session.
    """

    __slots__ = (
        "attempts",
        "backoff",
        "calls",
        "collector",
        "earliest_deadline",
        "frame",
        "is_overloaded",
        "refused_by",
        "request",
        "resend_at",
        "sent_at",
        "to_all",
    )

    def __init__(
        self,
        request: Authenticated[Request],
        frame: bytes,
        calls: list[PendingCall],
        collector: ReplyCollector,
        backoff: Backoff,
    ) -> None:
        self.request = request
        self.frame = frame
        self.calls = calls  # in the order of the request's operations
        self.collector = collector
        self.backoff = backoff
        self.attempts = 0
        self.sent_at = 0.0  # for the first time
        self.to_all = False  # at once
        self.resend_at = math.inf
        self.refused_by: set[ReplicaId] = set()  # for lack of room, since it was last sent
        self.is_overloaded = False  # f+1 replicas had no room for it: at least one correct one
        self.earliest_deadline = min((call.deadline for call in calls), default=math.inf)

    @property
    def number(self) -> int:
        return self.request.message.number

    def expired(self, now: float) -> list[PendingCall]:
        """The calls that waited too long; the request itself goes on."""
        if now < self.earliest_deadline:
            return []
        waiting = [call for call in self.calls if not call.waiter.done()]
        late = [call for call in waiting if call.deadline <= now]
        self.earliest_deadline = min((call.deadline for call in waiting if call.deadline > now), default=math.inf)
        return late
