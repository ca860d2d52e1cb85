"""One replica: a task that owns the core, and the links, the log and the snapshots round it."""

import asyncio
import hashlib
import secrets
import time
from collections.abc import Callable
from typing import Final, TypeAlias

import structlog

from bft.auth import Authenticator, KeySigner, VerifiedStatements
from bft.codec import Limits, Proof, Prove, QueryAnswer, Watch, encode_frame
from bft.config import Address, ReplicaConfig
from bft.core import effects as fx
from bft.core.effects import Effect
from bft.core.events import Event, Instant, SnapshotSaved, Start, StateDamaged, Tick
from bft.core.messages import FetchState, Seq
from bft.core.replica import Replica
from bft.errors import ConfigurationError, DataDirectoryError, DivergedError
from bft.net.clients import OUTBOUND_BYTES_MAX as CLIENT_OUTBOUND_BYTES_MAX
from bft.net.clients import ClientPort
from bft.net.inbox import Frame, Inbox
from bft.net.link import Link, LinkSettings
from bft.net.notices import Notices
from bft.net.peers import OUTBOUND_BYTES_MAX as PEER_OUTBOUND_BYTES_MAX
from bft.net.peers import PeerNetwork
from bft.node.counters import Counters
from bft.node.gate import ClientQuery, Gate, StateQuestion
from bft.node.identity import CertificateAdmission, load_identity
from bft.node.outgoing import Outgoing, Round
from bft.node.phases import Phase, Phases
from bft.node.scrub import Scrubber
from bft.node.snapshots import SnapshotWriter
from bft.node.transfer import TransferProgress
from bft.node.watches import Watches
from bft.state_proof import StateProof
from bft.statemachine.api import Poll, StateMachine
from bft.statemachine.loader import ServiceNotFound, load_service
from bft.statemachine.replicated import ReplicatedState
from bft.storage.backup import read_genesis
from bft.storage.directory import DataDirectory
from bft.storage.logfile import Identity
from bft.storage.records import encode_record
from crypto.pool import VerifierPool, default_threads

ReplicaFactory: TypeAlias = Callable[..., Replica]  # called as Replica is
StateFactory: TypeAlias = Callable[[StateMachine], ReplicatedState]

_FROM_REPLICAS: Final = 128  # frames of a round, at most
_FROM_CLIENTS: Final = 64
# A timer overdue by this much means that the process was stopped or starved: what peers sent meanwhile still waits in
# the sockets and is read first, else a pause would look like a primary's silence.
_PAUSED_NS: Final = 200_000_000
_log = structlog.get_logger()


