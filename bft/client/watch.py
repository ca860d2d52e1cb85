"""Watches of a client: what it asks the replicas, and when."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from itertools import count
from typing import Final, Protocol

from bft.client.merging import EventMerger
from bft.codec import QueryAnswer, Watch, encode_frame
from bft.core.messages import ReplicaId
from bft.core.quorum import Quorums
from bft.errors import ApplicationError, BftError, Compacted, Overloaded
from bft.statemachine import kv
from bft.statemachine.results import Error, Ok, decode_result

WAIT_S: Final = 5.0  # how long a replica waits for news
OVERDUE_S: Final = WAIT_S + 5.0  # after this an answer is not expected any more
PAUSE_S: Final = 1.0  # before a replica is asked again that answered with an error
BREATH_S: Final = 0.05  # before it is asked again if it had nothing to tell and said so at once
_LOOK_S: Final = 1.0  # how often somebody who waits looks for what is overdue
_ANSWER_BYTES_MAX: Final = 4 << 20
_TOO_MANY: Final = "too_many_watches"


class UselessAnswer(ValueError):
    """Well-formed, but nothing comes of it: ask again later."""


class Links(Protocol):
    """The way to the replicas."""

    def send(self, replica: ReplicaId, frame: bytes) -> None: ...

    def is_up(self, replica: ReplicaId) -> bool: ...


class Stream:
    """One watch: asks every replica, and merges what they answer."""

    def __init__(self, number: int, hub: "Watches", start: bytes, end: bytes | None, since: int) -> None:
        self.number = number
        self._hub = hub
        self._range = start, end
        quorums = hub.quorums
        self._quorums = quorums
        self._merger = EventMerger(quorums, since)
        self._asked: list[tuple[int, int] | None] = [None] * quorums.n  # nonce and revision of what is not answered yet
        self._again_at = [0.0] * quorums.n  # when to ask again, whatever was asked
        self._errors: dict[ReplicaId, Error] = {}
        self._failure: BftError | None = None
        self._events: list[kv.Event] = []
        self._news = asyncio.Event()

    async def next(self) -> list[kv.Event]:
        """More events, at least one, or none after a while.  Raises Compacted, Overloaded or ApplicationError."""
        self._news.clear()
        if not self._events:
            self._check()
            self._ask_all()
            try:
                async with asyncio.timeout(_LOOK_S):
                    await self._news.wait()
            except TimeoutError:
                pass
            self._check()
        events, self._events = self._events, []
        self._ask_all()
        return events

    def fail(self, error: BftError) -> None:
        """Nothing comes any more."""
        self._failure = error
        self._news.set()

    @property
    def expiring(self) -> bool:
        """Whether there are keys whose end is an event that only the passing of agreed time brings."""
        return self._merger.expiring

    def on_link(self, replica: ReplicaId) -> None:
        """What was asked is lost."""
        self._asked[replica] = None
        self._again_at[replica] = 0.0
        self._ask(replica, asyncio.get_running_loop().time())

    def on_answer(self, replica: ReplicaId, answer: QueryAnswer) -> None:
        asked = self._asked[replica]
        if asked is None or asked[0] != answer.nonce:
            return
        self._asked[replica] = None
        now = asyncio.get_running_loop().time()
        before = len(self._events)
        self._again_at[replica] = now + BREATH_S
        try:
            self._take(replica, asked[1], answer.result)
            if len(self._events) > before or not self._merger.wants(replica):
                self._again_at[replica] = 0.0
        except ValueError:
            self._again_at[replica] = now + PAUSE_S  # or no correct replica answers so
        if self._errors or self._merger.compacted is not None:
            self._news.set()
        if self._events:
            self._news.set()
        else:
            self._ask_all()

    def _take(self, replica: ReplicaId, since: int, result: bytes) -> None:
        if len(result) > _ANSWER_BYTES_MAX:
            raise ValueError("an answer longer than any")
        decoded = decode_result(result)
        if not isinstance(decoded, Ok):
            self._errors[replica] = decoded
            raise UselessAnswer(decoded.code)
        self._errors.pop(replica, None)
        events = kv.decode_events(decoded.value)
        if isinstance(events, int):
            self._merger.forgotten(replica, since, events)
            raise UselessAnswer("compacted")
        self._events += self._merger.add(replica, since, events)

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure
        oldest = self._merger.compacted
        if oldest is not None and not self._events:
            raise Compacted(oldest)
        codes = [error.code for error in self._errors.values()]
        for error in self._errors.values():
            # Some replicas may hold as many watches as they can; the others suffice while there are f+1 of them.
            needed = self._quorums.n - self._quorums.f if error.code == _TOO_MANY else self._quorums.weak
            if codes.count(error.code) >= needed:
                if error.code == _TOO_MANY:
                    raise Overloaded("the replicas hold as many watches as they can: try again later")
                raise ApplicationError(error.code, error.message or error.code)

    def _ask_all(self) -> None:
        now = asyncio.get_running_loop().time()
        for replica in range(self._quorums.n):
            self._ask(replica, now)

    def _ask(self, replica: ReplicaId, now: float) -> None:
        if not self._merger.wants(replica) or now < self._again_at[replica] or not self._hub.links.is_up(replica):
            return
        since = self._merger.ask(replica)
        nonce = next(self._hub.nonces)
        self._asked[replica] = nonce, since
        self._again_at[replica] = now + OVERDUE_S
        operation = kv.encode_events(since, *self._range)
        self._hub.links.send(replica, encode_frame(Watch(self.number, nonce, round(WAIT_S * 1000), operation)))

    def end(self) -> None:
        """Tell the replicas that nobody waits any more."""
        for replica, asked in enumerate(self._asked):
            if asked is not None:
                operation = kv.encode_events(asked[1], *self._range)
                self._hub.links.send(replica, encode_frame(Watch(self.number, 0, 0, operation)))


class Watches:
    """All watches of one client."""

    def __init__(self, quorums: Quorums, links: Links, *, most: int) -> None:
        self.quorums = quorums
        self.links = links
        self.nonces = count(1)
        self._most = most
        self._streams: dict[int, Stream] = {}

    def __len__(self) -> int:
        return len(self._streams)

    async def watch(
        self, start: bytes, end: bytes | None, since: int, pass_time: Callable[[], Awaitable[None]]
    ) -> AsyncGenerator[kv.Event, None]:
        """Events of start <= key < end from revision `since` on, for as long as somebody asks for them.

        `pass_time` is called when nothing has happened for a while and keys expire: it has something ordered.
        """
        number = next((number for number in range(self._most) if number not in self._streams), None)
        if number is None:
            raise Overloaded(f"this client has {self._most} watches already: end some, or set watches_max")
        stream = self._streams[number] = Stream(number, self, start, end, since)
        loop = asyncio.get_running_loop()
        quiet_since = loop.time()
        try:
            while True:
                for event in await stream.next():
                    yield event
                    quiet_since = loop.time()
                if stream.expiring and loop.time() - quiet_since > WAIT_S:
                    await pass_time()
                    quiet_since = loop.time()
        finally:
            del self._streams[number]
            stream.end()

    def close(self, error: BftError) -> None:
        """End every watch with this error."""
        for stream in self._streams.values():
            stream.fail(error)

    def on_link(self, replica: ReplicaId) -> None:
        """The link to a replica came up."""
        for stream in self._streams.values():
            stream.on_link(replica)

    def on_answer(self, replica: ReplicaId, answer: QueryAnswer) -> None:
        for stream in self._streams.values():
            stream.on_answer(replica, answer)
