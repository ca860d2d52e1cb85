"""What a client does, without sockets and clocks: opens its session, bundles calls, sends, retries, believes.

Time is an argument, in seconds of any monotonic clock; answers to callers go to their waiters.  After every method that
takes ``now``, ``next_deadline`` says when ``on_deadline`` is due.
"""

from collections.abc import Callable, Iterable
from typing import Final, Protocol
from weakref import WeakValueDictionary

from bft.client.audit import Audit
from bft.client.bundler import Bundler, PendingCall, Waiter
from bft.client.collector import Accepted, ReplyCollector, ViewTracker, replies_needed
from bft.client.errors import NotAuthorised, ResultLost
from bft.client.exchange import Exchange
from bft.client.proof import Proof
from bft.client.result import Result
from bft.client.retry import Backoff, Jitter, RoundTrip
from bft.client.session import SessionWindow
from bft.client.settings import ClientSettings
from bft.codec import encode_frame
from bft.config import ClusterConfig
from bft.core.effects import Rejection
from bft.core.messages import (
    ClientKey,
    Outcome,
    Refusal,
    ReplicaId,
    Reply,
    ReplyStatus,
    Request,
    RequestKind,
)
from bft.core.ports import Signer
from bft.core.quorum import Quorums
from bft.errors import ApplicationError, BftError, Overloaded, SessionLost, Timeout
from bft.statemachine.results import Ok, decode_result

_SESSION_ID_BYTES: Final = 8


class Links(Protocol):
    """The way to the replicas."""

    def send(self, replica: ReplicaId, frame: bytes) -> None:
        """Send, if the link is up and takes more; else the frame is lost, and sent again in time."""
        ...

    def is_up(self, replica: ReplicaId) -> bool: ...

    def trouble(self) -> str:
        """Which replicas cannot be reached, and why, in one line; empty if all can."""
        ...


