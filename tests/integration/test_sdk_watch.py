"""Watches of the SDK against real nodes: complete, in order, over restarts and view changes, and ended in time."""

import asyncio
import threading
from contextlib import AsyncExitStack, aclosing

import pytest

import bft
from bft.client import ClientSettings
from bft.client import watch as client_watch
from bft.node import watches as node_watches
from tests.integration.fake_replicas import until
from tests.integration.harness import make_cluster, replica_config, running, running_cluster
from tests.integration.test_sdk_nodes import QUICK, client_of, cluster_on_a_thread


async def take(events, count: int, seconds: float = 60) -> list[bft.Event]:
    taken: list[bft.Event] = []
    async with asyncio.timeout(seconds):
        async for event in events:
            taken.append(event)
            if len(taken) == count:
                break
    return taken


async def test_a_watch_tells_every_change_since_a_revision_in_order(tmp_path):
    make_cluster(tmp_path, durability="memory")
    async with running_cluster(tmp_path), client_of(tmp_path) as client:
        await client.put(b"x/before", b"")
        since = await client.put(b"x/a", b"1")
        async with aclosing(client.watch(b"x/", since=since)) as events:
            watching = asyncio.ensure_future(take(events, 102))
            await asyncio.sleep(0)
            await client.txn([], [bft.Put(b"x/b", b"2"), bft.Put(b"y", b"")])
            revisions = await asyncio.gather(*(client.put(b"x/%d" % number, b"") for number in range(100)))
            told = await watching
        assert [event.key for event in told[:2]] == [b"x/a", b"x/b"]
        assert sorted(event.revision for event in told[2:]) == sorted(revisions)
        assert [event.revision for event in told] == sorted(event.revision for event in told)


async def test_a_watch_without_a_revision_begins_now_and_one_key_is_not_its_neighbour(tmp_path):
    make_cluster(tmp_path, durability="memory")
    async with running_cluster(tmp_path) as nodes, client_of(tmp_path) as client:
        await client.put(b"k", b"before")
        async with aclosing(client.watch(key=b"k")) as events:
            watching = asyncio.ensure_future(take(events, 2))
            await until(lambda: all(len(node.watches) == 1 for node in nodes))
            for key in (b"ka", b"k", b"j"):
                await client.put(key, b"after")
            await client.delete(b"k")
            told = await watching
        assert [(event.kind.name, event.key) for event in told] == [("PUT", b"k"), ("DELETE", b"k")]
        await until(lambda: not any(len(node.watches) for node in nodes))


async def test_a_watch_goes_on_over_the_restart_of_every_replica(tmp_path):
    make_cluster(tmp_path)
    async with AsyncExitStack() as outer:
        async with running_cluster(tmp_path):
            client = await outer.enter_async_context(client_of(tmp_path))
            events = await outer.enter_async_context(aclosing(client.watch(since=1)))
            await client.put(b"a", b"1")
            assert [event.key for event in await take_some(events, 1)] == [b"a"]
            watching = asyncio.ensure_future(take_some(events, 2))
        async with running_cluster(tmp_path):
            await client.put(b"b", b"1")
            await client.put(b"c", b"1")
            assert [event.key for event in await watching] == [b"b", b"c"]


async def take_some(events, count: int) -> list[bft.Event]:
    """As `take`, and the watch goes on."""
    async with asyncio.timeout(60):
        return [await anext(events) for _ in range(count)]


async def test_a_watch_goes_on_over_a_view_change(tmp_path):
    make_cluster(tmp_path, durability="memory", **QUICK)
    async with AsyncExitStack() as others, AsyncExitStack() as primary:
        for replica in range(4):
            stack = others if replica else primary
            await stack.enter_async_context(running(replica_config(tmp_path, replica)))
        client = await others.enter_async_context(client_of(tmp_path))
        events = await others.enter_async_context(aclosing(client.watch(since=1)))
        await client.put(b"a", b"1")
        watching = asyncio.ensure_future(take_some(events, 2))
        await primary.aclose()
        await client.put(b"b", b"1")
        assert [event.key for event in await watching] == [b"a", b"b"]
        assert client.status().view >= 1


