"""A cluster's files, its nodes in this process over real TLS, and a client made of nothing but sockets."""

import asyncio
import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Self

from bft.auth import KeySigner
from bft.codec import FrameSplitter, Hello, Limits, MessageType, QueryAnswer, decode_body, encode_frame
from bft.config import Address, ClusterConfig, ReplicaConfig, ReplicaEntry, dump_replica, load_replica
from bft.core.effects import Effect
from bft.core.events import Event, Instant
from bft.core.messages import Outcome, Refusal, Reply, ReplyStatus, Request, RequestKind
from bft.core.parameters import Parameters
from bft.core.replica import Replica
from bft.node import Node
from bft.storage.directory import begin
from crypto import tls
from crypto.ca import CertificateAuthority
from crypto.certificates import Role, der_of_pem
from crypto.keys import PrivateKey

KEY_VALUE = "bft.statemachine.kv:KeyValue"


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 on which nothing listens now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def make_cluster(
    directory: Path,
    n: int = 4,
    *,
    name: str = "test-0badcafe",
    service: str = KEY_VALUE,
    service_options: Any = None,
    durability: str = "fsync",
    verify_threads: int = 0,
    **parameters: Any,
) -> ClusterConfig:
    """Write the files of a cluster with one client, `clients/test`."""
    authority = CertificateAuthority.create(directory / "ca", name)
    keys = [PrivateKey.generate() for _ in range(n)]
    ports = free_ports(3 * n)
    addresses = [Address("127.0.0.1", port) for port in ports]
    entries = tuple(ReplicaEntry(i, key.public.raw, *addresses[3 * i : 3 * i + 3]) for i, key in enumerate(keys))
    ca = directory / "ca" / "ca.crt"
    limits = Parameters(n=n, **parameters)
    cluster = ClusterConfig(name, 0, service, ca, entries, limits, service_options or {})
    (directory / "cluster.toml").write_text(cluster.dump(ca="ca/ca.crt"))
    for i, key in enumerate(keys):
        home = directory / f"replica-{i}"
        home.mkdir()
        (home / "cluster.toml").write_text(cluster.dump(ca="ca.crt"))
        (home / "ca.crt").write_bytes(authority.pem)
        (home / "replica.crt").write_bytes(authority.issue_replica(i, key.public, ["127.0.0.1"]))
        key.save(home / "replica.key")
        (home / "replica.toml").write_text(
            dump_replica(i, durability=durability, verify_threads=verify_threads, log_level="warning")
        )
        begin(home / "data")
    add_client(directory, "test")
    return cluster


def add_client(directory: Path, name: str) -> None:
    key = PrivateKey.generate()
    home = directory / "clients" / name
    home.mkdir(parents=True)
    (home / "client.crt").write_bytes(CertificateAuthority.load(directory / "ca").issue_client(name, key.public))
    key.save(home / "client.key")


def replica_config(directory: Path, replica: int, **changes: Any) -> ReplicaConfig:
    return replace(load_replica(directory / f"replica-{replica}", {}), **changes)


EffectsFilter = Callable[[list[Effect], Instant], list[Effect]]


class Filtered(Replica):
    """A replica of which something else leaves than its core decided."""

    def __init__(self, effects_filter: EffectsFilter, **parts: Any) -> None:
        super().__init__(**parts)
        self._filter = effects_filter

    def step(self, event: Event, now: Instant) -> list[Effect]:
        return self._filter(super().step(event, now), now)

    def absorb(self, event: Event, now: Instant) -> list[Effect]:
        return self._filter(super().absorb(event, now), now)

    def settle(self, now: Instant) -> list[Effect]:
        return self._filter(super().settle(now), now)


@asynccontextmanager
async def running(
    config: ReplicaConfig, effects_filter: EffectsFilter | None = None, **parts: Any
) -> AsyncIterator[Node]:
    """A node that serves until the block ends; `parts` as `Node` takes them."""
    if effects_filter is not None:
        parts["make_replica"] = partial(Filtered, effects_filter)
    node = Node(config, **parts)
    node.bind()
    task = asyncio.ensure_future(node.run())
    try:
        yield node
        if task.done():
            await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await node.close()


