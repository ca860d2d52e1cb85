"""The SDK against real nodes: the key-value service, failures of replicas, and the blocking twin."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, contextmanager
from typing import Any

import pytest

import bft
from bft.client import CasResult, Compare, Delete, DeleteResult, Get, Put
from bft.core import effects as fx
from tests.integration.fake_replicas import until
from tests.integration.harness import EffectsFilter, add_client, make_cluster, replica_config, running, running_cluster

QUICK: dict[str, Any] = {"request_timeout_ns": 500_000_000, "view_change_timeout_ns": 500_000_000}


def client_of(directory, identity: str = "test") -> bft.Client:
    return bft.connect(directory, identity=identity, timeout=60)


async def test_every_operation_of_the_key_value_service_returns_its_own_type(tmp_path):
    make_cluster(tmp_path, durability="memory")
    async with running_cluster(tmp_path), client_of(tmp_path) as client:
        created = await client.put(b"a", b"1")
        entry = await client.get(b"a")
        assert entry is not None
        assert (entry.value, entry.mod_revision, entry.version) == (b"1", created, 1)
        assert await client.get(b"b") is None
        swapped = await client.cas(b"a", b"1", b"2")
        assert (swapped.swapped, swapped.previous) == (True, entry)
        assert await client.cas(b"b", b"1", b"2") == CasResult(swapped=False, revision=0, previous=None)
        await client.put(b"c", b"3")
        listed = await client.range(b"a", b"z", limit=1)
        assert ([(key, held.value) for key, held in listed.items], listed.more) == ([(b"a", b"2")], True)
        deleted = await client.delete(b"a")
        assert deleted.deleted
        assert await client.delete(b"a") == DeleteResult(deleted=False, revision=0)
        with pytest.raises(bft.ApplicationError) as caught:
            await client.put(b"", b"x")
        assert caught.value.code == "bad_key"
        with pytest.raises(bft.ApplicationError):
            await client.call(b"not an operation")


async def test_the_newer_operations_of_the_key_value_service_return_their_own_types_too(tmp_path):
    make_cluster(tmp_path, durability="memory")
    async with running_cluster(tmp_path), client_of(tmp_path) as client:
        keys = [b"u/%d" % number for number in range(5)]
        await asyncio.gather(*(client.put(key, b"v") for key in [b"t", *keys, b"v"]))
        page = await client.range(prefix=b"u/", limit=2)
        assert [key for key, _ in page.items] == keys[:2]
        assert page.next == keys[2]
        assert [key async for key, _ in client.scan(prefix=b"u/", limit=2)] == keys
        assert [key async for key, _ in client.scan(b"u/3", prefix=b"u/")] == keys[3:]
        await client.put(b"lease", b"", ttl=60)
        moved = await client.txn([Compare.exists(b"lease")], [Put(b"a", b"1"), Delete(b"v"), Get(b"t")])
        assert moved.succeeded
        assert moved.results[:2] == (moved.revision, DeleteResult(deleted=True, revision=moved.revision))
        status = await client.store_status()
        assert (status.revision, status.oldest, status.expiring) == (moved.revision, 1, 1)


async def test_two_sessions_of_one_identity_and_one_of_another_do_not_disturb_each_other(tmp_path):
    make_cluster(tmp_path, durability="memory")
    add_client(tmp_path, "other")
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(running_cluster(tmp_path))
        clients = [await stack.enter_async_context(client_of(tmp_path, name)) for name in ("test", "test", "other")]
        puts = [client.put(b"%d/%d" % (at, i), b"v") for i in range(40) for at, client in enumerate(clients)]
        revisions = await asyncio.gather(*puts)
        assert len(set(revisions)) == len(puts)
        assert len((await clients[2].range()).items) == len(puts)


async def test_each_compare_and_swap_of_many_callers_wins_once(tmp_path):
    make_cluster(tmp_path, durability="memory")
    async with running_cluster(tmp_path), client_of(tmp_path) as client:
        await client.put(b"counter", b"0")

        async def increment() -> None:
            while True:
                entry = await client.get(b"counter")
                assert entry is not None
                if (await client.cas(b"counter", entry.value, b"%d" % (int(entry.value) + 1))).swapped:
                    return

        await asyncio.gather(*(increment() for _ in range(12)))
        entry = await client.get(b"counter")
        assert entry is not None
        assert entry.value == b"12"


@pytest.mark.parametrize("victim", [0, 2], ids=["primary", "backup"])
async def test_a_replica_that_dies_under_load_causes_no_error(tmp_path, victim):
    make_cluster(tmp_path, durability="memory", **QUICK)
    async with AsyncExitStack() as others, AsyncExitStack() as doomed:
        for replica in range(4):
            stack = doomed if replica == victim else others
            await stack.enter_async_context(running(replica_config(tmp_path, replica)))
        client = await others.enter_async_context(client_of(tmp_path))
        stop = False
        written: dict[bytes, bytes] = {}

        async def write(caller: int) -> None:
            number = 0
            while not stop:
                key, value = b"%d/%d" % (caller, number), b"%d" % number
                await client.put(key, value)
                written[key] = value
                number += 1

        writers = [asyncio.ensure_future(write(caller)) for caller in range(8)]
        await asyncio.sleep(0.2)
        await doomed.aclose()
        before = len(written)
        await until(lambda: len(written) >= before + 50, 50)
        stop = True
        await asyncio.gather(*writers)
        entries = await asyncio.gather(*(client.get(key) for key in written))
        assert [entry.value if entry else None for entry in entries] == list(written.values())
        assert client.status().primary == (1 if victim == 0 else 0)


async def test_a_silent_primary_is_replaced_and_the_client_finds_the_new_one(tmp_path):
    make_cluster(tmp_path, durability="memory", **QUICK)
    mute = threading.Event()

    def silent(effects: list[fx.Effect], _: object) -> list[fx.Effect]:
        said = fx.Send | fx.Broadcast | fx.SendReply
        return [effect for effect in effects if not (mute.is_set() and isinstance(effect, said))]

    filters: list[EffectsFilter | None] = [silent, None, None, None]
    async with AsyncExitStack() as stack:
        for replica in range(4):
            await stack.enter_async_context(running(replica_config(tmp_path, replica), filters[replica]))
        client = await stack.enter_async_context(client_of(tmp_path))
        await client.put(b"a", b"1")
        mute.set()
        await asyncio.gather(*(client.put(b"k%d" % i, b"v") for i in range(20)))
        assert client.status().view >= 1
        assert client.status().primary != 0


async def test_a_session_survives_the_restart_of_every_replica(tmp_path):
    make_cluster(tmp_path)
    async with AsyncExitStack() as outer:
        async with running_cluster(tmp_path):
            client = await outer.enter_async_context(client_of(tmp_path))
            await client.put(b"a", b"1")
            session = client.status().session
        async with running_cluster(tmp_path):
            entry = await client.get(b"a")
            assert entry is not None
            assert entry.value == b"1"
            assert client.status().session == session


async def test_a_session_that_the_replicas_evicted_ends_with_an_error_and_is_opened_anew(tmp_path):
    make_cluster(tmp_path, durability="memory", sessions_per_client_max=1)
    async with running_cluster(tmp_path), client_of(tmp_path) as evicted:
        first = evicted.status().session
        async with client_of(tmp_path) as newer:
            await newer.put(b"a", b"1")
            with pytest.raises(bft.SessionLost):
                await evicted.put(b"a", b"2")
            await evicted.put(b"b", b"3")
            assert evicted.status().session != first
            entry = await evicted.get(b"a")
            assert entry is not None
            assert entry.value == b"1"


@contextmanager
def cluster_on_a_thread(directory):
    """Nodes beside the test's own thread, which blocks."""
    ready, stop = threading.Event(), threading.Event()

    async def serve() -> None:
        async with running_cluster(directory):
            ready.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(20)
        yield
    finally:
        stop.set()
        thread.join()


