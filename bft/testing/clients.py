"""Simulated clients: a session, several requests in flight, retries to all, acceptance at f+1 equal outcomes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bft.client.collector import ReplyCollector, ViewTracker
from bft.client.session import SessionWindow
from bft.core.messages import Authenticated, Outcome, Refusal, ReplicaId, Reply, ReplyStatus, Request, RequestKind
from bft.core.quorum import Quorums
from bft.statemachine.kv import encode_cas, encode_get, encode_put
from bft.testing.byzantine_clients import ClientBehaviour, ClientContext
from bft.testing.conspiracy import Conspiracy
from bft.testing.options import Options
from bft.testing.scheduler import MS, WALL_EPOCH_NS, Scheduler
from bft.testing.symbolic import ClientSigner, Registry, forge, symbolic_certificate
from crypto.digests import tagged
from crypto.merkle import verify_inclusion

_RETRY_NS = 700 * MS
_WINDOW = 16
_KEYS = 5  # few, so that operations of different clients meet

Transmit = Callable[[int, ReplicaId, Authenticated[Request]], None]
OnAccepted = Callable[[Request, Outcome], None]


class SimulatedClient:
    """A correct client that wants `options.requests` requests done.

    Every operation it ever signs is different from all others, so that the checker can tell them apart.
    """

    def __init__(
        self,
        index: int,
        *,
        options: Options,
        scheduler: Scheduler,
        registry: Registry,
        transmit: Transmit,
        on_accepted: OnAccepted,
    ) -> None:
        self.index = index
        self.key = tagged(b"bft-testing-client", index.to_bytes(8, "big"))
        self.accepted = 0  # requests, without registrations
        self.latencies_ns: list[int] = []
        self._options = options
        self._scheduler = scheduler
        self._random = scheduler.random
        self._signer = ClientSigner(registry, self.key)
        self._registry = registry
        self._transmit = transmit
        self._on_accepted = on_accepted
        self._quorums = Quorums.of(options.n)
        self._views = ViewTracker(self._quorums)
        self._issued = 0
        self._window: SessionWindow | None = None
        self._collecting: dict[tuple[int, int], tuple[Authenticated[Request], ReplyCollector, int]] = {}

    @property
    def done(self) -> bool:
        return self.accepted == self._options.requests

    @property
    def waiting(self) -> list[tuple[int, int]]:
        """(session, number) of what it has no result of."""
        return list(self._collecting)

    def start(self) -> None:
        self._register()

    def _register(self) -> None:
        certificate = (symbolic_certificate(self.key),)
        nonce = WALL_EPOCH_NS + self._scheduler.now_ns
        self._submit(Request(self.key, 0, nonce, 0, RequestKind.REGISTER, certificate))

    def _next(self) -> None:
        """Now and then submit another request, if the session's window and `in_flight` allow it."""
        window = self._window
        if window is None or self._issued == self._options.requests:
            return
        if window.is_open and len(self._collecting) < self._options.in_flight:
            self._issued += 1
            count = self._random.randint(1, self._options.operations)
            operations = tuple(self._operation(f"{self.index}/{self._issued}/{i}".encode()) for i in range(count))
            number = window.allocate()
            self._submit(Request(self.key, window.session, number, window.acked, RequestKind.APPLICATION, operations))
        self._scheduler.after(int(self._options.think_ns * self._random.expovariate(1.0)), self._next)

    def _operation(self, tag: bytes) -> bytes:
        key = b"key-%d" % self._random.randrange(_KEYS)
        kind = self._random.random()
        if kind < 0.6:
            return encode_put(key, tag)
        return encode_cas(key, None, tag) if kind < 0.8 else encode_get(key + b" " + tag)

    def _submit(self, request: Request) -> None:
        signed = self._signer.sign(request)
        collector = ReplyCollector(signed, self._quorums)
        self._collecting[request.session, request.number] = (signed, collector, self._scheduler.now_ns)
        self._transmit(self.index, self._views.primary, signed)
        self._scheduler.after(_RETRY_NS, self._retry, request.session, request.number)

    def _retry(self, session: int, number: int) -> None:
        entry = self._collecting.get((session, number))
        if entry is not None:
            for replica in range(self._options.n):
                self._transmit(self.index, replica, entry[0])
            self._scheduler.after(_RETRY_NS, self._retry, session, number)

    def receive(self, sender: ReplicaId, reply: Reply | Refusal) -> None:
        """A reply that came on the authenticated link of `sender`."""
        if isinstance(reply, Refusal) or not self._holds(sender, reply):
            return
        self._views.report(sender, reply.result.message.view)
        outcome = reply.outcome
        entry = self._collecting.get((outcome.session, outcome.number))
        accepted = None if entry is None else entry[1].add(sender, reply)
        if entry is None or accepted is None:
            return
        del self._collecting[outcome.session, outcome.number]
        self._on_accepted(entry[0].message, outcome)
        if outcome.session == 0:
            if outcome.status is not ReplyStatus.EXECUTED:  # only a Byzantine client is refused
                return
            self._window = SessionWindow(int.from_bytes(outcome.results[0], "big"), _WINDOW)
            self._next()
            return
        if self._window is not None:
            self._window.accept(outcome.number)
        if outcome.status is ReplyStatus.EXECUTED:
            self.accepted += 1
            self.latencies_ns.append(self._scheduler.now_ns - entry[2])

    def _holds(self, sender: ReplicaId, reply: Reply) -> bool:
        """Whether the reply's signature and path prove its outcome."""
        result = reply.result
        return (
            self._registry.is_genuine(result)
            and result.message.replica == sender
            and verify_inclusion(result.message.root, reply.outcome.leaf, reply.index, reply.count, reply.path)
        )


class ByzantineClient(SimulatedClient):
    """Registers as a correct client does and wants nothing done; from its start on it strikes as its behaviour says."""

    def __init__(
        self,
        index: int,
        *,
        behaviour: ClientBehaviour,
        heard: Sequence[Authenticated[Request]],
        conspiracy: Conspiracy,
        **world: Any,
    ) -> None:
        super().__init__(index, **world)
        self._behaviour = behaviour
        self._heard = heard
        self._conspiracy = conspiracy
        self._number = 1

    @property
    def done(self) -> bool:
        return True

    def start(self) -> None:
        super().start()
        self._strike()

    def _next(self) -> None:
        pass

    def _strike(self) -> None:
        context = ClientContext(
            key=self.key,
            certificate=symbolic_certificate(self.key),
            n=self._options.n,
            signer=self._signer,
            forge=forge,
            random=self._random,
            time_ns=WALL_EPOCH_NS + self._scheduler.now_ns,
            session=0 if self._window is None else self._window.session,
            number=self._number,
            heard=tuple(self._heard),
        )
        self._number += self._behaviour.numbers
        strike = self._behaviour.strike(context)
        self._conspiracy.share([request for _, request in strike if not self._registry.is_genuine(request)])
        for replica, request in strike:
            self._transmit(self.index, replica, request)
        self._scheduler.after(self._behaviour.every_ns, self._strike)