@asynccontextmanager
async def running_cluster(directory: Path, n: int = 4) -> AsyncIterator[list[Node]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(running(replica_config(directory, i))) for i in range(n)]


class RawClient:
    """One session; sends each request to all replicas and accepts f+1 equal outcomes."""

    def __init__(self, directory: Path, cluster: ClusterConfig, name: str = "test") -> None:
        home = directory / "clients" / name
        self.name = name
        self.cluster = cluster
        self.key = PrivateKey.load(home / "client.key")
        self.certificate = der_of_pem((home / "client.crt").read_bytes())
        self.context = tls.client_context(
            certificate=home / "client.crt", key=home / "client.key", ca=directory / "ca" / "ca.crt"
        )
        self.signer = KeySigner(self.key, cluster.domain)
        self.limits = Limits.of(cluster.parameters)
        self.session = 0
        self.number = 0
        self.votes: dict[int, dict[int, Outcome]] = {}
        self.waiting: dict[int, asyncio.Future[Outcome]] = {}
        self.refusals: list[Refusal] = []
        self.answers: list[QueryAnswer] = []
        self.writers: dict[int, asyncio.StreamWriter] = {}
        self.tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        await self.connect(range(len(self.cluster.replicas)))
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for writer in self.writers.values():
            writer.close()

    async def connect(self, replicas: Sequence[int]) -> None:
        for replica in replicas:
            address = self.cluster.replicas[replica].client
            try:
                reader, writer = await asyncio.open_connection(address.host, address.port, ssl=self.context)
            except OSError:
                continue
            hello = Hello(self.cluster.cluster, self.cluster.epoch, Role.CLIENT, self.name)
            writer.write(encode_frame(hello))
            self.writers[replica] = writer
            self.tasks.append(asyncio.ensure_future(self._read(replica, reader)))

    async def register(self) -> None:
        nonce = int.from_bytes(self.key.public.raw[:6], "big")
        request = Request(self.key.public.raw, 0, nonce, 0, RequestKind.REGISTER, (self.certificate,))
        outcome = await self.submit(request)
        assert outcome.status is ReplyStatus.EXECUTED, outcome
        self.session = int.from_bytes(outcome.results[0], "big")

    async def call(self, *operations: bytes) -> tuple[bytes, ...]:
        outcome = await self.submit(self.request(*operations))
        assert outcome.status is ReplyStatus.EXECUTED, outcome
        return outcome.results

    def request(self, *operations: bytes) -> Request:
        """The session's next request."""
        self.number += 1
        return Request(
            self.key.public.raw, self.session, self.number, self.number - 1, RequestKind.APPLICATION, operations
        )

    async def submit(self, request: Request, *, resend_s: float = 1.0) -> Outcome:
        frame = encode_frame(self.signer.sign(request))
        done = self.waiting[request.number] = asyncio.get_running_loop().create_future()
        while True:
            for writer in self.writers.values():
                writer.write(frame)
            try:
                return await asyncio.wait_for(asyncio.shield(done), resend_s)
            except TimeoutError:
                continue

    async def _read(self, replica: int, reader: asyncio.StreamReader) -> None:
        splitter = FrameSplitter(self.limits.sdk)
        try:
            while data := await reader.read(1 << 16):
                for frame_type, body in splitter.feed(data):
                    message = decode_body(frame_type, body, self.limits).unverified
                    if frame_type == MessageType.REPLY:
                        self._on_reply(replica, message)
                    elif frame_type == MessageType.REFUSAL:
                        self.refusals.append(message)
                    elif frame_type == MessageType.QUERY_ANSWER:
                        self.answers.append(message)
        except (OSError, ssl.SSLError):
            return

    def _on_reply(self, replica: int, reply: Reply) -> None:
        outcome = reply.outcome
        done = self.waiting.get(outcome.number)
        if done is None:
            return
        votes = self.votes.setdefault(outcome.number, {})
        votes[replica] = outcome
        f = (len(self.cluster.replicas) - 1) // 3
        leaf, count = Counter(vote.leaf for vote in votes.values()).most_common(1)[0]
        if count > f and not done.done():
            done.set_result(next(vote for vote in votes.values() if vote.leaf == leaf))
            del self.votes[outcome.number], self.waiting[outcome.number]
