"""The client table: which requests were executed and what came of them (DESIGN §4, Sessions; OSDI'99 §4.1).

Part of the replicated state: every change here happens inside execution, so it is the same at every correct replica,
and ``flush`` writes it under the state's Merkle root before each checkpoint.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from enum import Enum, auto

import msgpack

from bft.core.messages import ClientKey, Outcome, ReplyStatus, Request, Seq, SessionId
from bft.core.parameters import Parameters
from bft.core.ports import Application

_PREFIX = b"session/"


class Disposition(Enum):
    """What executing a request would mean."""

    FRESH = auto()
    EXECUTED = auto()
    OUTSIDE_WINDOW = auto()
    UNKNOWN_SESSION = auto()


@dataclass(slots=True)
class Session:
    """One client's session.  Executed: every number <= contiguous, and contiguous + 1 + i for each bit i of window."""

    id: SessionId
    client: ClientKey
    name: str
    nonce: int  # number of the REGISTER that opened it
    contiguous: int = 0
    window: int = 0  # bitmap, fewer than session_window bits
    last_used: int = 0  # position of its last executed request in the total order: the eviction order
    outcomes: dict[int, Outcome] = field(default_factory=dict)  # cached, by number; 0 is the registration
    outcome_bytes: int = 0

    def executed(self, number: int) -> bool:
        return number <= self.contiguous or bool(self.window >> (number - self.contiguous - 1) & 1)

    def prefix_given(self, request: Request) -> int:
        """``contiguous`` as it would be with the request's ``acked``: the client gives up every number up to there."""
        return max(self.contiguous, min(request.acked, request.number - 1))

    def mark(self, number: int, acked: int) -> None:
        """Number, not executed and inside the window, is executed; results up to ``acked`` are no longer needed."""
        # Skip first: ``number`` may be any 64-bit value whose distance is small only from the new prefix.
        skipped = max(0, min(acked, number - 1) - self.contiguous)
        self.window >>= min(skipped, self.window.bit_length())
        self.contiguous += skipped
        self.window |= 1 << (number - self.contiguous - 1)
        while self.window & 1:
            self.window >>= 1
            self.contiguous += 1
        for old in [n for n in self.outcomes if n <= acked]:
            self._forget(old)

    def keep(self, number: int, outcome: Outcome, bytes_max: int) -> None:
        """Cache a result; the lowest numbers give way when the session's results grow too large."""
        self.outcomes[number] = outcome
        self.outcome_bytes += _size(outcome)
        while self.outcome_bytes > bytes_max:
            self._forget(min(self.outcomes))

    def forget_all(self) -> None:
        """Drop every cached result."""
        self.outcomes.clear()
        self.outcome_bytes = 0

    def _forget(self, number: int) -> None:
        self.outcome_bytes -= _size(self.outcomes.pop(number))


def _size(outcome: Outcome) -> int:
    return 128 + sum(len(result) for result in outcome.results)


