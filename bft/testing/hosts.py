"""A replica's process in the simulated world: clocks, disk, core, and the rules of the asyncio shell."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from bft.core.effects import (
    Broadcast,
    CannotRepair,
    Effect,
    Persist,
    Record,
    SaveSnapshot,
    Send,
    SendReply,
    TruncateLog,
)
from bft.core.events import ClientRequest, Event, Instant, Received, SnapshotSaved, Start, Tick
from bft.core.invariants import InvariantViolated
from bft.core.messages import ClientKey, PeerMessage, Refusal, ReplicaId, Reply, Seq
from bft.core.parameters import Parameters
from bft.core.replica import Replica
from bft.statemachine.kv import KeyValue
from bft.statemachine.replicated import ReplicatedState
from bft.statemachine.trie import MerkleTrie
from bft.testing.behaviours.base import Behaviour
from bft.testing.behaviours.replica import ByzantineReplica
from bft.testing.conspiracy import Conspiracy
from bft.testing.disk import Disk
from bft.testing.network import Address
from bft.testing.scheduler import SECOND, WALL_EPOCH_NS, Scheduler
from bft.testing.symbolic import Registry, SymbolicAdmission, SymbolicSigner

_PPM = 1_000_000
_INBOX_MAX = 20_000  # of a paused process; more is dropped, as full socket buffers would


class ObservedState(ReplicatedState):
    """The replicated state; remembers what was executed until the checker took it."""

    def __init__(self) -> None:
        super().__init__(KeyValue())
        self.applied: list[tuple[Seq, int, bytes, bytes]] = []  # (seq, time, client, operation)

    def apply(self, operation: bytes, *, client: bytes, client_name: str, seq: int, time_ns: int) -> bytes:
        self.applied.append((seq, time_ns, client, operation))
        return super().apply(operation, client=client, client_name=client_name, seq=seq, time_ns=time_ns)


class Observer(Protocol):
    """Who is told of everything that a replica does."""

    def on_step(self, host: Host, event: Event, effects: list[Effect]) -> None: ...

    def on_durable(self, host: Host, records: list[Record]) -> None: ...

    def on_sent(self, host: Host, message: PeerMessage) -> None: ...

    def on_crash(self, host: Host) -> None: ...

    def on_truncated(self, host: Host, seq: Seq) -> None: ...

    def on_restart(self, host: Host) -> None: ...

    def on_not_authentic(self, host: Host) -> None: ...


class Carrier(Protocol):
    """Who carries what a replica sends."""

    def to_replica(self, source: Address, target: ReplicaId, message: PeerMessage) -> None: ...

    def to_client(self, source: Address, client: bytes, reply: Reply | Refusal) -> None: ...


class Clock:
    """A replica's two clocks, as functions of virtual time: offset and drift, in integers."""

    def __init__(self, chance: random.Random, *, wall_offset_ns: int, drift_ppm: int) -> None:
        self._offset_ns = chance.randrange(SECOND)  # the monotonic clock starts anywhere
        self._drift_ppm = drift_ppm
        self.wall_offset_ns = wall_offset_ns

    def read(self, now_ns: int) -> Instant:
        elapsed = now_ns + now_ns * self._drift_ppm // _PPM if self._drift_ppm else now_ns
        return Instant(elapsed + self._offset_ns, WALL_EPOCH_NS + elapsed + self.wall_offset_ns)

    def when(self, monotonic_ns: int) -> int:
        """The first virtual instant at which the monotonic clock shows at least this."""
        if not self._drift_ppm:
            return monotonic_ns - self._offset_ns
        at_ns = (monotonic_ns - self._offset_ns) * _PPM // (_PPM + self._drift_ppm)
        while self.read(at_ns).monotonic_ns < monotonic_ns:
            at_ns += 1
        return at_ns


_Release = tuple[int, list[Effect]]  # leaves when that many log entries are durable


