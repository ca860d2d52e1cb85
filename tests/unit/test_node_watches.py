"""Waiting queries at a replica: bounded in number, time and work; each answered once or replaced."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bft.codec import Limits, MessageType, QueryAnswer, Watch, decode_body
from bft.core.parameters import Parameters
from bft.node import watches as module
from bft.node.watches import Watches
from bft.statemachine.api import Poll
from bft.statemachine.results import Error, decode_result


def link(client: bytes = b"c") -> Any:
    certificate = SimpleNamespace(public_key=SimpleNamespace(raw=client))
    return SimpleNamespaceHash(is_open=True, certificate=certificate)


class SimpleNamespaceHash(SimpleNamespace):
    __hash__ = object.__hash__  # type: ignore[assignment]
    __eq__ = object.__eq__


class World:
    """The service answers with what was asked, and has news once `news` holds it."""

    def __init__(self) -> None:
        self.sent: list[tuple[Any, QueryAnswer]] = []
        self.asked: list[bytes] = []
        self.news: set[bytes] = set()
        self.woken = asyncio.Event()
        self.watches = Watches(cast("Any", self), self.ask, self.woken.set)

    def send_on(self, to: Any, frame: bytes) -> None:
        answer = decode_body(MessageType.QUERY_ANSWER, frame[6:], Limits.of(Parameters(n=4))).unverified
        self.sent.append((to, answer))

    def ask(self, to: Any, operation: bytes) -> Poll:
        self.asked.append(operation)
        return Poll(b"\0" + operation, None if operation in self.news else operation)

    def take(self, to: Any, watch: int, *, nonce: int = 0, wait_ms: int = 9000, operation: bytes = b"x") -> None:
        self.watches.take(to, Watch(watch, nonce, wait_ms, operation), 1)

    def nonces(self) -> list[int]:
        return [answer.nonce for _, answer in self.sent]


@pytest.fixture
async def world():
    made = World()
    yield made
    made.watches.close()


async def test_news_answer_at_once_and_others_when_there_are_some(world):
    a = link()
    world.news = {b"known"}
    world.take(a, 1, nonce=1, operation=b"known")
    world.take(a, 2, nonce=2, operation=b"later")
    assert world.nonces() == [1]
    assert not world.watches.is_behind(1)
    assert world.watches.is_behind(2)
    world.watches.serve(2)
    assert world.nonces() == [1]
    world.news.add(b"later")
    world.watches.serve(3)
    assert [(answer.nonce, answer.seq) for _, answer in world.sent] == [(1, 1), (2, 3)]
    assert len(world.watches) == 0


async def test_the_next_watch_of_a_number_takes_the_place_of_the_earlier_and_without_patience_ends_it(world):
    a = link()
    world.take(a, 1, nonce=1)
    world.take(a, 1, nonce=2)
    assert len(world.watches) == 1
    world.take(a, 1, nonce=3, wait_ms=0)
    assert (world.nonces(), len(world.watches)) == ([3], 0)


async def test_when_patience_ends_there_is_an_answer(world):
    world.take(link(), 1, nonce=1, wait_ms=1)
    await asyncio.wait_for(world.woken.wait(), 20)
    assert world.watches.is_behind(1)
    world.watches.serve(1)
    assert (world.nonces(), len(world.watches)) == ([1], 0)
    assert not world.watches.is_behind(1)


async def test_a_round_asks_a_bounded_number_and_the_next_goes_on_with_the_others(world):
    count = 2 * module.ASKED_AGAIN_MAX + 5
    for number in range(count):
        world.take(link(b"%d" % number), 1, operation=b"%d" % number)
    world.asked.clear()
    rounds = 0
    while world.watches.is_behind(2):
        world.watches.serve(2)
        rounds += 1
    assert rounds == 3
    assert sorted(world.asked) == sorted(b"%d" % number for number in range(count))


async def test_a_link_a_client_and_a_replica_have_so_many_watches_and_no_more(world, monkeypatch):
    monkeypatch.setattr(module, "WATCHES_MAX", 70)
    links = [link() for _ in range(6)]
    for a in links:
        for number in range(20):
            world.take(a, number)
    assert len(world.watches) == module.WATCHES_PER_CLIENT_MAX
    assert world.watches.refused == len(world.sent) == 120 - module.WATCHES_PER_CLIENT_MAX
    for number in range(20):
        world.take(link(b"%d" % number), 0)
    assert len(world.watches) == 70
    error = decode_result(world.sent[-1][1].result)
    assert isinstance(error, Error)
    assert error.code == "too_many_watches"
    for a in links:
        world.watches.drop(a)
    assert len(world.watches) == 6
    assert world.watches._of_client.total() == 6


async def test_a_closed_link_takes_no_place(world):
    a = link()
    a.is_open = False
    world.take(a, 1)
    assert (len(world.watches), world.sent) == (0, [])