class Dispatcher:
    """One client's requests, from submission to outcome.

    Nothing is sent before f+1 links are up, a quorum of them with fast reads, for fewer can prove no outcome: so what
    times out in an outage was never sent, and its caller learns that it did not happen.
    """

    def __init__(
        self,
        *,
        cluster: ClusterConfig,
        settings: ClientSettings,
        client: ClientKey,
        certificate: bytes,
        signer: Signer,
        links: Links,
        nonce: Callable[[], int],  # the wall clock in ns
        jitter: Jitter | None = None,  # None: the settings'
        chance: Callable[[], float] | None = None,  # None: the system's
    ) -> None:
        parameters = cluster.parameters
        self._cluster = cluster
        self._quorums = Quorums.of(parameters.n)
        self._fast_reads = parameters.fast_reads
        self._session_window = parameters.session_window
        self._bundles_max = settings.bundles_max
        self._client = client
        self._certificate = certificate
        self._signer = signer
        self._links = links
        self._nonce = nonce
        self._retry = settings.retry
        self._jitter = jitter or settings.retry.spread
        self._bundler = Bundler(
            operations_max=min(settings.bundle_operations_max, parameters.operations_max),
            bundle_bytes_max=min(settings.bundle_bytes_max, parameters.request_bytes_max),
        )
        self._views = ViewTracker(self._quorums)
        self._round_trip = RoundTrip()
        self._audit = Audit(chance)
        self._window: SessionWindow | None = None
        self._registration: Exchange | None = None
        self._exchanges: dict[int, Exchange] = {}  # of the current session, by number: at most `bundles_max`
        # Of answered requests, by session and number, while somebody holds a result: late replies go there.
        self._proofs: WeakValueDictionary[tuple[int, int], Proof] = WeakValueDictionary()
        self._failure: BftError | None = None  # why no call is taken any more
        self._on_registered: list[Waiter] = []

    # --- what can be seen

    @property
    def session(self) -> int | None:
        """The open session."""
        return None if self._window is None else self._window.session

    @property
    def view(self) -> int:
        """The view that f+1 replicas vouch for."""
        return self._views.view

    @property
    def primary(self) -> ReplicaId:
        return self._views.primary

    @property
    def round_trip_s(self) -> float | None:
        """Smoothed time from a request to its accepted outcome."""
        return self._round_trip.smoothed

    @property
    def queued(self) -> int:
        """Calls that wait to be sent."""
        return len(self._bundler)

    @property
    def in_flight(self) -> int:
        """Bundles sent and not yet answered."""
        return len(self._exchanges)

    @property
    def next_deadline(self) -> float:
        """When ``on_deadline`` has something to do; infinity: never."""
        deadline = self._bundler.earliest_deadline
        for exchange in self._under_way():
            deadline = min(deadline, exchange.earliest_deadline, exchange.resend_at)
        return deadline

    # --- from the caller

    def when_registered(self, waiter: Waiter) -> None:
        """Tell ``waiter`` once a session is open, or that none will be."""
        if self._failure is not None:
            waiter.set_exception(self._failure)
        elif self._window is not None:
            waiter.set_result(_REGISTERED)
        else:
            self._on_registered.append(waiter)

    def submit(self, call: PendingCall) -> None:
        """Take a call; ``flush`` sends it, together with whatever else was submitted by then."""
        if self._failure is not None:
            call.waiter.set_exception(self._failure)
        else:
            self._bundler.add(call)

    def flush(self, now: float) -> None:
        """Send what can be sent: as few bundles as possible, as many as are allowed."""
        if self._failure is not None or not self._can_be_heard():
            return
        window = self._window
        if window is None:
            if self._registration is None:
                self._register(now)
            return
        while len(self._exchanges) < self._bundles_max and window.is_open:
            calls = self._bundler.take()
            if not calls:
                return
            request = Request(
                self._client,
                window.session,
                window.allocate(),
                window.acked,
                RequestKind.APPLICATION,
                tuple([call.operation for call in calls]),
            )
            exchange = self._exchange(request, calls)
            self._exchanges[request.number] = exchange
            self._send_first(exchange, now)

    def close(self, error: Callable[[bool], BftError]) -> None:
        """Fail every call, with ``error(whether it was sent)``; none is taken any more."""
        if self._failure is None:
            self._failure = error(False)
        for call in self._bundler.drain():
            _fail(call.waiter, error(False))
        for exchange in self._exchanges.values():
            for call in exchange.calls:
                _fail(call.waiter, error(True))
        self._exchanges.clear()
        self._registration = None
        self._settle_registered(self._failure)

    # --- from the replicas

    def on_link_up(self, replica: ReplicaId, now: float) -> None:
        """Send what this replica may have missed, and what waited for it."""
        for exchange in self._under_way():
            if exchange.attempts > 1 or replica == self.primary or not self._links.is_up(self.primary):
                self._links.send(replica, exchange.frame)
        self.flush(now)

    def on_link_down(self, replica: ReplicaId, now: float) -> None:
        """Without the primary, ask the others at once: their patience with it begins when they hear of a request."""
        if replica == self.primary:
            for exchange in self._under_way():
                if exchange.attempts == 1:  # once: a primary whose link flaps must not make us flood the others
                    self._send_again(exchange, now)

    def on_reply(self, sender: ReplicaId, reply: Reply, now: float) -> None:
        """Count a reply that came on ``sender``'s link; dropped if nobody waits for it or holds its result."""
        answered = self._find(reply.outcome.session, reply.outcome.number)
        accepted = None if answered is None else answered.collector.add(sender, reply)
        if answered is None:
            proof = self._proofs.get((reply.outcome.session, reply.outcome.number))
            if proof is not None:
                proof.add(sender, reply)
        elif accepted is not None:
            if answered is self._registration:
                self._on_registration(accepted.outcome, now)
            else:
                self._on_outcome(answered, accepted, now)
        if self._views.report(sender, reply.result.message.view):
            for exchange in self._under_way():
                self._links.send(self.primary, exchange.frame)
        if accepted is not None:
            self.flush(now)

    def on_refusal(self, sender: ReplicaId, refusal: Refusal, now: float) -> None:
        """A replica had no room.  One alone may lie; f+1 make the client wait longer before it asks again."""
        exchange = self._find(refusal.session, refusal.number)
        if exchange is None or refusal.reason != Rejection.OVERLOADED:
            return
        exchange.refused_by.add(sender)
        if len(exchange.refused_by) == self._quorums.weak:
            exchange.is_overloaded = True
            exchange.resend_at = max(exchange.resend_at, now + exchange.backoff.next())

    def on_deadline(self, now: float) -> None:
        """Give up the calls that waited too long; send again what has had no answer."""
        overloaded = any(exchange.is_overloaded for exchange in self._under_way())
        for call in self._bundler.expired(now):
            _fail(call.waiter, self._unsent(now, overloaded=overloaded))
        for exchange in self._under_way():
            for call in exchange.expired(now):
                _fail(call.waiter, self._unanswered(exchange))
            if exchange.resend_at <= now:
                self._send_again(exchange, now)
        self.flush(now)

    # --- sending

    def _under_way(self) -> Iterable[Exchange]:
        exchanges = list(self._exchanges.values())
        return exchanges if self._registration is None else [self._registration, *exchanges]

    def _can_be_heard(self) -> bool:
        needed = replies_needed(self._quorums, fast_reads=self._fast_reads)
        return sum(map(self._links.is_up, range(self._quorums.n))) >= needed

    def _exchange(self, request: Request, calls: list[PendingCall]) -> Exchange:
        signed = self._signer.sign(request)
        first = self._round_trip.timeout if self._retry.first_s is None else self._retry.first_s
        backoff = Backoff(first, self._retry.ceiling_s, self._jitter)
        collector = ReplyCollector(signed, self._quorums, fast_reads=self._fast_reads)
        return Exchange(signed, encode_frame(signed), calls, collector, backoff)

    def _send_first(self, exchange: Exchange, now: float) -> None:
        """To the believed primary alone: in the normal case the others hear of it in the proposal.  OSDI'99 §4.1

        Some to all, see `Audit`.
        """
        exchange.attempts = 1
        exchange.sent_at = now
        exchange.resend_at = now + exchange.backoff.next()
        exchange.to_all = not self._links.is_up(self.primary) or self._audit.chooses()
        if not exchange.to_all:
            self._links.send(self.primary, exchange.frame)
        else:
            self._send_to_all(exchange)

    def _send_again(self, exchange: Exchange, now: float) -> None:
        """To all, so that the backups relay it and watch the primary.  OSDI'99 §4.1"""
        exchange.attempts += 1
        exchange.resend_at = now + exchange.backoff.next()
        exchange.refused_by.clear()
        self._send_to_all(exchange)

    def _send_to_all(self, exchange: Exchange) -> None:
        for replica in range(self._quorums.n):
            self._links.send(replica, exchange.frame)

    # --- outcomes

    def _find(self, session: int, number: int) -> Exchange | None:
        registration = self._registration
        if session == 0:
            return registration if registration is not None and registration.number == number else None
        window = self._window
        return self._exchanges.get(number) if window is not None and window.session == session else None

    def _on_outcome(self, exchange: Exchange, accepted: Accepted, now: float) -> None:
        outcome = accepted.outcome
        if outcome.status is ReplyStatus.UNKNOWN_SESSION:
            self._lose_session(now)
        elif outcome.status is ReplyStatus.EXECUTED:
            self._finish(exchange, now)
            proof = Proof(self._cluster, exchange.request, accepted)
            self._proofs[outcome.session, outcome.number] = proof
            _answer(exchange.calls, outcome, proof)
            # The rest was not executed, and never will be under this number: its results would have grown too large.
            self._bundler.put_back(exchange.calls[len(outcome.results) :])
        elif outcome.status is ReplyStatus.RESULT_DISCARDED:
            self._finish(exchange, now)
            for call in exchange.calls:
                _fail(call.waiter, ResultLost("the operation executed, but its result is no longer held"))
        # OUTSIDE_WINDOW does not happen to a number within acked + window; should it, the request is sent again.

    def _finish(self, exchange: Exchange, now: float) -> None:
        self._audit.observe(now - exchange.sent_at, to_all=exchange.to_all, retried=exchange.attempts > 1)
        if exchange.attempts == 1:
            self._round_trip.observe(now - exchange.sent_at)
        del self._exchanges[exchange.number]
        if self._window is not None:
            self._window.accept(exchange.number)

    def _lose_session(self, now: float) -> None:
        """The replicas agreed to forget the session.  What is under way may have executed before that, or not."""
        exchanges, self._exchanges = self._exchanges, {}
        self._window = None
        for exchange in exchanges.values():
            for call in exchange.calls:
                _fail(call.waiter, SessionLost("the replicas forgot this session; the operation may have executed"))
        self._register(now)

    def _register(self, now: float) -> None:
        request = Request(self._client, 0, self._nonce(), 0, RequestKind.REGISTER, (self._certificate,))
        self._registration = self._exchange(request, [])
        self._send_first(self._registration, now)

    def _on_registration(self, outcome: Outcome, now: float) -> None:
        if outcome.status is ReplyStatus.EXECUTED and len(outcome.results[0]) == _SESSION_ID_BYTES:
            self._registration = None
            self._window = SessionWindow(int.from_bytes(outcome.results[0], "big"), self._session_window)
            self._settle_registered(None)
        elif outcome.status is ReplyStatus.REFUSED:
            reason = outcome.results[0].decode("utf-8", "replace") if outcome.results else "no reason given"
            self.close(lambda _: NotAuthorised(f"the replicas refuse to open a session: {reason}"))
        else:
            self._register(now)  # opened and closed again before its result reached us

    def _settle_registered(self, failure: BftError | None) -> None:
        waiters, self._on_registered = self._on_registered, []
        for waiter in waiters:
            if failure is not None:
                _fail(waiter, failure)
            elif not waiter.done():
                waiter.set_result(_REGISTERED)

    def _unanswered(self, exchange: Exchange) -> BftError:
        why = "the replicas are overloaded" if exchange.is_overloaded else self._links.trouble()
        text = "no result in time, but the operation was sent and may execute"
        return Timeout(f"{text}: {why}" if why else text, ambiguous=True)

    def _unsent(self, now: float, *, overloaded: bool) -> BftError:
        if overloaded:
            text = "the replicas are overloaded; the operation was not sent: try again later"
            again_at = min((e.resend_at for e in self._under_way() if e.is_overloaded), default=now)
            return Overloaded(text, retry_after=max(again_at - now, self._round_trip.timeout))
        trouble = self._links.trouble()
        why = trouble if trouble and not self._can_be_heard() else "no answer to what was sent before"
        return Timeout(f"the operation could not be sent in time: {why}", ambiguous=False)


_REGISTERED: Final = Result(b"", 0)


def _fail(waiter: Waiter, error: BftError) -> None:
    if not waiter.done():
        waiter.set_exception(error)


def _answer(calls: list[PendingCall], outcome: Outcome, proof: Proof) -> None:
    seq = outcome.seq
    for position, (call, encoded) in enumerate(zip(calls, outcome.results, strict=False)):
        waiter = call.waiter
        if waiter.done():
            continue
        try:
            decoded = decode_result(encoded)
        except ValueError:
            waiter.set_exception(ApplicationError("bad_result", "the service's answer is not an encoded result"))
            continue
        if isinstance(decoded, Ok):
            waiter.set_result(Result(decoded.value, seq, proof, position))
        else:
            waiter.set_exception(ApplicationError(decoded.code, decoded.message or decoded.code))
