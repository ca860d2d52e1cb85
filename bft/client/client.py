"""The client: callers on one side, TLS links to the replicas on the other, the `Dispatcher` between them."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from bft.auth import Authenticator, KeySigner
from bft.client.bundler import OPERATION_OVERHEAD_BYTES, REQUEST_OVERHEAD_BYTES, PendingCall
from bft.client.collector import replies_needed
from bft.client.dispatcher import Dispatcher
from bft.client.errors import ClientClosed
from bft.client.identity import Identity, identity_directory, load_identity
from bft.client.kv import KeyValueClient
from bft.client.links import WAITING_BYTES_MAX, ReplicaLink
from bft.client.proving import Proofs, Stored
from bft.client.reading import FastReads, patience
from bft.client.result import Consistency, Read, Result
from bft.client.settings import ClientSettings
from bft.client.status import ClientStatus, ReplicaStatus
from bft.client.tracing import traced, tracer
from bft.client.watch import Watches
from bft.codec import Limits, MessageType, decode_body
from bft.config import ClusterConfig, load_cluster
from bft.core.quorum import Quorums
from bft.errors import ApplicationError, BftError, NoQuorum, Overloaded, SessionLost, Timeout
from bft.net.link import LinkSettings
from bft.statemachine.api import NO_QUERIES
from bft.statemachine.kv import Event, prefix_end
from bft.statemachine.results import Ok, decode_result

_LEAST_S: Final = 0.001
_REVISION_MAX: Final = (1 << 64) - 1


def connect(
    path: str | Path,
    *,
    identity: str | Path = "default",
    timeout: float | None = None,
    settings: ClientSettings | None = None,
) -> "Client":
    """A client of the cluster described at ``path`` (its directory, or its cluster.toml); open it with ``async with``.

        async with bft.connect("demo") as client:
            await client.put(b"greeting", b"hello")

    ``identity`` names one of the directory's clients or is the path of a directory with client.crt and client.key.
    ``timeout`` in seconds is for opening and for every call that names none.  Raises ConfigurationError or
    EnvironmentFailure.
    """
    place = Path(path)
    cluster = load_cluster(place)
    who = load_identity(identity_directory(place, identity), cluster)
    return Client(cluster, who, timeout=timeout, settings=settings)


class Client(KeyValueClient):
    """A session with a cluster, for one event loop.

    Many calls may be under way at once: what callers submit while earlier calls are on their way goes out as one signed
    bundle.  Each call executes at most once, however often it is sent.  A call may be cancelled at any time; it then
    still executes if it was sent.
    """

    def __init__(
        self,
        cluster: ClusterConfig,
        identity: Identity,
        *,
        timeout: float | None = None,
        settings: ClientSettings | None = None,
    ) -> None:
        self._cluster = cluster
        self._identity = identity
        self._settings = settings or ClientSettings()
        self._timeout = _positive(self._settings.timeout_s if timeout is None else timeout)
        self._limits = Limits.of(cluster.parameters)
        self._authenticator = Authenticator(cluster.domain, cluster.replica_keys, self._limits)
        self._operation_bytes_max = (
            cluster.parameters.request_bytes_max - REQUEST_OVERHEAD_BYTES - OPERATION_OVERHEAD_BYTES
        )
        self._dispatcher = Dispatcher(
            cluster=cluster,
            settings=self._settings,
            client=identity.key.public.raw,
            certificate=identity.certificate,
            signer=KeySigner(identity.key, cluster.domain),
            links=self,
            nonce=time.time_ns,
        )
        self._tracer = tracer() if self._settings.tracing else None
        self._links: tuple[ReplicaLink, ...] = ()
        quorums = Quorums.of(cluster.parameters.n)
        self._watches = Watches(quorums, self, most=self._settings.watches_max)
        self._reads = FastReads(quorums, self, self._watches.nonces)
        self._proofs = Proofs(cluster, self, self._watches.nonces)
        self._room = asyncio.Semaphore(self._settings.calls_max)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running: asyncio.Task[None] | None = None
        self._flush_due = False
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = 0.0  # loop time; kept here because a uvloop handle that is already due cannot tell its own

    # --- opening and closing

    async def __aenter__(self) -> Self:
        """Connect and open a session; waits for replicas that do not answer yet.

        Raises NoQuorum when fewer than f+1 replicas could be reached in time, Timeout when they could but did not open
        a session, NotAuthorised when they refuse to.
        """
        if self._loop is not None:
            raise RuntimeError("a client is opened once")
        self._loop = loop = asyncio.get_running_loop()
        settings = LinkSettings(
            self._cluster.domain,
            self._identity.subject,
            self._limits,
            self._limits.sdk,
            waiting_bytes_max=WAITING_BYTES_MAX,
        )
        self._links = tuple(
            ReplicaLink(entry, self._identity.context, settings, self) for entry in self._cluster.replicas
        )
        registered: asyncio.Future[Result] = loop.create_future()
        self._dispatcher.when_registered(registered)
        self._running = asyncio.create_task(self._run_links(), name="bft client links")
        self._running.add_done_callback(self._on_stopped)
        try:
            async with asyncio.timeout(self._timeout):
                await registered
        except TimeoutError:
            error = self._not_opened()
            await self.close()
            raise error from None
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Fail the calls under way with ClientClosed and close the links; idempotent."""
        self._dispatcher.close(_closed)
        self._watches.close(_closed(False))
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        running = self._running
        if running is not None:
            running.cancel()
            await asyncio.wait((running,))

    # --- calls

    async def call(self, operation: bytes, *, timeout: float | None = None) -> Result:
        """Submit one operation of the cluster's service; the result that f+1 replicas agree on.

        >>> from bft.statemachine import kv
        >>> result = await client.call(kv.encode_put(b"greeting", b"hello"))
        >>> kv.decode_put(result.value) > 0, result.seq > 0
        (True, True)

        Raises ApplicationError when the service refused the operation; Timeout, SessionLost or ClientClosed when the
        result is not known, Overloaded when it was not sent for lack of room; ResultLost and NotAuthorised.
        """
        loop, deadline = self._checked(operation, timeout)
        spans = self._tracer
        if spans is None:
            return await self._call(loop, operation, deadline)
        cluster = self._cluster.cluster
        return await traced(spans, lambda: self._call(loop, operation, deadline), cluster=cluster, operation=operation)

    def _checked(self, operation: bytes, timeout: float | None) -> tuple[asyncio.AbstractEventLoop, float]:
        """The loop, and until when; raises for what cannot be asked."""
        loop = self._loop
        if loop is None:
            raise RuntimeError("open the client first: async with bft.connect(...) as client")
        if type(operation) is not bytes:
            raise TypeError(f"an operation is bytes, not {type(operation).__name__}")
        if len(operation) > self._operation_bytes_max:
            raise ValueError(f"an operation has {len(operation)} bytes; at most {self._operation_bytes_max} are taken")
        return loop, loop.time() + (self._timeout if timeout is None else _positive(timeout))

    async def query(
        self, operation: bytes, *, consistency: Consistency = "linearizable", timeout: float | None = None
    ) -> Read:
        """Have a read carried out; the result tells how it was.

        ``"linearizable"`` on a cluster with ``fast_reads`` asks all replicas and orders nothing, and goes over to an
        ordered operation when no quorum agrees in time; on any other cluster, and with ``"ordered"``, it is an
        operation like any other.  So the service must take the operation in ``apply`` as well as in ``query``.

        >>> from bft.statemachine import kv
        >>> revision = await client.put(b"greeting", b"hello")
        >>> read = await client.query(kv.encode_get(b"greeting"))
        >>> kv.decode_get(read.value).value, read.consistency
        (b'hello', 'ordered')

        Raises what `call` raises.
        """
        if consistency not in ("linearizable", "ordered"):
            raise ValueError(f"consistency of a query is 'linearizable' or 'ordered', not {consistency!r}")
        loop, deadline = self._checked(operation, timeout)
        if consistency == "linearizable" and self._cluster.parameters.fast_reads:
            await self._wait_for_room(deadline)
            try:
                wait_s = min(patience(self._dispatcher.round_trip_s), deadline - loop.time())
                agreed = await self._reads.read(operation, patience_s=wait_s) if wait_s > 0 else None
            finally:
                self._room.release()
            if agreed is not None and (value := _answered(agreed.result)) is not None:
                return Read(value, agreed.seq, "linearizable")
        result = await self.call(operation, timeout=max(deadline - loop.time(), _LEAST_S))
        return Read(result.value, result.seq, "ordered", result)

    async def prove_stored(self, key: bytes, *, max_age: float | None = None, timeout: float | None = None) -> Stored:
        """What the service stored under its key ``key``, with a proof, as of a stable checkpoint.

        One replica is asked, and another when what it sends does not hold, is older than ``max_age`` seconds or does
        not come.  Raises NoProof when no replica's does: there is none before the first checkpoint.

        >>> from bft.statemachine import kv
        >>> for _ in range(20):  # a checkpoint is taken every 4 batches here
        ...     revision = await client.put(b"greeting", b"hello")
        >>> stored = await client.prove_stored(kv.stored_key(b"greeting"))
        >>> kv.decode_entry(stored.proven.value).value, len(stored.proven.signers) >= 3
        (b'hello', True)
        """
        _, deadline = self._checked(key, timeout)
        await self._wait_for_room(deadline)
        try:
            return await self._proofs.prove(key, max_age=max_age, deadline=deadline)
        finally:
            self._room.release()

    async def _call(self, loop: asyncio.AbstractEventLoop, operation: bytes, deadline: float) -> Result:
        room = self._room
        if room.locked():
            await self._wait_for_room(deadline)
        else:
            await room.acquire()
        try:
            waiter: asyncio.Future[Result] = loop.create_future()
            self._dispatcher.submit(PendingCall(operation, deadline, waiter))
            if not self._flush_due:
                # Not at once: what other callers submit in this turn of the loop goes out in the same bundle.
                self._flush_due = True
                loop.call_soon(self._flush)
            return await waiter
        finally:
            room.release()

    async def watch(
        self, prefix: bytes = b"", *, key: bytes | None = None, since: int | None = None
    ) -> AsyncGenerator[Event, None]:
        """Every change of a key that begins with ``prefix`` (or of this one ``key``), in order, for ever.

        It begins with the events of revision ``since``; without it, with what happens after the first event was asked
        for.  At least one correct replica vouches for each event, and none is left out; the watch goes on by itself
        over lost links and view changes.  To read and then miss nothing, watch from behind what was read:

        >>> page = await client.range(prefix=b"job/")
        >>> revision = await client.put(b"job/1", b"ready")
        >>> async for event in client.watch(b"job/", since=page.revision + 1):
        ...     print(event.kind.name, event.key, event.entry.value, event.revision == revision)
        ...     break
        PUT b'job/1' b'ready' True

        Raises Compacted when the replicas no longer know all events since then, Overloaded when this client or the
        replicas have too many watches, ClientClosed; without ``since`` also what `call` raises.
        """
        if since is None:
            since = (await self.store_status()).revision + 1
        elif since > _REVISION_MAX:
            raise ValueError(f"a revision has at most 64 bits, not {since.bit_length()}")
        start, end = (prefix, prefix_end(prefix)) if key is None else (key, key + b"\0")
        events = self._watches.watch(start, end, max(since, 1), self._pass_time)
        try:
            async for event in events:
                yield event
        finally:
            await events.aclose()

    async def _pass_time(self) -> None:
        """Have something ordered, which lets the service's clock go on."""
        with suppress(Timeout, Overloaded, SessionLost):
            await self.store_status()

    def status(self) -> ClientStatus:
        """What this client knows of its session and of the replicas.

        >>> status = client.status()
        >>> status.view, status.primary, len(status.replicas)
        (0, 0, 4)
        """
        dispatcher = self._dispatcher
        return ClientStatus(
            cluster=self._cluster.cluster,
            client=self._identity.subject.name,
            session=dispatcher.session,
            view=dispatcher.view,
            primary=dispatcher.primary,
            queued=dispatcher.queued,
            in_flight=dispatcher.in_flight,
            round_trip_s=dispatcher.round_trip_s,
            fast_reads=self._reads.accepted,
            fast_reads_given_up=self._reads.given_up,
            replicas=tuple(
                ReplicaStatus(entry.id, str(entry.client), link.is_up, link.trouble)
                for entry, link in zip(self._cluster.replicas, self._links, strict=False)
            ),
        )

    async def _wait_for_room(self, deadline: float) -> None:
        try:
            async with asyncio.timeout_at(deadline):
                await self._room.acquire()
        except TimeoutError:
            text = f"{self._settings.calls_max} calls were under way all the time; the operation was not sent"
            raise Timeout(text, ambiguous=False) from None

    # --- the dispatcher's `Links`

    def send(self, replica: int, frame: bytes) -> None:
        self._links[replica].send(frame)

    def is_up(self, replica: int) -> bool:
        return self._links[replica].is_up

    def trouble(self) -> str:
        return "; ".join(f"replica {at}: {link.trouble}" for at, link in enumerate(self._links) if link.trouble)

    # --- what the links report

    def on_up(self, replica: int) -> None:
        self._dispatcher.on_link_up(replica, self._now())
        self._watches.on_link(replica)
        self._arm()

    def on_down(self, replica: int) -> None:
        self._dispatcher.on_link_down(replica, self._now())
        self._arm()

    def on_frames(self, replica: int, frames: list[tuple[int, bytes]]) -> None:
        """Raises InvalidMessage."""
        now = self._now()
        try:
            for frame_type, body in frames:
                if frame_type == MessageType.REPLY:
                    reply = self._authenticator.open_reply(replica, body)
                    self._dispatcher.on_reply(replica, reply, now)
                elif frame_type == MessageType.REFUSAL:
                    self._dispatcher.on_refusal(replica, self._authenticator.open_refusal(body), now)
                elif frame_type == MessageType.PROOF:
                    self._proofs.on_proof(replica, decode_body(frame_type, body, self._limits).unverified)
                elif frame_type == MessageType.QUERY_ANSWER:
                    answer = decode_body(frame_type, body, self._limits).unverified
                    self._reads.on_answer(replica, answer)
                    self._watches.on_answer(replica, answer)
        finally:
            self._arm()

    # --- the event loop

    def _now(self) -> float:
        if self._loop is None:
            raise RuntimeError("the client is not open")
        return self._loop.time()

    def _flush(self) -> None:
        self._flush_due = False
        self._dispatcher.flush(self._now())
        self._arm()

    def _on_alarm(self) -> None:
        self._alarm = None
        self._dispatcher.on_deadline(self._now())
        self._arm()

    def _arm(self) -> None:
        """Wake up in time for the dispatcher's next deadline; an alarm that comes too early does no harm."""
        deadline = self._dispatcher.next_deadline
        if self._alarm is not None:
            if self._alarm_at <= deadline:
                return
            self._alarm.cancel()
            self._alarm = None
        if deadline != float("inf") and self._loop is not None:
            self._alarm = self._loop.call_at(deadline, self._on_alarm)
            self._alarm_at = deadline

    async def _run_links(self) -> None:
        async with asyncio.TaskGroup() as group:
            for link in self._links:
                group.create_task(link.run())

    def _on_stopped(self, running: asyncio.Task[None]) -> None:
        """Nothing comes back any more: nobody must wait for it."""
        self._dispatcher.close(_closed)
        if not running.cancelled() and (failure := running.exception()) is not None and self._loop is not None:
            self._loop.call_exception_handler({"message": "a client's links failed", "exception": failure})

    def _not_opened(self) -> BftError:
        trouble = self.trouble()
        up = sum(link.is_up for link in self._links)
        parameters = self._cluster.parameters
        needed = replies_needed(Quorums.of(parameters.n), fast_reads=parameters.fast_reads)
        if up < needed:
            text = f"{up} of {len(self._links)} replicas could be reached, {needed} are needed: {trouble}"
            return NoQuorum(text, replies=up)
        text = "no session was opened in time"
        return Timeout(f"{text}: {trouble}" if trouble else text, ambiguous=False)


def _answered(result: bytes) -> bytes | None:
    """What the service answered; None if it must be asked in order.  Raises ApplicationError if it refused."""
    try:
        decoded = decode_result(result)
    except ValueError:
        return None
    if isinstance(decoded, Ok):
        return decoded.value
    if decoded.code == NO_QUERIES:
        return None
    raise ApplicationError(decoded.code, decoded.message or decoded.code)


def _closed(ambiguous: bool) -> ClientClosed:  # noqa: FBT001 (what `Dispatcher.close` calls)
    text = (
        "the client was closed before the result came; the operation may execute"
        if ambiguous
        else "the client is closed"
    )
    return ClientClosed(text, ambiguous=ambiguous)


def _positive(timeout: float) -> float:
    if not timeout > 0:
        raise ValueError("timeout is a positive number of seconds")
    return timeout