async def test_an_expired_key_is_told_on_a_cluster_where_nothing_else_happens(tmp_path, monkeypatch):
    monkeypatch.setattr(client_watch, "WAIT_S", 0.3)
    make_cluster(tmp_path, durability="memory")
    async with running_cluster(tmp_path), client_of(tmp_path) as client:
        revision = await client.put(b"lease", b"", ttl=1)
        told = await take(client.watch(since=revision), 2)
        assert [event.kind.name for event in told] == ["PUT", "EXPIRE"]


async def test_a_watch_from_a_revision_that_no_number_can_be_is_refused(tmp_path):
    make_cluster(tmp_path, durability="memory")
    async with running_cluster(tmp_path), client_of(tmp_path) as client:
        with pytest.raises(ValueError, match="64 bits"):
            await take(client.watch(since=1 << 64), 1)


async def test_a_watch_from_a_revision_that_is_gone_says_what_is_left(tmp_path):
    make_cluster(tmp_path, durability="memory", service_options={"history_revisions": 10})
    async with running_cluster(tmp_path), client_of(tmp_path) as client:
        await asyncio.gather(*(client.put(b"k", bytes(1000)) for _ in range(60)))
        with pytest.raises(bft.Compacted) as caught:
            await take(client.watch(since=1), 1)
        assert caught.value.revision == (await client.store_status()).oldest
        assert (await take(client.watch(since=caught.value.revision), 1))[0].revision == caught.value.revision


async def test_a_client_has_a_bounded_number_of_watches(tmp_path):
    make_cluster(tmp_path, durability="memory")
    settings = ClientSettings(watches_max=1)
    async with running_cluster(tmp_path), bft.connect(tmp_path, identity="test", settings=settings) as client:
        revision = await client.put(b"k", b"")
        async with aclosing(client.watch(since=revision)) as first:
            await take_some(first, 1)
            with pytest.raises(bft.Overloaded):
                await take(client.watch(since=revision), 1)
        assert len(await take(client.watch(since=revision), 1)) == 1


async def test_a_replica_holds_a_bounded_number_and_others_make_up_for_it(tmp_path, monkeypatch):
    make_cluster(tmp_path, durability="memory")
    async with running_cluster(tmp_path) as nodes, client_of(tmp_path) as client:
        revision = await client.put(b"k", b"")
        monkeypatch.setattr(node_watches, "WATCHES_MAX", 0)
        with pytest.raises(bft.Overloaded):
            await take(client.watch(since=revision + 1), 1)
        assert all(node._watches.refused for node in nodes)


async def test_closing_the_client_ends_its_watches(tmp_path):
    make_cluster(tmp_path, durability="memory")
    async with running_cluster(tmp_path):
        client = client_of(tmp_path)
        async with client:
            watching = asyncio.ensure_future(take(client.watch(since=1), 1))
            await asyncio.sleep(0.1)
        with pytest.raises(bft.ClientClosed):
            await watching


async def test_watches_that_are_cancelled_at_any_moment_leave_nothing_behind(tmp_path):
    make_cluster(tmp_path, durability="memory")
    async with running_cluster(tmp_path) as nodes, client_of(tmp_path) as client:
        tasks = len(asyncio.all_tasks())
        for round_ in range(60):
            watching = [asyncio.ensure_future(take(client.watch(b"%d" % i, since=1), 5)) for i in range(4)]
            await client.put(b"%d" % (round_ % 4), b"")
            await asyncio.sleep(round_ % 5 / 500)
            for task in watching:
                task.cancel()
            await asyncio.gather(*watching, return_exceptions=True)
        await until(lambda: not len(client._watches))
        await until(lambda: not any(len(node.watches) for node in nodes))
        assert len(asyncio.all_tasks()) == tasks


def test_the_blocking_client_watches_too(tmp_path):
    make_cluster(tmp_path, durability="memory")
    with cluster_on_a_thread(tmp_path), bft.sync.connect(tmp_path, identity="test") as client:
        revision = client.put(b"a", b"1")
        later = threading.Timer(0.2, client.put, (b"b", b"2"))
        later.start()
        keys = []
        for event in client.watch(since=revision):
            keys.append(event.key)
            if len(keys) == 2:
                break
        assert keys == [b"a", b"b"]
        later.join()