class Sessions:
    """All sessions, least recently used first, bounded in all and for each client."""

    def __init__(self, parameters: Parameters) -> None:
        self._parameters = parameters
        self._by_id: OrderedDict[SessionId, Session] = OrderedDict()  # in order of last_used
        self._of_client: dict[ClientKey, list[SessionId]] = {}
        self._dirty: dict[SessionId, None] = {}  # changed or evicted since the last flush
        self.outcome_bytes = 0  # cached results of all sessions

    def __len__(self) -> int:
        return len(self._by_id)

    def find(self, request: Request) -> Session | None:
        """The request's session, if it is the client's own."""
        session = self._by_id.get(request.session)
        return session if session is not None and session.client == request.client else None

    def registered(self, request: Request) -> Session | None:
        """The session that this very REGISTER opened before."""
        for session_id in self._of_client.get(request.client, ()):
            if self._by_id[session_id].nonce == request.number:
                return self._by_id[session_id]
        return None

    def judge(self, request: Request) -> Disposition:
        """What executing the request (not a REGISTER) now would mean; changes nothing."""
        session = self.find(request)
        if session is None:
            return Disposition.UNKNOWN_SESSION
        if request.number < 1 or session.executed(request.number):
            return Disposition.EXECUTED
        if request.number > session.prefix_given(request) + self._parameters.session_window:
            return Disposition.OUTSIDE_WINDOW
        return Disposition.FRESH

    def open(self, request: Request, *, name: str, position: int, time_ns: int) -> Session | None:
        """A session for a REGISTER at this place of the total order; evicts in agreed order to make room.

        None when it may not: registrations are replayed by whoever saw them.  A client's own sessions give way to newer
        registrations only, anybody's to recent ones only (the nonce is the client's clock, ``time_ns`` the agreed one).
        """
        own = self._of_client.get(request.client, [])
        if request.number > time_ns + self._parameters.registration_age_max_ns:
            return None  # would outlive all honest ones
        if len(own) >= self._parameters.sessions_per_client_max:
            oldest = min(own, key=lambda session_id: self._by_id[session_id].nonce)
            if request.number < self._by_id[oldest].nonce:
                return None
            self._evict(oldest)
        elif len(self._by_id) >= self._parameters.sessions_max:
            if abs(request.number - time_ns) > self._parameters.registration_age_max_ns:
                return None
            self._evict(self._least_deserving())
        session = Session(id=position, client=request.client, name=name, nonce=request.number, last_used=position)
        self._insert(session)
        self._dirty[session.id] = None
        return session

    def record(self, session: Session, number: int, outcome: Outcome, *, acked: int, position: int) -> None:
        """Request ``number`` was executed at this place of the total order; 0 stands for the registration itself."""
        before = session.outcome_bytes
        if number:
            session.mark(number, acked)
        session.keep(number, outcome, self._parameters.session_reply_bytes_max)
        session.last_used = position
        self._by_id.move_to_end(session.id)
        self._dirty[session.id] = None
        self.outcome_bytes += session.outcome_bytes - before
        if self.outcome_bytes > self._parameters.reply_bytes_max:
            self._forget_outcomes()

    def flush(self, application: Application) -> None:
        """Write what changed into the replicated state."""
        for session_id in self._dirty:
            session = self._by_id.get(session_id)
            application.put_system(_key(session_id), None if session is None else _encode(session))
        self._dirty.clear()

    def load(self, application: Application) -> None:
        """Take the table over from the replicated state."""
        self._by_id.clear()
        self._of_client.clear()
        self._dirty.clear()
        self.outcome_bytes = 0
        sessions = [_decode(value) for _, value in application.range_system(_PREFIX)]
        for session in sorted(sessions, key=lambda s: s.last_used):
            self._insert(session)

    def _forget_outcomes(self) -> None:
        """All results together grew too large: those of the least recently used sessions go."""
        for session in self._by_id.values():
            if self.outcome_bytes <= self._parameters.reply_bytes_max:
                return
            if session.outcomes:
                self.outcome_bytes -= session.outcome_bytes
                session.forget_all()
                self._dirty[session.id] = None

    def _insert(self, session: Session) -> None:
        self._by_id[session.id] = session
        self.outcome_bytes += session.outcome_bytes
        self._of_client.setdefault(session.client, []).append(session.id)

    def _least_deserving(self) -> SessionId:
        """The least recently used session of those who hold most: no client registers another's only session away."""
        most = max(len(own) for own in self._of_client.values())
        return next(s.id for s in self._by_id.values() if len(self._of_client[s.client]) == most)

    def _evict(self, session_id: SessionId) -> None:
        session = self._by_id.pop(session_id)
        self.outcome_bytes -= session.outcome_bytes
        own = self._of_client[session.client]
        own.remove(session_id)
        if not own:
            del self._of_client[session.client]
        self._dirty[session_id] = None


def _key(session_id: SessionId) -> bytes:
    return _PREFIX + session_id.to_bytes(8, "big")


def _encode(session: Session) -> bytes:
    outcomes = [
        [number, o.session, o.number, o.request_digest, o.seq, int(o.status), list(o.results)]
        for number, o in sorted(session.outcomes.items())
    ]
    window = session.window.to_bytes((session.window.bit_length() + 7) // 8, "big")
    fields = [session.id, session.client, session.name, session.nonce, session.contiguous, window, session.last_used]
    encoded: bytes = msgpack.packb([*fields, outcomes])
    return encoded


def _decode(value: bytes) -> Session:
    session_id, client, name, nonce, contiguous, window, last_used, outcomes = msgpack.unpackb(value)
    session = Session(session_id, client, name, nonce, contiguous, int.from_bytes(window, "big"), last_used)
    for key, in_session, number, digest, seq, status, results in outcomes:
        outcome = Outcome(client, in_session, number, digest, seq, ReplyStatus(status), tuple(results))
        session.outcomes[key] = outcome
        session.outcome_bytes += _size(outcome)
    return session


def seq_position(seq: Seq, index: int) -> int:
    """The place of a batch's ``index``-th request (< 2**16) in the total order; also names sessions uniquely."""
    return (seq << 16) | index
