"""Persist before you speak: what a round sends leaves when its records, and all before them, are on disk.

Writing a round to disk overlaps the next rounds' processing; order is kept, so what one replica receives from another
is always in the order in which it was decided.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from bft.codec import encode_frame
from bft.core.messages import Outcome, PeerMessage, Refusal, ReplicaId, Reply, ReplyStatus, Seq
from bft.errors import StorageFailure
from bft.net.clients import ClientPort
from bft.net.link import Link
from bft.net.peers import PeerNetwork
from bft.node.phases import Phase, Phases
from bft.storage.log import RecordLog
from bft.storage.records import Entry, RecordType

ROUNDS_MAX: Final = 4  # rounds that wait for the disk; the core then waits too
LATE_MAX: Final = 256
# Nothing that is sent depends on these alone.  A quorum of COMMITs was sent, so a quorum's prepared certificates are on
# disk, our own by the time the reply leaves: the batch cannot be lost, and who lacks the record learns it from peers.
_LATE: Final = frozenset({RecordType.COMMITTED})


@dataclass(slots=True)
class Round:
    """What the events of one round brought, encoded already: that work overlaps the disk's."""

    entries: list[Entry] = field(default_factory=list)
    to_peers: list[tuple[ReplicaId | None, bytes]] = field(default_factory=list)  # None: to all others
    to_clients: list[tuple[bytes, int, bytes]] = field(default_factory=list)  # client, session, frame
    to_links: list[tuple[Link, bytes]] = field(default_factory=list)  # answers to queries
    executed: list[Seq] = field(default_factory=list)  # in this round: they are answered when it is sent

    def __bool__(self) -> bool:
        return bool(self.entries or self.to_peers or self.to_clients or self.to_links)


class Outgoing:
    """The rounds that wait for the disk, in order."""

    def __init__(
        self,
        log: RecordLog,
        peers: PeerNetwork,
        clients: ClientPort,
        on_failure: Callable[[], None],
        *,
        fast_reads: bool = False,
    ) -> None:
        """With `fast_reads` replies wait for all records: how far it executed must outlive a crash (docs/reads.md)."""
        self._may_be_late = frozenset() if fast_reads else _LATE
        self._log = log
        self._peers = peers
        self._clients = clients
        self._on_failure = on_failure
        self._late: list[Entry] = []  # written with the next records that are waited for, or by `write_late`
        self._waiting: deque[tuple[asyncio.Future[None], Round]] = deque()
        self.phases: Final = Phases()
        self.failure: StorageFailure | None = None  # the log's: nothing is sent any more
        log.failed.add_done_callback(self._on_log_failed)

    def __len__(self) -> int:
        return len(self._waiting)

    @staticmethod
    def send(round_: Round, to: ReplicaId | None, message: PeerMessage) -> None:
        """Add a message to one peer, or to all (None)."""
        round_.to_peers.append((to, encode_frame(message)))

    def reply(self, round_: Round, client: bytes, answer: Reply | Refusal) -> None:
        """Add an answer to a client, if it is connected here."""
        if not self._clients.is_connected(client):
            return
        if isinstance(answer, Reply):
            outcome = answer.outcome
            key = outcome.session or outcome.number
            if not outcome.session and outcome.status is ReplyStatus.EXECUTED:
                # A registration: the session that it opened answers on the link that asked for it.
                links = tuple(self._clients.route(client, key))
                if len(links) == 1:
                    self._clients.remember(client, _session_opened(outcome), links[0])
        else:
            key = answer.session or answer.number
        round_.to_clients.append((client, key, encode_frame(answer)))

    async def submit(self, round_: Round, *, idle: bool = False) -> None:
        """Send the round when its turn has come; waits while too many rounds wait.  Raises StorageFailure.

        `idle`: there is nothing else to do meanwhile.
        """
        if self.failure is not None:
            raise self.failure
        entries: list[Entry] = []
        for entry in round_.entries:
            (self._late if entry.type in self._may_be_late else entries).append(entry)
        if entries:
            synced = self._log.append([*self._late, *entries], idle=idle)
            self._late.clear()
            self._waiting.append((synced, round_))
            if synced.done():
                self._on_synced(synced)
            else:
                synced.add_done_callback(self._on_synced)
        elif self._waiting:
            self._waiting[-1][1].to_peers.extend(round_.to_peers)
            self._waiting[-1][1].to_clients.extend(round_.to_clients)
            self._waiting[-1][1].to_links.extend(round_.to_links)
            self._waiting[-1][1].executed.extend(round_.executed)
        else:
            self._send(round_)
        if len(self._late) > LATE_MAX:
            self.write_late()
        while len(self._waiting) > ROUNDS_MAX:
            await asyncio.shield(self._waiting[0][0])
            self._release()

    def write_late(self) -> None:
        """Write the records for which nothing waits; whoever has a quiet moment calls it."""
        if self._late:
            self._log.append(self._late).add_done_callback(self._on_synced)
            self._late = []

    async def drain(self) -> None:
        """Write and wait until nothing waits.  Raises StorageFailure."""
        self.write_late()
        while self._waiting:
            await asyncio.shield(self._waiting[0][0])
            self._release()

    def _on_synced(self, synced: asyncio.Future[None]) -> None:
        if synced.cancelled():
            return
        error = synced.exception()
        if isinstance(error, StorageFailure):
            self._fail(error)
        self._release()

    def _on_log_failed(self, failed: asyncio.Future[StorageFailure]) -> None:
        """Nobody need wait for the log: a seal or a truncation may fail as well."""
        if not failed.cancelled():
            self._fail(failed.result())

    def _fail(self, failure: StorageFailure) -> None:
        self.failure = failure
        self._on_failure()

    def _release(self) -> None:
        """Send every round at the head whose records are on disk; a failed one stops everything behind it."""
        sent = False
        while self._waiting and self.failure is None:
            synced, round_ = self._waiting[0]
            if not synced.done() or synced.cancelled() or synced.exception() is not None:
                break
            self._waiting.popleft()
            self._queue(round_)
            sent = True
        if sent:
            self._flush()

    def _send(self, round_: Round) -> None:
        self._queue(round_)
        self._flush()

    def _queue(self, round_: Round) -> None:
        for to, frame in round_.to_peers:
            if to is None:
                self._peers.broadcast(frame)
            else:
                self._peers.send(to, frame)
        for client, session, frame in round_.to_clients:
            self._clients.send(client, session, frame)
        for link, frame in round_.to_links:
            self._clients.send_on(link, frame)
        for seq in round_.executed:
            self.phases.passed(seq, Phase.REPLIED)

    def _flush(self) -> None:
        self._peers.flush()
        self._clients.flush()


def _session_opened(outcome: Outcome) -> int:
    """The session that a successful REGISTER opened."""
    return int.from_bytes(outcome.results[0], "big") if outcome.results else 0
