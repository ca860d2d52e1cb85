"""A cluster's client ports on the real wire with no protocol behind them: for answers no correct replica gives."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

from bft.codec import Limits, MessageType, decode_body, encode_frame, encode_payload
from bft.config import ClusterConfig
from bft.core.messages import (
    Authenticated,
    BatchResult,
    Outcome,
    Refusal,
    Reply,
    ReplyStatus,
    Request,
    RequestKind,
)
from bft.net.link import Link, LinkSettings
from bft.statemachine.results import encode_ok
from crypto import tls
from crypto.certificates import Role, Subject

SESSION = 77


async def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 (the condition is not ours to signal)
            await asyncio.sleep(0.01)


Answer = Callable[[Outcome], Reply | Refusal | bytes | None]  # what one replica makes of the true outcome


def reply_of(replica: int, outcome: Outcome, *, view: int = 0) -> Reply:
    result = BatchResult(view, outcome.seq, b"r" * 32, replica)
    return Reply(outcome, Authenticated(result, encode_payload(result), b"s" * 64), 0, 1, ())


def honest(replica: int) -> Answer:
    return lambda outcome: reply_of(replica, outcome)


def silent(replica: int) -> Answer:
    return lambda _: None


def lying(replica: int) -> Answer:
    """Another result, and a view in which it is the primary itself."""

    def lie(outcome: Outcome) -> Reply:
        results = tuple(b"\0lie" + bytes(len(result)) for result in outcome.results)
        return reply_of(replica, replace(outcome, results=results), view=4_000_000 + replica)

    return lie


def session_denying(replica: int) -> Answer:
    return lambda outcome: reply_of(replica, replace(outcome, status=ReplyStatus.UNKNOWN_SESSION, results=()))


def garbling(replica: int) -> Answer:
    return lambda _: b"\xff" * 64


def refusing(replica: int) -> Answer:
    return lambda outcome: Refusal(outcome.session, outcome.number, "overloaded")


class FakeReplicas:
    """As if one order was agreed on at once: executes each request on arrival, and every replica answers it its way."""

    def __init__(
        self,
        directory: Path,
        cluster: ClusterConfig,
        answers: Sequence[Answer] | None = None,
        *,
        homes: Sequence[int] | None = None,
    ) -> None:
        n = len(cluster.replicas)
        self.answers = list(answers or [honest(replica) for replica in range(n)])
        self.links: list[list[Link]] = [[] for _ in range(n)]
        self.executed: dict[tuple[int, int], Outcome] = {}
        self.bundles: list[Request] = []
        self.deaf: set[int] = set()  # these take no request
        self.received = [0] * n  # requests, by replica
        self._directory = directory
        self._cluster = cluster
        self._homes = homes or range(n)  # whose key and certificate each replica uses
        self._servers: list[asyncio.Server] = []

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        for replica in range(len(self._cluster.replicas)):
            await self._listen(replica)

    async def stop(self) -> None:
        links = [link for links in self.links for link in links]
        for server in self._servers:
            server.close()
        for link in links:
            link.close()
        await asyncio.gather(*(link.lost for link in links))
        self._servers.clear()

    def close_port(self, replica: int) -> None:
        """This replica takes no more connections: something else may listen there."""
        self._servers[replica].close()

    async def _listen(self, replica: int) -> None:
        home = self._directory / f"replica-{self._homes[replica]}"
        context = tls.server_context(
            certificate=home / "replica.crt", key=home / "replica.key", ca=self._directory / "ca" / "ca.crt"
        )
        limits = Limits.of(self._cluster.parameters)
        own = Subject(self._cluster.cluster, Role.REPLICA, str(self._homes[replica]))
        settings = LinkSettings(self._cluster.domain, own, limits, limits.client, waiting_bytes_max=1 << 20)
        port = _Port(self, replica, limits)
        address = self._cluster.replicas[replica].client
        server = await asyncio.get_running_loop().create_server(
            lambda: Link(port, settings), address.host, address.port, ssl=context, ssl_shutdown_timeout=0.2
        )
        self._servers.append(server)

    def on_request(self, replica: int, request: Authenticated[Request]) -> None:
        if replica in self.deaf:
            return
        self.received[replica] += 1
        message = request.message
        outcome = self.executed.get((message.session, message.number))
        if outcome is not None:
            self._answer(replica, outcome)
            return
        if message.kind is RequestKind.REGISTER:
            results: tuple[bytes, ...] = (SESSION.to_bytes(8, "big"),)
        else:
            self.bundles.append(message)
            results = tuple(encode_ok(operation) for operation in message.operations)
        seq = len(self.executed) + 1
        outcome = Outcome(
            message.client, message.session, message.number, request.digest, seq, ReplyStatus.EXECUTED, results
        )
        self.executed[message.session, message.number] = outcome
        for each in range(len(self.answers)):
            self._answer(each, outcome)

    def _answer(self, replica: int, outcome: Outcome) -> None:
        answer = self.answers[replica](outcome)
        if answer is not None:
            frame = answer if isinstance(answer, bytes) else encode_frame(answer)
            for link in self.links[replica]:
                if link.is_open:
                    link.send(frame)
                    link.flush()


class _Port:
    """The handler of the links of one replica."""

    def __init__(self, replicas: FakeReplicas, replica: int, limits: Limits) -> None:
        self._replicas = replicas
        self._replica = replica
        self._limits = limits

    def admit(self, link: Link) -> None:
        pass

    def opened(self, link: Link) -> None:
        self._replicas.links[self._replica].append(link)

    def received(self, link: Link, frames: list[tuple[int, bytes]]) -> None:
        for _, body in frames:
            request = decode_body(MessageType.REQUEST, body, self._limits).unverified
            self._replicas.on_request(self._replica, request)

    def closed(self, link: Link, reason: str) -> None:
        if link in self._replicas.links[self._replica]:
            self._replicas.links[self._replica].remove(link)
