"""Reads the certified state of a cluster for a backup: from one replica at a time, and believes none of them."""

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from bft.client.identity import Identity
from bft.codec import FrameSplitter, Hello, Limits, MessageType, decode_body, encode_body, encode_frame
from bft.config import ClusterConfig
from bft.core.messages import CheckpointCertificate, FetchState, StableCheckpoint
from bft.errors import InvalidMessage, NoQuorum, VerificationFailed
from bft.statemachine.sync import StateSync
from bft.statemachine.trie import MerkleTrie

_ANSWER_S: Final = 10.0  # a replica that takes longer is left for the next one
_ROUNDS: Final = 3  # how often each replica is tried
_READ_BYTES: Final = 1 << 16
Verifier = Callable[[bytes, ClusterConfig], CheckpointCertificate]
Progress = Callable[[int, int, int, int], None]  # replica, nodes received, nodes known to be missing, bytes


class _UselessError(Exception):
    """A replica that does not help (any more)."""


class StateReader:
    """One backup; what one replica sent is kept when another takes over, also at a later checkpoint."""

    def __init__(self, config: ClusterConfig, identity: Identity, verify: Verifier, progress: Progress) -> None:
        self._config = config
        self._identity = identity
        self._verify = verify
        self._progress = progress
        self._limits = Limits.of(config.parameters)
        self._sync: StateSync | None = None
        self._target: CheckpointCertificate | None = None
        self._bytes = 0

    async def read(self) -> tuple[bytes, MerkleTrie]:
        """The certificate, as the body of its frame, and the state.  Raises NoQuorum when no replica helps."""
        reasons: dict[int, str] = {}
        for round_ in range(1 + _ROUNDS):
            for replica in range(len(self._config.replicas)):
                try:
                    # First everybody's checkpoint: a single liar cannot have an old one taken for the newest.
                    found = await self._read_from(replica, nodes=round_ > 0)
                    if found is not None:
                        return found
                except (
                    _UselessError,
                    VerificationFailed,
                    InvalidMessage,
                    OSError,
                    asyncio.IncompleteReadError,
                ) as error:
                    reasons[replica] = str(error) or type(error).__name__
        told = "; ".join(f"replica {replica}: {reason}" for replica, reason in sorted(reasons.items()))
        raise NoQuorum(f"no replica gave the state: {told}")

    async def _read_from(self, replica: int, *, nodes: bool) -> tuple[bytes, MerkleTrie] | None:
        address = self._config.replicas[replica].client
        async with asyncio.timeout(_ANSWER_S):
            reader, writer = await asyncio.open_connection(address.host, address.port, ssl=self._identity.context)
        try:
            link = _Link(reader, writer, self._limits)
            subject = self._identity.subject
            writer.write(encode_frame(Hello(self._config.cluster, self._config.epoch, subject.role, subject.name)))
            await self._learn(link)
            return await self._read_nodes(replica, link) if nodes else None
        except TimeoutError:
            raise _UselessError("too slow") from None
        finally:
            writer.transport.abort()  # an answer may be on its way, which nobody waits for
            with suppress(OSError):
                await writer.wait_closed()

    async def _learn(self, link: "_Link") -> None:
        """Go for this replica's checkpoint if it is the newest so far."""
        certificate = self._verify(await link.ask(FetchState(0, (b"",)), MessageType.STABLE_CHECKPOINT), self._config)
        if self._target is None or certificate.seq > self._target.seq:
            root, before = certificate.root, self._sync
            self._sync = StateSync(root, MerkleTrie()) if before is None else before.towards(root)
            self._target = certificate

    async def _read_nodes(self, replica: int, link: "_Link") -> tuple[bytes, MerkleTrie]:
        sync, target = self._sync, self._target
        if sync is None or target is None:
            raise _UselessError("no checkpoint")
        while not sync.complete:
            paths = sync.missing(self._limits.nodes_max)
            try:
                body = await link.ask(FetchState(target.seq, tuple(paths)), MessageType.STATE_CHUNK)
                chunk = decode_body(MessageType.STATE_CHUNK, body, self._limits).unverified
                accepted = {path for path, node in chunk.nodes if path in paths and sync.accept(path, node)}
            finally:
                sync.requeue(paths)  # what was accepted is not outstanding any more
            if not accepted or len(accepted) < len(chunk.nodes):
                raise _UselessError(
                    "sent none of the nodes asked for" if not chunk.nodes else "sent nodes that are not true"
                )
            self._bytes += len(body)
            self._progress(replica, *sync.progress, self._bytes)
        return encode_body(StableCheckpoint(target))[1], sync.result()


class _Link:
    """Frames of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limits: Limits) -> None:
        self._reader = reader
        self._writer = writer
        self._splitter = FrameSplitter(limits.sdk)
        self._frames: list[tuple[int, bytes]] = []

    async def ask(self, question: FetchState, wanted: MessageType) -> bytes:
        """The body of the answer."""
        self._writer.write(encode_frame(question))
        async with asyncio.timeout(_ANSWER_S):
            while True:
                while self._frames:
                    kind, body = self._frames.pop(0)
                    if kind == wanted:
                        return body
                    if kind != MessageType.HELLO:
                        raise _UselessError("has no stable checkpoint yet")
                try:
                    data = await self._reader.read(_READ_BYTES)
                except ssl.SSLError as error:
                    raise _UselessError(str(error)) from error
                if not data:
                    raise _UselessError("closed the connection: is the identity an administrator's?")
                self._frames += self._splitter.feed(data)
