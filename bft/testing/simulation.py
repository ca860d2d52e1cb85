"""Whole clusters of real cores in virtual time: a phase of faults, then healing and the demand for progress."""

from __future__ import annotations

import gc
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from bft.core.messages import Authenticated, Outcome, PeerMessage, Refusal, ReplicaId, Reply, Request
from bft.testing.behaviours.base import Behaviour
from bft.testing.bystander import Bystander
from bft.testing.byzantine import parse
from bft.testing.byzantine_clients import parse as parse_client
from bft.testing.checkers import Checker
from bft.testing.clients import ByzantineClient, SimulatedClient
from bft.testing.conspiracy import Conspiracy
from bft.testing.faults import Faults
from bft.testing.hosts import Clock, Host
from bft.testing.keyed import KeyedRegistry
from bft.testing.linearizability import check, check_by_witness
from bft.testing.network import Address, Network
from bft.testing.options import Options
from bft.testing.scheduler import MS, SECOND, Scheduler
from bft.testing.symbolic import Registry
from bft.testing.trace import Trace
from bft.testing.violation import Violation

_SETTLED_EVERY_NS = 100 * MS


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run in which everything held."""

    options: Options
    trace_hash: str
    events: int  # steps of replicas
    messages: int  # handed to the network
    virtual_ns: int
    done_ns: int  # when a client accepted the last result
    last_executed: int
    state_root: str
    accepted: int  # requests, by clients
    latencies_ns: tuple[int, ...]
    view_changes: int  # started, over all correct replicas
    transfers: int  # of state, to replicas that were behind
    view: int  # the highest at the end
    accused: tuple[int, ...]  # whom some correct replica has evidence against
    convicted: tuple[int, ...]  # who is on record as proven faulty, in the replicated state
    rejections: Counter[str]
    coverage: dict[str, int]  # how often each bucket of `bft.testing.coverage` was seen


class Simulation:
    """One world.  `run` once."""

    def __init__(self, options: Options, show: Callable[[str], None] | None = None) -> None:
        self.options = options
        self._scheduler = Scheduler(options.seed)
        self._registry = KeyedRegistry(options.parameters) if options.keyed else Registry(options.n)
        self._trace = Trace(show)
        self._network = Network(self._scheduler, options)
        judge = Checker if options.promised else Bystander
        self.checker = judge(options, self._registry, self._scheduler, self._trace)
        self.conspiracy = Conspiracy()
        instances = (*range(options.n), *options.twins)
        self.hosts = [
            Host(
                replica,
                address=address,
                parameters=options.parameters,
                scheduler=self._scheduler,
                registry=self._registry,
                carrier=self,
                observer=self.checker,
                clock=self._new_clock,
                sync_ns=options.sync_ns,
                snapshot_ns=options.snapshot_ns,
                round_events_max=options.round_events_max,
                round_ns=options.round_ns,
                behaviour=self._behaviour(replica),
                conspiracy=self.conspiracy,
                fail_stop=not options.promised,
            )
            for address, replica in enumerate(instances)
        ]
        self._instances = [[host for host in self.hosts if host.id == replica] for replica in range(options.n)]
        self._owed = 0
        self._client_address = len(instances)  # of the first
        self.clients: list[SimulatedClient] = [
            SimulatedClient(
                index,
                options=options,
                scheduler=self._scheduler,
                registry=self._registry,
                transmit=self._from_client,
                on_accepted=self._on_accepted,
            )
            for index in range(options.clients)
        ]
        self._heard: deque[Authenticated[Request]] = deque(maxlen=100)  # of correct clients' requests, by the others
        self.clients += [
            ByzantineClient(
                options.clients + index,
                behaviour=parse_client(text),
                heard=self._heard,
                conspiracy=self.conspiracy,
                options=options,
                scheduler=self._scheduler,
                registry=self._registry,
                transmit=self._from_client,
                on_accepted=lambda *_: None,
            )
            for index, text in enumerate(options.byzantine_clients)
        ]
        self._done_ns = 0
        self._by_key = {client.key: client for client in self.clients}
        self._faults = Faults(options, self._scheduler, self._network, self.hosts, self.checker.amnesia, self._note)
        self.checker.weather = self._faults.weather

    def run(self) -> Run:
        """Raises `Violation`."""
        try:
            return self._run()
        except Violation as violation:
            raise self._labelled(violation) from violation.__cause__
        except Exception as error:  # an exception out of a core is a finding like any other
            what = f"{type(error).__name__}: {error}"
            now_ns = self._scheduler.now_ns
            raise self._labelled(Violation(what, event=self.checker.events, now_ns=now_ns)) from error

    def _labelled(self, violation: Violation) -> Violation:
        violation.options = self.options.describe()
        violation.replay = self.options.replay
        return violation

    def _begin(self) -> None:
        scheduler, chance = self._scheduler, self._scheduler.random
        for host in self.hosts:
            scheduler.at(chance.randrange(100 * MS), host.start)
        for client in self.clients:
            scheduler.at(chance.randrange(200 * MS), client.start)
        self._faults.schedule()

    def _run(self) -> Run:
        scheduler = self._scheduler
        self._begin()
        scheduler.run_until(self.options.fault_phase_ns)
        self._faults.heal()
        deadline_ns = scheduler.now_ns + self.options.patience_ns
        while not self._settled():
            if scheduler.now_ns >= deadline_ns:
                raise Violation(self._why_stuck(), event=self.checker.events, now_ns=scheduler.now_ns)
            scheduler.run_until(scheduler.now_ns + _SETTLED_EVERY_NS)
        self._judge_history()
        return self._report()

    def watch(self, after_ns: int) -> None:
        """Without any demand: the fault phase, and `after_ns` more in a network that delivers."""
        self._begin()
        self._scheduler.run_until(self.options.fault_phase_ns)
        self._faults.heal()
        self._scheduler.run_until(self._scheduler.now_ns + after_ns)

    # --- progress

    @property
    def correct(self) -> list[Host]:
        """The replicas of which progress is demanded."""
        return [host for host in self.hosts if host.correct and host.id not in self.options.crash_stop]

    def _settled(self) -> bool:
        if not all(client.done for client in self.clients):
            return False
        if any(host.core.silence for host in self.correct if host.core is not None):
            return False
        executed = [host.core.last_executed for host in self.correct if host.core is not None]
        if not self.options.byzantine_clients:
            return len(set(executed)) == 1
        self._owed = self._owed or max(executed)  # Byzantine clients never end: everybody has to come as far as this
        return min(executed) >= self._owed

    def _why_stuck(self) -> str:
        replicas = [
            f"{host.id}: view {core.view}{'' if core.active else ' (changing)'} executed {core.last_executed} "
            f"stable {core.stable.seq} {core.sizes} {core.silence}"
            for host in self.hosts
            if (core := host.core) is not None
        ]
        clients = [f"client {c.index}: {c.accepted}/{self.options.requests}, waiting {c.waiting}" for c in self.clients]
        return f"no progress within {self.options.patience_ns / SECOND:.0f} s of healing; " + "; ".join(
            replicas + clients
        )

    def _judge_history(self) -> None:
        """What correct clients were told is linearizable: in the order that the replies claim, and by search."""
        history = [operation for client in self.clients[: self.options.clients] for operation in client.history]
        for judge in (check_by_witness, check):
            verdict = judge(history)
            if not verdict:  # no verdict is not enough
                raise Violation(str(verdict), event=self.checker.events, now_ns=self._scheduler.now_ns)

    def _report(self) -> Run:
        cores = [host.core for host in self.correct if host.core is not None]
        last_executed = max(core.last_executed for core in cores)
        roots = {core.state_root for core in cores if core.last_executed == last_executed}
        if len(roots) != 1:
            what = f"after {last_executed} the correct replicas' states differ"
            raise Violation(what, event=self.checker.events, now_ns=self._scheduler.now_ns)
        return Run(
            options=self.options,
            trace_hash=self._trace.digest,
            events=self.checker.events,
            messages=self._network.sent,
            virtual_ns=self._scheduler.now_ns,
            done_ns=self._done_ns,
            last_executed=last_executed,
            state_root=roots.pop().hex(),
            accepted=sum(client.accepted for client in self.clients[: self.options.clients]),
            latencies_ns=tuple(
                latency for client in self.clients[: self.options.clients] for latency in client.latencies_ns
            ),
            view_changes=self.checker.view_changes,
            transfers=self.checker.transfers,
            view=max(core.view for core in cores),
            convicted=tuple(cores[0].convictions),
            accused=tuple(sorted({evidence.accused for core in cores for evidence in core.evidence})),
            rejections=self.checker.rejections,
            coverage=self.checker.coverage.buckets | dict.fromkeys(self.options.behaviours, 1) | self._registry.refused,
        )

    # --- the carrier

    def to_replica(self, source: Address, target: ReplicaId, message: PeerMessage) -> None:
        sender, sealed = self.hosts[source].id, self._registry.seal(message)
        for host in self._instances[target]:
            self._network.transmit(source, host.address, host.receive, sender, sealed)

    def to_client(self, source: Address, client: bytes, reply: Reply | Refusal) -> None:
        known = self._by_key.get(client)
        if known is not None:
            address = self._client_address + known.index
            self._network.transmit(source, address, known.receive, self.hosts[source].id, self._registry.seal(reply))

    def _from_client(self, index: int, replica: ReplicaId, request: Authenticated[Request]) -> None:
        if self.options.byzantine_clients and index < self.options.clients:
            self._heard.append(request)
        address, client, sealed = self._client_address + index, self.clients[index].key, self._registry.seal(request)
        for host in self._instances[replica]:
            self._network.transmit(address, host.address, host.receive_request, client, sealed)

    # --- helpers

    def _behaviour(self, replica: ReplicaId) -> Behaviour | None:
        """A faulty replica's, a new one for each instance; an honest one for twins, who need no other."""
        texts = dict(self.options.byzantine)
        if replica in texts:
            return parse(texts[replica])
        return Behaviour() if replica in self.options.twins else None

    def _on_accepted(self, request: Request, outcome: Outcome) -> None:
        self._note(f"client {request.client[:4].hex()} has the outcome of {request.session}/{request.number}")
        self.checker.on_accepted(request, outcome)
        self._done_ns = self._scheduler.now_ns

    def _note(self, what: str) -> None:
        self._trace.note(self._scheduler.now_ns, what)

    def _new_clock(self) -> Clock:
        chance, options = self._scheduler.random, self.options
        bound, drift = options.clock_offset_ns, options.clock_drift_ppm
        return Clock(
            chance,
            wall_offset_ns=chance.randint(-bound, bound),
            drift_ppm=chance.randint(-drift, drift),
        )


def simulate(options: Options, show: Callable[[str], None] | None = None) -> Run:
    """Run it; `show` gets each event as a line.  Raises `Violation`, labelled with options and replay command."""
    with _garbage_left_alone():
        return Simulation(options, show).run()


@contextmanager
def _garbage_left_alone() -> Iterator[None]:
    """A run keeps nearly all it makes; looking through it again and again for cycles cost a seventh of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def scenario(seed: int = 0, **settings: Any) -> Run:
    """A run with chosen options instead of drawn ones."""
    return simulate(Options(seed=seed, **settings))