def test_the_blocking_client_serves_many_threads_and_ends_its_own(tmp_path):
    make_cluster(tmp_path, durability="memory")
    with cluster_on_a_thread(tmp_path):
        with bft.sync.connect(tmp_path, identity="test") as client:
            with ThreadPoolExecutor(8) as threads:
                list(threads.map(lambda i: client.put(b"%02d" % i, b"v"), range(32)))
            assert [key for key, _ in client.range().items] == [b"%02d" % i for i in range(32)]
            assert [key for key, _ in client.scan(b"30", limit=1)] == [b"30", b"31"]
            assert client.txn([Compare.exists(b"02")], [Delete(b"02")]).succeeded
            assert client.put(b"lease", b"", ttl=60) == client.store_status().revision
            assert client.cas(b"00", b"v", None).swapped
            assert client.get(b"00") is None
            assert client.delete(b"01").deleted
            assert client.call(b"\x92\x02\xc4\x0202").seq > 0
            assert client.status().client == "test"
        with pytest.raises(bft.ClientClosed):
            client.get(b"00")
        assert "bft client" not in {thread.name for thread in threading.enumerate()}


def test_the_blocking_client_reports_the_same_errors(tmp_path):
    make_cluster(tmp_path)
    with pytest.raises(bft.NoQuorum), bft.sync.connect(tmp_path, identity="test", timeout=0.2):
        pass