class Node:
    """A running replica.  `run` serves until cancelled or until the replica must stop; `close` writes what waits.

    Production uses core and state as they are; faulty replicas of tests and benchmarks are made with subclasses of
    them, by an entry point of their own.
    """

    def __init__(
        self,
        config: ReplicaConfig,
        *,
        make_replica: ReplicaFactory = Replica,
        make_state: StateFactory = ReplicatedState,
    ) -> None:
        """Read keys, load the service, recover.  Raises the errors of `bft.errors`; needs a running event loop."""
        self.config: Final = config
        cluster = config.cluster
        identity = load_identity(config)
        try:
            service = load_service(cluster.service, cluster.service_options)
        except ServiceNotFound as error:
            raise ConfigurationError(f"cluster.toml: {error}") from error
        limits = Limits.of(cluster.parameters)
        self._state = make_state(service)
        verified = VerifiedStatements()
        self._core = make_replica(
            id=config.id,
            parameters=cluster.parameters,
            signer=(signer := KeySigner(identity.key, cluster.domain, verified)),
            admission=CertificateAdmission(cluster.cluster, identity.ca_der),
            application=self._state,
        )
        self._signer = signer
        self._data = DataDirectory.open(config.data, Identity(cluster.cluster, config.id), config.durability, limits)
        threads = default_threads() if config.verify_threads is None else config.verify_threads
        self._pool = VerifierPool(threads)
        self._wakeup: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due_ns = 0  # monotonic, while there is a timer
        self._local: list[Event] = []  # what the shell itself tells the core
        self._questions: dict[Link, FetchState] = {}  # for backups: the latest of each link
        self._inbox = Inbox(self._wake)
        notices = Notices()
        self._peers = PeerNetwork(
            cluster,
            config.id,
            listen=config.listen_peer,
            server_context=identity.server_context,
            client_context=identity.client_context,
            settings=LinkSettings(
                cluster.domain, identity.subject, limits, limits.peer, waiting_bytes_max=PEER_OUTBOUND_BYTES_MAX
            ),
            inbox=self._inbox,
            notices=notices,
        )
        self._clients = ClientPort(
            listen=config.listen_client,
            server_context=identity.server_context,
            settings=LinkSettings(
                cluster.domain, identity.subject, limits, limits.client, waiting_bytes_max=CLIENT_OUTBOUND_BYTES_MAX
            ),
            inbox=self._inbox,
            notices=notices,
            on_closed=self._on_client_closed,
        )
        self._watches = Watches(self._clients, self._poll, self._wake)
        authenticator = Authenticator(cluster.domain, cluster.replica_keys, limits, pool=self._pool, verified=verified)
        self._authenticator = authenticator
        core = self._core
        self._gate = Gate(authenticator, self._clients, core.is_redundant, core.expects, pooled=threads > 0)
        fast_reads = cluster.parameters.fast_reads
        self._outgoing = Outgoing(self._data.log, self._peers, self._clients, self._wake, fast_reads=fast_reads)
        self._snapshots = SnapshotWriter(self._data.snapshots, self._on_snapshot_saved)
        self._scrubber = Scrubber(self._state.scrub, self._on_damage)
        self._transfer = TransferProgress()
        self.counters: Final = Counters()
        self._started_ns = time.monotonic_ns()
        self._recover()

    # --- what observers may read

    @property
    def core(self) -> Replica:
        """The protocol's state, to be read only."""
        return self._core

    @property
    def peers(self) -> PeerNetwork:
        return self._peers

    @property
    def clients(self) -> ClientPort:
        return self._clients

    @property
    def watches(self) -> Watches:
        return self._watches

    @property
    def gate(self) -> Gate:
        return self._gate

    @property
    def data(self) -> DataDirectory:
        return self._data

    @property
    def saved_seq(self) -> Seq:
        """The checkpoint whose state is on disk; 0: none is."""
        return self._snapshots.saved_seq

    @property
    def scrubs(self) -> dict[str, int]:
        """Passes over the state in memory and on disk, and what they found."""
        memory, disk = self._scrubber, self._snapshots
        return {
            "memory": memory.passes,
            "memory_damaged": memory.found,
            "saved": disk.scrubs,
            "saved_damaged": disk.damaged,
        }

    @property
    def transfer(self) -> dict[str, int | float] | None:
        """How far state transfer is; None without one."""
        return self._transfer.document(time.monotonic_ns()) if self._core.transferring else None

    @property
    def uptime_s(self) -> float:
        return (time.monotonic_ns() - self._started_ns) / 1e9

    @property
    def phases(self) -> Phases:
        return self._outgoing.phases

    @property
    def signatures(self) -> dict[str, int]:
        """How many this replica made, and how many of others it verified."""
        return {"made": self._signer.made, "verified": self._authenticator.verifications}

    @property
    def queues(self) -> dict[str, int]:
        """What waits, in frames and rounds."""
        return {"inbox": len(self._inbox), "rounds_waiting_for_disk": len(self._outgoing)}

    # --- life

    def bind(self) -> tuple[Address, Address]:
        """Begin to listen for peers and clients; where.  Raises EnvironmentFailure."""
        return self._peers.listener.bind(), self._clients.listener.bind()

    async def run(self) -> None:
        """Serve until cancelled.  Raises StorageFailure or DataDirectoryError when the replica must stop."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._run_core())
                tasks.create_task(self._snapshots.run())
                tasks.create_task(self._scrubber.run())
                tasks.create_task(self._peers.listener.serve())
                tasks.create_task(self._clients.listener.serve())
                for dialer in self._peers.dialers.values():
                    tasks.create_task(dialer.run())
        finally:
            if self._timer is not None:
                self._timer.cancel()

    async def close(self) -> None:
        """Write what waits, close all links, let go of the data directory."""
        if self._outgoing.failure is None:
            await self._outgoing.drain()
        self._peers.close()
        self._clients.close()
        self._watches.close()
        self._snapshots.close()
        self._pool.close()
        await self._data.close()

    # --- the task that owns the core

    async def _run_core(self) -> None:
        await self._carry_out(self._core.step(self._start(), self._now()))
        while True:
            await self._wait_for_work()
            if self._outgoing.failure is not None:
                raise self._outgoing.failure
            frames = self._inbox.take(from_replicas=_FROM_REPLICAS, from_clients=_FROM_CLIENTS)
            await self._process(frames)

    async def _wait_for_work(self) -> None:
        if self._has_work() or self._overdue_ns() >= 0:
            # Sockets are read and timers run between rounds, also when there is always more to do.
            await asyncio.sleep(0)
        while not self._has_work():
            if self._outgoing.failure is not None:
                return
            overdue_ns = self._overdue_ns()
            if overdue_ns >= 0:
                if overdue_ns > _PAUSED_NS:
                    await asyncio.sleep(0.001)
                return
            self._arm_timer(-overdue_ns)
            self._wakeup = asyncio.get_running_loop().create_future()
            await self._wakeup
            self._wakeup = None

    def _has_work(self) -> bool:
        return bool(self._inbox or self._local or self._questions or self._watches_wait())

    def _watches_wait(self) -> bool:
        return self._core.readable and self._watches.is_behind(self._core.last_executed)

    def _overdue_ns(self) -> int:
        """How long ago the core's earliest deadline was; negative: how long until then."""
        deadline_ns = self._core.next_deadline_ns
        if deadline_ns is None:
            return -3_600_000_000_000
        return time.monotonic_ns() - deadline_ns

    def _arm_timer(self, delay_ns: int) -> None:
        """Wake in time.  A timer that runs out earlier stays and wakes once for nothing: deadlines mostly move back."""
        due_ns = time.monotonic_ns() + delay_ns
        if self._timer is not None:
            if self._timer_due_ns <= due_ns:
                return
            self._timer.cancel()
        self._timer_due_ns = due_ns
        self._timer = asyncio.get_running_loop().call_later(delay_ns / 1e9, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._wake()

    def _wake(self) -> None:
        if self._wakeup is not None and not self._wakeup.done():
            self._wakeup.set_result(None)

    @staticmethod
    def _now() -> Instant:
        return Instant(time.monotonic_ns(), time.time_ns())

    async def _process(self, frames: list[Frame]) -> None:
        """One round: these frames, what the shell has to tell, and the timers."""
        now = self._now()
        core, open_frame = self._core, self._gate.open
        effects: list[Effect] = []
        queries: list[ClientQuery] = []
        for frame in frames:
            event = await open_frame(frame)
            if isinstance(event, ClientQuery):
                queries.append(event)
            elif isinstance(event, StateQuestion):
                self._questions[event.link] = event.message
            elif event is not None:
                effects += core.absorb(event, now)
        for event in self._local:
            effects += core.absorb(event, now)
        self._local.clear()
        effects += core.settle(now)
        if self._overdue_ns() >= 0:
            effects += core.step(Tick(), self._now())
            self._outgoing.write_late()
        self.counters.rounds += 1
        self.counters.frames += len(frames)
        await self._carry_out(effects)
        await self._answer(queries)
        if self._core.readable:
            self._watches.serve(self._core.last_executed)
        self._clients.flush()
        self._serve_backup()

    # --- effects

    async def _carry_out(self, effects: list[Effect]) -> None:
        round_ = Round()
        truncated: Seq | None = None
        outgoing = self._outgoing
        for effect in effects:
            match effect:
                case fx.Persist(record):
                    outgoing.phases.saw(record)
                    round_.entries.append(encode_record(record))
                    if isinstance(record, fx.Stable):
                        self._snapshots.certified(record.certificate)
                case fx.Broadcast(message):
                    outgoing.send(round_, None, message)
                case fx.Send(to, message):
                    outgoing.send(round_, to, message)
                case fx.SendReply(client, reply):
                    outgoing.reply(round_, client, reply)
                case fx.SaveSnapshot(seq):
                    # Released already if a later checkpoint of this very round is stable: then that one is saved.
                    if (state := self._state.trie_at(seq)) is not None:
                        self._snapshots.want(seq, state)
                case fx.TruncateLog(seq):
                    truncated = seq
                case fx.Executed(seq):
                    outgoing.phases.passed(seq, Phase.EXECUTED)
                    round_.executed.append(seq)
                    self._observe(effect)
                case _:
                    self._observe(effect)
        await outgoing.submit(round_, idle=not self._inbox)
        if truncated is not None:  # after the certificate that allows it went to the log
            self._data.log.truncate(truncated)

    def _on_snapshot_saved(self, seq: Seq) -> None:
        self._local.append(SnapshotSaved(seq))
        self._wake()

    def _on_damage(self) -> None:
        self._local.append(StateDamaged())
        self._wake()

    @property
    def scrubber(self) -> Scrubber:
        return self._scrubber

    async def _answer(self, queries: list[ClientQuery]) -> None:
        """From the state now; the answers leave when the records of all that led to it are on disk."""
        readable = self._core.readable  # if not, the client asks others
        round_ = Round()
        for link, query in queries:
            if isinstance(query, Prove):
                round_.to_links.append((link, encode_frame(Proof(query.nonce, self._proof(query.key)))))
                continue
            if not readable:
                continue
            if isinstance(query, Watch):
                self._watches.take(link, query, self._core.last_executed)
                continue
            certificate = link.certificate
            name = certificate.subject_identity.name
            result = self._state.query(query.operation, client=certificate.public_key.raw, client_name=name)
            answer = QueryAnswer(query.nonce, self._core.last_executed, result)
            round_.to_links.append((link, encode_frame(answer)))
        if round_:
            await self._outgoing.submit(round_)
        self.counters.queries += len(queries)

    def _proof(self, key: bytes) -> bytes:
        """What is stored under the key at the latest stable checkpoint; nothing if it is not held or not to be told."""
        stable = self._core.stable
        state = self._state.trie_at(stable.seq) if stable.seq else None
        if state is None or state.root != stable.root or not self._state.provable(key):
            return b""
        return StateProof.of(self.config.cluster, stable, state, key).encode()

    def _on_client_closed(self, link: Link) -> None:
        self._watches.drop(link)
        self._questions.pop(link, None)

    def _poll(self, link: Link, operation: bytes) -> Poll:
        certificate = link.certificate
        name = certificate.subject_identity.name
        return self._state.poll(operation, client=certificate.public_key.raw, client_name=name)

    def _serve_backup(self) -> None:
        """One answer a round, after everything else: reading the whole state delays nobody."""
        if self._questions:
            link, question = next(iter(self._questions.items()))
            del self._questions[link]
            self._clients.send_on(link, encode_frame(self._core.read_state(question, self._now())))
            self._clients.flush()

    def _observe(self, effect: Effect) -> None:  # noqa: C901, PLR0912 - one case an effect
        counters = self.counters
        match effect:
            case fx.Executed(_, _, batch, operations):
                counters.executed_batches += 1
                counters.executed_requests += len(batch.requests)
                counters.executed_operations += operations
            case fx.Rejected(_, _, reason):
                counters.rejections[reason] += 1
            case fx.BecameStable(seq, root):
                counters.stable_checkpoints += 1
                _log.debug("stable checkpoint", seq=seq, root=root.hex())
            case fx.ViewChangeStarted(view, cause):
                counters.view_changes += 1
                _log.warning("view change started", view=view, cause=str(cause))
            case fx.ViewEntered(view, primary):
                counters.views_entered += 1
                _log.info("view entered", view=view, primary=primary)
            case fx.EvidenceFound(evidence):
                kind = type(evidence.first.message).__name__
                _log.error("replica proven faulty", accused=evidence.accused, conflicting=kind)
            case fx.Convicted(accused, seq):
                _log.error("on record as faulty", accused=accused, seq=seq)
            case fx.FellSilent(until, above):
                _log.warning("what this replica said before is lost: it signs nothing", until=until, above_view=above)
            case fx.Rejoined(was_silenced):
                _log.info("rejoined" if was_silenced else "remembers what it said before", view=self._core.view)
            case fx.CatchingUp():
                self._transfer.advanced(effect, time.monotonic_ns())
            case fx.Diverged(seq, ours, certified):
                counters.divergences += 1
                _log.error(
                    "state diverged: it is fetched from the others", seq=seq, ours=ours.hex(), certified=certified.hex()
                )
            case fx.Repaired(seq, differences):
                _log.warning("state repaired", seq=seq, differences=len(differences))
                for difference in differences:
                    _log.error("the state differed", seq=seq, **_described(difference))
            case fx.CannotRepair(seq, repaired):
                raise DivergedError(_hopeless(seq, repaired))

    # --- start

    def _start(self) -> Start:
        """The first start of all speaks at once; any other asks the peers what this replica said before."""
        recovered = self._data.recovered
        if recovered.amnesiac:
            lost = str(self.config.data)
            _log.warning("data directory lost: silent until nothing that was said before matters", directory=lost)
        return Start() if recovered.first else Start(1 + secrets.randbits(63), recovered.amnesiac)

    def _begin_restored(self, genesis_root: bytes) -> None:
        """The state that the cluster was restored with, in place of the empty one."""
        path = self.config.genesis
        if self._state.restore(0, read_genesis(path).items()) != genesis_root:
            raise DataDirectoryError(f"{path}: not the state whose genesis_root cluster.toml names: copy it again")

    def _recover(self) -> None:
        recovered = self._data.recovered
        genesis_root = self.config.cluster.genesis_root
        if recovered.items is None and genesis_root is not None:
            self._begin_restored(genesis_root)
        if recovered.items is not None:
            certificate = recovered.certificate
            try:
                root = self._state.restore(certificate.seq, recovered.items)
            except ValueError:  # damaged items need not even be of a state
                root = b""
            recovered.check_root(root)
            if (saved := self._state.trie_at(certificate.seq)) is not None:
                self._snapshots.recovered(saved, certificate)
        if recovered.records or recovered.items is not None or genesis_root is not None:
            self._core.recover(recovered.records, recovered.certificate)
            self._snapshots.certified(self._core.stable)
            _log.info(
                "recovered",
                snapshot=recovered.certificate.seq,
                records=len(recovered.records),
                last_executed=self._core.last_executed,
                view=self._core.view,
            )
        if self._data.fetched is not None and (nodes := self._state.keep_fetched(self._data.fetched)):
            _log.info("goes on with the state transfer of before the restart", nodes_received=nodes)


def _described(difference: fx.Difference) -> dict[str, str]:
    """A difference for the log: the key as the trie has it, and the hashes of both values."""
    return {
        "key": repr(difference.key),
        "path": hashlib.sha256(difference.key).hexdigest()[:16],
        "ours": "absent" if difference.ours is None else difference.ours.hex(),
        "certified": "absent" if difference.certified is None else difference.certified.hex(),
    }


def _hopeless(seq: Seq, repaired: Seq | None) -> str:
    if repaired is None:
        return "the state is damaged and there is no stable checkpoint to repair it with: restart the replica"
    return (
        f"the state diverged at checkpoint {seq}, soon after it was repaired at {repaired}: the service is not "
        "deterministic on this replica (other code, another version, hidden input), or its memory is faulty"
    )
