"""Watches of the SDK against real nodes of which one lies to whoever watches, from the first answer on."""

import asyncio
import random
from collections.abc import Callable
from contextlib import AsyncExitStack, aclosing
from typing import Any

import msgpack
import pytest

import bft
from bft.statemachine import kv
from bft.statemachine.api import Poll, StateMachine
from bft.statemachine.replicated import ReplicatedState
from bft.statemachine.results import Ok, decode_result, encode_error, encode_ok
from tests.integration.harness import make_cluster, replica_config, running
from tests.integration.test_sdk_nodes import client_of

WRITES = 40
FAR = 1 << 60
LAST = b"k/last"
RawEvents = list[list[Any]]  # events as an answer has them: revision, kind, key and, of a put, the entry
Lie = Callable[[RawEvents, int, int], tuple[RawEvents, int]]  # of the true events, what was asked for and the true next


def invents(events: RawEvents, since: int, following: int) -> tuple[RawEvents, int]:
    """A write that nobody made, before all others."""
    return [[since, 0, b"k/forged", since, since, 1, b"lie"], *[e for e in events if e[0] != since]], following


def invents_the_future(events: RawEvents, since: int, following: int) -> tuple[RawEvents, int]:
    return [*events, [following + 5, 0, b"k/forged", following + 5, 1, 1, b"lie"]], following + 6


def changes_values(events: RawEvents, since: int, following: int) -> tuple[RawEvents, int]:
    return [[*e[:6], b"lie", *e[7:]] if e[1] == kv.EventKind.PUT else e for e in events], following


def turns_writes_into_deletions(events: RawEvents, since: int, following: int) -> tuple[RawEvents, int]:
    return [[e[0], int(kv.EventKind.DELETE), e[2]] for e in events], following


def withholds_some(events: RawEvents, since: int, following: int) -> tuple[RawEvents, int]:
    return events[::2], following


def withholds_all(events: RawEvents, since: int, following: int) -> tuple[RawEvents, int]:
    return [], FAR


def swaps_neighbours(events: RawEvents, since: int, following: int) -> tuple[RawEvents, int]:
    """Each revision in its place, with what happened at the next."""
    others = [*events[1:], *events[:1]]
    return [[e[0], *other[1:]] for e, other in zip(events, others, strict=True)], following


def tells_backwards(events: RawEvents, since: int, following: int) -> tuple[RawEvents, int]:
    return events[::-1], following


def repeats(events: RawEvents, since: int, following: int) -> tuple[RawEvents, int]:
    return [e for e in events for _ in range(2)], following


def leads_back(events: RawEvents, since: int, following: int) -> tuple[RawEvents, int]:
    return [], max(since - 1, 0)


class LiesToWatchers(ReplicatedState):
    """Executes as it should; whoever asks for events is told what `lie` makes of them, at once."""

    def __init__(self, service, lie: Lie) -> None:
        super().__init__(service)
        self._lie = lie
        self.told = 0

    def poll(self, operation: bytes, *, client: bytes, client_name: str) -> Poll:
        true = decode_result(super().poll(operation, client=client, client_name=client_name).answer)
        assert isinstance(true, Ok)
        events, following, expiring = msgpack.unpackb(true.value)
        since = msgpack.unpackb(operation)[1]
        self.told += 1
        return Poll(encode_ok(bytes(msgpack.packb([*self._lie(events, since, following), expiring]))))


class Says(ReplicatedState):
    """Whatever it is asked by somebody who waits."""

    def __init__(self, service, answer: bytes) -> None:
        super().__init__(service)
        self._said = answer
        self.told = 0

    def poll(self, operation: bytes, *, client: bytes, client_name: str) -> Poll:
        self.told += 1
        return Poll(self._said)


COMPACTED = encode_ok(bytes(msgpack.packb([FAR])))
LIES: list[Lie] = [
    invents,
    invents_the_future,
    changes_values,
    turns_writes_into_deletions,
    withholds_some,
    withholds_all,
    swaps_neighbours,
    tells_backwards,
    repeats,
    leads_back,
]
SAYS = {
    "compacted": COMPACTED,
    "an_error": encode_error("bad_operation", "you asked for nothing"),
    "too_many": encode_error("too_many_watches", "go away"),
    "garbage": b"\xff" * 64,
}


async def write(client: bft.Client, source: random.Random) -> list[bft.Event]:
    """Puts, deletions and transactions; what a watch has to tell of them."""
    happened: list[bft.Event] = []
    versions: dict[bytes, tuple[int, int]] = {}  # of keys that exist: create_revision and version

    def note(revision: int, key: bytes, value: bytes | None) -> None:
        if value is None:
            del versions[key]
            happened.append(bft.Event(revision, kv.EventKind.DELETE, key, None))
            return
        created, version = versions.get(key, (revision, 0))
        versions[key] = created, version + 1
        happened.append(
            bft.Event(revision, kv.EventKind.PUT, key, kv.Entry(value, revision, created, version + 1, None))
        )

    for number in range(WRITES):
        key, value = b"k/%d" % source.randrange(4), b"%d" % number
        if source.random() < 0.2:
            deleted = await client.delete(key)
            if deleted.deleted:
                note(deleted.revision, key, None)
        elif source.random() < 0.2:
            both = await client.txn([], [bft.Put(b"k/one", value), bft.Put(b"k/two", value)])
            note(both.revision, b"k/one", value)
            note(both.revision, b"k/two", value)
        else:
            note(await client.put(key, value), key, value)
        await client.put(b"other", value)  # nobody watches this one
    note(await client.put(LAST, b""), LAST, b"")
    return happened


async def watch_while_one_lies(
    directory, liar: int, make_state: Callable[[StateMachine], LiesToWatchers | Says]
) -> None:
    """The watch tells all that happened and nothing else, in order, from the first write to the last."""
    make_cluster(directory, durability="memory")
    lying: list[LiesToWatchers | Says] = []

    def make(service) -> ReplicatedState:
        lying.append(make_state(service))
        return lying[-1]

    async with AsyncExitStack() as stack:
        for replica in range(4):
            parts: dict[str, Any] = {"make_state": make} if replica == liar else {}
            await stack.enter_async_context(running(replica_config(directory, replica), **parts))
        client = await stack.enter_async_context(client_of(directory))
        writing = asyncio.ensure_future(write(client, random.Random(liar)))
        told: list[bft.Event] = []
        async with aclosing(client.watch(b"k/", since=1)) as events, asyncio.timeout(90):
            async for event in events:
                told.append(event)
                if event.key == LAST:
                    break
        assert told == await writing
        assert lying[0].told > 0


@pytest.mark.parametrize(
    ("liar", "lie"), [(at % 4, lie) for at, lie in enumerate(LIES)], ids=lambda value: getattr(value, "__name__", None)
)
async def test_what_a_replica_makes_up_is_not_told_and_what_it_hides_is(tmp_path, liar, lie):
    await watch_while_one_lies(tmp_path, liar, lambda service: LiesToWatchers(service, lie))


@pytest.mark.parametrize("said", SAYS)
async def test_a_replica_that_says_there_is_nothing_to_watch_ends_no_watch(tmp_path, said):
    await watch_while_one_lies(tmp_path, 3, lambda service: Says(service, SAYS[said]))
