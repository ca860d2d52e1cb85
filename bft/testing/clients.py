"""Simulated clients: a session, several requests in flight, retries to all, acceptance at f+1 equal outcomes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bft.client.audit import Audit
from bft.client.collector import ReplyCollector, ViewTracker
from bft.client.session import SessionWindow
from bft.core.messages import Authenticated, Outcome, Refusal, ReplicaId, Reply, ReplyStatus, Request, RequestKind
from bft.core.quorum import Quorums
from bft.statemachine.results import Ok, decode_result
from bft.testing.byzantine_clients import ClientBehaviour, ClientContext
from bft.testing.conspiracy import Conspiracy
from bft.testing.history import Action, Cas, Operation, Put, Range, Witness
from bft.testing.options import Options
from bft.testing.recorder import decoded, encoded
from bft.testing.scheduler import MS, SECOND, WALL_EPOCH_NS, Scheduler
from bft.testing.symbolic import ClientSigner, Registry, symbolic_certificate
from crypto.merkle import verify_inclusion

_RETRY_NS = 700 * MS
_WINDOW = 16
_KEYS = 5  # few, so that operations of different clients meet

Transmit = Callable[[int, ReplicaId, Authenticated[Request]], None]
OnAccepted = Callable[[Request, Outcome], None]


@dataclass(frozen=True, slots=True)
class _InFlight:
    """A request that has no result yet."""

    signed: Authenticated[Request]
    actions: tuple[Action, ...]  # none in a registration
    collector: ReplyCollector
    submitted_ns: int
    to_all: bool  # at once


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
        self._name = f"client {index}"
        self.key = registry.client_key(index)
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
        self._fast_reads = options.parameters.fast_reads
        self._audit = Audit(self._random.random)
        self._issued = 0
        self._window: SessionWindow | None = None
        self._collecting: dict[tuple[int, int], _InFlight] = {}
        self._told: list[Operation] = []
        self._last_known: dict[bytes, bytes] = {}  # value by key, of what it wrote itself: compare-and-swaps expect it

    @property
    def done(self) -> bool:
        return self.accepted == self._options.requests

    @property
    def waiting(self) -> list[tuple[int, int]]:
        """(session, number) of what it has no result of."""
        return list(self._collecting)

    @property
    def history(self) -> list[Operation]:
        """What it asked for and was told; without results the outcome is unknown."""
        unknown = [
            Operation(self._name, action, entry.submitted_ns)
            for entry in self._collecting.values()
            for action in entry.actions
        ]
        return self._told + unknown

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
            actions = tuple(self._action(f"{self.index}/{self._issued}/{i}".encode()) for i in range(count))
            operations = tuple(map(encoded, actions))
            number, kind = window.allocate(), RequestKind.APPLICATION
            self._submit(Request(self.key, window.session, number, window.acked, kind, operations), actions)
        self._scheduler.after(int(self._options.think_ns * self._random.expovariate(1.0)), self._next)

    def _action(self, tag: bytes) -> Action:
        """The tag makes every operation another than all before: a value of its own, or a range's end of its own."""
        key = b"key-%d" % self._random.randrange(_KEYS)
        kind = self._random.random()
        if kind < 0.5:
            return Put(key, tag)
        if kind < 0.75:
            return Cas(key, self._last_known.get(key), tag)
        return Range(key, key + b" " + tag) if kind < 0.95 else Range(b"key-", b"key-~" + tag)  # one key, or all

    def _submit(self, request: Request, actions: tuple[Action, ...] = ()) -> None:
        signed = self._signer.sign(request)
        collector = ReplyCollector(signed, self._quorums, fast_reads=self._fast_reads)
        entry = _InFlight(signed, actions, collector, self._scheduler.now_ns, self._audit.chooses())
        self._collecting[request.session, request.number] = entry
        for replica in range(self._options.n) if entry.to_all else (self._views.primary,):
            self._transmit(self.index, replica, signed)
        self._scheduler.after(_RETRY_NS, self._retry, request.session, request.number)

    def _retry(self, session: int, number: int) -> None:
        entry = self._collecting.get((session, number))
        if entry is not None:
            for replica in range(self._options.n):
                self._transmit(self.index, replica, entry.signed)
            self._scheduler.after(_RETRY_NS, self._retry, session, number)

    def receive(self, sender: ReplicaId, sealed: Any) -> None:
        """A reply that came on the authenticated link of `sender`."""
        reply = self._registry.open_reply(sender, sealed)
        if reply is None or isinstance(reply, Refusal) or not self._holds(sender, reply):
            return
        self._views.report(sender, reply.result.message.view)
        outcome = reply.outcome
        entry = self._collecting.get((outcome.session, outcome.number))
        accepted = None if entry is None else entry.collector.add(sender, reply)
        if entry is None or accepted is None:
            return
        del self._collecting[outcome.session, outcome.number]
        took_ns = self._scheduler.now_ns - entry.submitted_ns
        self._audit.observe(took_ns / SECOND, to_all=entry.to_all, retried=took_ns > _RETRY_NS)
        self._on_accepted(entry.signed.message, outcome)
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
            self.latencies_ns.append(self._scheduler.now_ns - entry.submitted_ns)
            self._record(entry, outcome)

    def _record(self, entry: _InFlight, outcome: Outcome) -> None:
        now_ns = self._scheduler.now_ns
        for action, result in zip(entry.actions, outcome.results, strict=True):
            answer = decode_result(result)
            if not isinstance(answer, Ok):
                continue  # refused: it changed nothing
            observed, revision = decoded(action, answer.value)
            witness = Witness(outcome.seq, revision or None)
            self._told.append(Operation(self._name, action, entry.submitted_ns, now_ns, observed, witness))
            if isinstance(action, Put):
                self._last_known[action.key] = action.value

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
            forge=self._registry.forge,
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