class Host:
    """Runs one core: steps it, writes its log, and lets sends leave after the entries before them are durable."""

    def __init__(
        self,
        replica: ReplicaId,
        *,
        parameters: Parameters,
        scheduler: Scheduler,
        registry: Registry,
        carrier: Carrier,
        observer: Observer,
        clock: Callable[[], Clock],
        sync_ns: int,
        snapshot_ns: int,
        behaviour: Behaviour | None,
        round_events_max: int = 1,
        round_ns: int = 0,
        address: Address | None = None,
        conspiracy: Conspiracy | None = None,
        fail_stop: bool = False,
    ) -> None:
        self.id = replica
        self.address = replica if address is None else address  # another one only for the second of twins
        self.behaviour = behaviour
        self.correct = behaviour is None
        self.disk = Disk()
        self.incarnation = 0
        self.paused = False
        self.stopped = False  # for good
        self._parameters = parameters
        self._scheduler = scheduler
        self._carrier = carrier
        self._observer = observer
        self._registry = registry
        self._signer = SymbolicSigner(registry, replica)
        self._new_clock = clock
        self._sync_ns = sync_ns
        self._snapshot_ns = snapshot_ns
        self._round_events_max = round_events_max  # 1: each event by itself
        self._round_ns = round_ns  # from the first event of a round to its end
        self._conspiracy = conspiracy
        self._fail_stop = fail_stop  # whether a broken invariant stops the replica or the run
        if conspiracy is not None and behaviour is not None:
            conspiracy.join(replica, self._signer)
        self._behaviour_random = random.Random(f"behaviour {scheduler.random.random()}")
        self._inbox: deque[Event] = deque()
        self.core: Replica | None = None
        self._boot()

    # --- life -----------------------------------------------------------------------------------------------------

    @property
    def up(self) -> bool:
        return self.core is not None

    def _boot(self) -> Replica:
        self.clock = self._new_clock()
        self.state = ObservedState()
        self._releases: deque[_Release] = deque()
        self._syncing = False
        self._alarm_ns: int | None = None  # virtual time
        self._armed_for_ns: int | None = None  # the deadline that the alarm is for, on the host's clock
        self._inbox.clear()
        self._round_due = False
        self.paused = False
        make: Callable[..., Replica] = Replica
        if self.behaviour is not None:
            make = partial(
                ByzantineReplica,
                behaviour=self.behaviour,
                chance=self._behaviour_random,
                conspiracy=self._conspiracy,
            )
        core = make(
            id=self.id,
            parameters=self._parameters,
            signer=self._signer,
            admission=SymbolicAdmission(),
            application=self.state,
        )
        self.core = core
        return core

    def start(self) -> None:
        """The first of all starts."""
        self._step(Start())

    def crash(self) -> None:
        """The process and what was not synced are gone."""
        if self.core is None:
            return
        self.incarnation += 1
        self._observer.on_durable(self, self.disk.crash(self._scheduler.random))
        self._observer.on_crash(self)
        self.core = None

    def restart(self) -> None:
        """A new process recovers from the disk."""
        if self.core is not None or self.stopped:
            return
        core = self._boot()
        records, certificate, trie = self.disk.recover()
        if trie is not None:
            self.state.restore(certificate.seq, trie.items())
        try:
            core.recover(records, certificate)
        except InvariantViolated:
            self._break_down()
            return
        self._observer.on_restart(self)
        self._step(Start(nonce=self.incarnation, amnesiac=self.disk.amnesiac))

    def stop(self) -> None:
        """Crash, and never come back."""
        self.crash()
        self.stopped = True

    def _break_down(self) -> None:
        """In an `except` clause: what others make of its lies may break a Byzantine core, but no correct one."""
        if self.behaviour is None and not self._fail_stop:
            raise  # noqa: PLE0704 - the invariant that did not hold
        self.stop()

    def pause(self) -> None:
        self.paused = self.up

    def resume(self) -> None:
        self.paused = False
        self._take_round()  # all that waited; the alarm may have been dropped from a full inbox, too
        self._step(Tick())

    # --- input ----------------------------------------------------------------------------------------------------

    def receive(self, sender: ReplicaId, sealed: Any) -> None:
        """What came on the link of a replica."""
        if self.core is None:
            return
        message = self._registry.open(self.id, sender, sealed)
        if message is None:
            self._observer.on_not_authentic(self)
        else:
            self._handle(Received(sender, message))

    def receive_request(self, client: ClientKey, sealed: Any) -> None:
        """What came on the link of a client."""
        if self.core is not None:
            request = self._registry.open_request(self.id, client, sealed)
            if request is not None:
                self._handle(ClientRequest(request))

    def _handle(self, event: Event) -> None:
        if self.core is None:
            return
        if self.paused:
            if len(self._inbox) < _INBOX_MAX:
                self._inbox.append(event)
        elif self._round_events_max == 1:
            self._step(event)
        else:
            self._inbox.append(event)
            if len(self._inbox) >= self._round_events_max:
                self._take_round()
            elif not self._round_due:
                self._round_due = True
                self._scheduler.after(self._round_ns, self._end_round, self.incarnation)

    def _end_round(self, incarnation: int) -> None:
        if incarnation == self.incarnation:
            self._round_due = False
            if not self.paused:
                self._take_round()

    def _take_round(self) -> None:
        """What waits is absorbed, then settled, and its effects are carried out together, as `bft.node` does."""
        core, events = self.core, list(self._inbox)
        self._inbox.clear()
        if core is None or not events:
            return
        now = self.clock.read(self._scheduler.now_ns)
        effects: list[Effect] = []
        try:
            for event in events[:-1]:
                effects += self._observed(event, core.absorb(event, now))
            effects += self._observed(events[-1], core.absorb(events[-1], now) + core.settle(now))
        except InvariantViolated:
            self._break_down()
            return
        self._carry_out(effects)
        self._arm(core.next_deadline_ns)

    def _observed(self, event: Event, effects: list[Effect]) -> list[Effect]:
        self._observer.on_step(self, event, effects)
        return effects

    # --- the shell ------------------------------------------------------------------------------------------------

    def _step(self, event: Event) -> None:
        core = self.core
        if core is None:
            return
        now = self.clock.read(self._scheduler.now_ns)
        try:
            effects = core.step(event, now)
        except InvariantViolated:
            self._break_down()
            return
        self._observer.on_step(self, event, effects)
        self._carry_out(effects)
        self._arm(core.next_deadline_ns)

    def _carry_out(self, effects: list[Effect]) -> None:
        if not effects:
            return
        disk = self.disk
        held: list[Effect] = []
        for effect in effects:
            match effect:
                case Persist():
                    disk.append(effect.record)
                case Send() | Broadcast() | SendReply() | TruncateLog():
                    held.append(effect)
                case SaveSnapshot():
                    self._save_snapshot(effect.seq)
                case CannotRepair():  # a correct replica only where no promise holds: its process stops
                    self.stop()
                    return
                case _:
                    pass  # an observation
        if held:
            self._releases.append((disk.appended, held))
            self._release()
        if disk.synced < disk.appended and not self._syncing:
            self._start_sync()

    def _save_snapshot(self, seq: Seq) -> None:
        trie = self.state.trie_at(seq)
        if trie is None:
            return  # the same step went on to a later checkpoint and released this one
        delay = int(self._scheduler.random.random() * 2 * self._snapshot_ns)
        self._scheduler.after(delay, self._snapshot_saved, self.incarnation, seq, trie)

    def _snapshot_saved(self, incarnation: int, seq: Seq, trie: MerkleTrie) -> None:
        if incarnation == self.incarnation:
            self.disk.save_snapshot(seq, trie)
            self._handle(SnapshotSaved(seq))

    def _start_sync(self) -> None:
        self._syncing = True
        delay = int(self._sync_ns * (0.5 + self._scheduler.random.expovariate(2.0)))
        self._scheduler.after(delay, self._synced, self.incarnation, self.disk.appended)

    def _synced(self, incarnation: int, upto: int) -> None:
        if incarnation != self.incarnation:
            return
        self._observer.on_durable(self, self.disk.sync(upto))
        self._syncing = False
        self._release()
        if self.disk.synced < self.disk.appended:
            self._start_sync()

    def _release(self) -> None:
        while self._releases and self._releases[0][0] <= self.disk.synced:
            for effect in self._releases.popleft()[1]:
                self._send(effect)

    def _send(self, effect: Effect) -> None:
        match effect:
            case Broadcast():
                self._observer.on_sent(self, effect.message)
                for target in range(self._parameters.n):
                    if target != self.id:
                        self._carrier.to_replica(self.address, target, effect.message)
            case Send():
                self._observer.on_sent(self, effect.message)
                self._carrier.to_replica(self.address, effect.to, effect.message)
            case SendReply():
                self._carrier.to_client(self.address, effect.client, effect.reply)
            case TruncateLog():
                self.disk.truncate(effect.seq)
                self._observer.on_truncated(self, effect.seq)
            case _:
                pass

    def _arm(self, deadline_ns: int | None) -> None:
        if deadline_ns is None or (self._armed_for_ns is not None and deadline_ns >= self._armed_for_ns):
            return  # when the alarm rings we look again
        at_ns = max(self.clock.when(deadline_ns), self._scheduler.now_ns + 1)
        self._armed_for_ns = deadline_ns
        self._alarm_ns = at_ns
        self._scheduler.at(at_ns, self._alarm, self.incarnation, at_ns)

    def _alarm(self, incarnation: int, at_ns: int) -> None:
        if incarnation != self.incarnation or at_ns != self._alarm_ns or self.core is None:
            return
        self._alarm_ns = self._armed_for_ns = None
        if self.paused:
            return  # its timers are looked at when it resumes
        deadline_ns = self.core.next_deadline_ns
        due = deadline_ns is not None and deadline_ns <= self.clock.read(self._scheduler.now_ns).monotonic_ns
        if due:
            self._take_round()
            self._step(Tick())
        else:
            self._arm(deadline_ns)
