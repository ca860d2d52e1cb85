"""Whole clusters of real cores in virtual time: a phase of faults, then healing and the demand for progress."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from bft.core.messages import Authenticated, Outcome, PeerMessage, Refusal, ReplicaId, Reply, Request
from bft.testing.byzantine import parse
from bft.testing.checkers import Checker
from bft.testing.clients import SimulatedClient
from bft.testing.faults import Faults
from bft.testing.hosts import Clock, Host
from bft.testing.network import Network
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
    last_executed: int
    state_root: str
    accepted: int  # requests, by clients
    latencies_ns: tuple[int, ...]
    view_changes: int  # started, over all correct replicas
    transfers: int  # of state, to replicas that were behind
    view: int  # the highest at the end
    accused: tuple[int, ...]  # whom some correct replica has evidence against
    rejections: Counter[str]


class Simulation:
    """One world.  `run` once."""

    def __init__(self, options: Options, show: Callable[[str], None] | None = None) -> None:
        self.options = options
        self._scheduler = Scheduler(options.seed)
        self._registry = Registry(options.n)
        self._trace = Trace(show)
        self._network = Network(self._scheduler, options)
        self._checker = Checker(options, self._registry, self._scheduler, self._trace)
        behaviours = {replica: parse(text) for replica, text in options.byzantine}
        self.hosts = [
            Host(
                replica,
                parameters=options.parameters,
                scheduler=self._scheduler,
                registry=self._registry,
                carrier=self,
                observer=self._checker,
                clock=self._new_clock,
                sync_ns=options.sync_ns,
                snapshot_ns=options.snapshot_ns,
                behaviour=behaviours.get(replica),
            )
            for replica in range(options.n)
        ]
        self.clients = [
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
        self._by_key = {client.key: client for client in self.clients}
        self._faults = Faults(options, self._scheduler, self._network, self.hosts, self._note)

    def run(self) -> Run:
        """Raises `Violation`."""
        try:
            return self._run()
        except Violation as violation:
            raise self._labelled(violation) from violation.__cause__
        except Exception as error:  # an exception out of a core is a finding like any other
            what = f"{type(error).__name__}: {error}"
            now_ns = self._scheduler.now_ns
            raise self._labelled(Violation(what, event=self._checker.events, now_ns=now_ns)) from error

    def _labelled(self, violation: Violation) -> Violation:
        violation.options = self.options.describe()
        violation.replay = self.options.replay
        return violation

    def _run(self) -> Run:
        scheduler, chance = self._scheduler, self._scheduler.random
        for host in self.hosts:
            scheduler.at(chance.randrange(100 * MS), host.start)
        for client in self.clients:
            scheduler.at(chance.randrange(200 * MS), client.start)
        self._faults.schedule()
        scheduler.run_until(self.options.fault_phase_ns)
        self._faults.heal()
        deadline_ns = scheduler.now_ns + self.options.liveness_bound_ns
        while not self._settled():
            if scheduler.now_ns >= deadline_ns:
                raise Violation(self._why_stuck(), event=self._checker.events, now_ns=scheduler.now_ns)
            scheduler.run_until(scheduler.now_ns + _SETTLED_EVERY_NS)
        return self._report()

    # --- progress

    @property
    def correct(self) -> list[Host]:
        """The replicas of which progress is demanded."""
        return [host for host in self.hosts if host.correct and host.id not in self.options.crash_stop]

    def _settled(self) -> bool:
        if not all(client.done for client in self.clients):
            return False
        executed = {host.core.last_executed for host in self.correct if host.core is not None}
        return len(executed) == 1

    def _why_stuck(self) -> str:
        replicas = [
            f"{host.id}: view {core.view}{'' if core.active else ' (changing)'} executed {core.last_executed} "
            f"stable {core.stable.seq} {core.sizes}"
            for host in self.hosts
            if (core := host.core) is not None
        ]
        clients = [f"client {c.index}: {c.accepted}/{self.options.requests}, waiting {c.waiting}" for c in self.clients]
        return f"no progress within {self.options.liveness_bound_ns / SECOND:.0f} s of healing; " + "; ".join(
            replicas + clients
        )

    def _report(self) -> Run:
        cores = [host.core for host in self.correct if host.core is not None]
        last_executed = cores[0].last_executed
        roots = {core.state_root for core in cores}
        if len(roots) != 1:
            what = f"after {last_executed} the correct replicas' states differ"
            raise Violation(what, event=self._checker.events, now_ns=self._scheduler.now_ns)
        return Run(
            options=self.options,
            trace_hash=self._trace.digest,
            events=self._checker.events,
            messages=self._network.sent,
            virtual_ns=self._scheduler.now_ns,
            last_executed=last_executed,
            state_root=roots.pop().hex(),
            accepted=sum(client.accepted for client in self.clients),
            latencies_ns=tuple(latency for client in self.clients for latency in client.latencies_ns),
            view_changes=self._checker.view_changes,
            transfers=self._checker.transfers,
            view=max(core.view for core in cores),
            accused=tuple(sorted({evidence.accused for core in cores for evidence in core.evidence})),
            rejections=self._checker.rejections,
        )

    # --- the carrier

    def to_replica(self, source: ReplicaId, target: ReplicaId, message: PeerMessage) -> None:
        self._network.transmit(source, target, self.hosts[target].receive, source, message)

    def to_client(self, source: ReplicaId, client: bytes, reply: Reply | Refusal) -> None:
        known = self._by_key.get(client)
        if known is not None:
            self._network.transmit(source, self.options.n + known.index, known.receive, source, reply)

    def _from_client(self, index: int, replica: ReplicaId, request: Authenticated[Request]) -> None:
        host = self.hosts[replica]
        self._network.transmit(self.options.n + index, replica, host.receive_request, request)

    # --- helpers

    def _on_accepted(self, request: Request, outcome: Outcome) -> None:
        self._note(f"client {request.client[:4].hex()} has the outcome of {request.session}/{request.number}")
        self._checker.on_accepted(request, outcome)

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
