"""Calls that are cancelled at any moment, by the thousand: the session stays whole, and nothing is left of them."""

import asyncio
import gc
import random
from collections import Counter
from pathlib import Path

from bft.client import Client
from bft.statemachine.kv import encode_put
from tests.integration.fake_replicas import FakeReplicas, until
from tests.integration.harness import make_cluster, running_cluster
from tests.integration.test_sdk_nodes import client_of


def only_this_task_is_left() -> bool:
    return asyncio.all_tasks() == {asyncio.current_task()}


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def held_by_clients() -> Counter[str]:
    """Live objects of the SDK and what callers wait for, by type."""
    gc.collect()
    names = (f"{type(each).__module__}.{type(each).__name__}" for each in gc.get_objects())
    return Counter(name for name in names if name.startswith("bft.client") or name.endswith(("Future", "Task")))


async def cancel_at_random(client: Client, rng: random.Random, operations: list[bytes]) -> Counter[str]:
    """Submit these, a hundred at a time, and cancel each at some moment; how they ended."""
    ended: Counter[str] = Counter()
    for first in range(0, len(operations), 100):
        calls = [asyncio.create_task(client.call(operation)) for operation in operations[first : first + 100]]
        waiting = list(calls)
        rng.shuffle(waiting)
        while waiting:
            for _ in range(rng.randrange(4)):
                await asyncio.sleep(rng.choice((0, 0, 0.001, 0.01)))
            for call in waiting[: (some := rng.randint(1, 60))]:
                call.cancel()
            del waiting[:some]
        ended.update(type(end).__name__ for end in await asyncio.gather(*calls, return_exceptions=True))
    return ended


async def test_ten_thousand_calls_cancelled_at_random_leave_the_session_whole(tmp_path):
    cluster = make_cluster(tmp_path)
    rng = random.Random(7)
    async with FakeReplicas(tmp_path, cluster) as replicas, client_of(tmp_path) as client:
        await until(lambda: all(replica.connected for replica in client.status().replicas))
        await client.call(b"before")
        files, held = open_files(), held_by_clients()
        ended = await cancel_at_random(client, rng, [b"%d" % number for number in range(10_000)])
        assert ended.keys() == {"CancelledError", "Result"}
        assert min(ended.values()) > 500
        assert (await client.call(b"after")).value == b"after"
        numbers = sorted(bundle.number for bundle in replicas.bundles)
        assert numbers == list(range(1, len(numbers) + 1))
        status = client.status()
        assert (status.queued, status.in_flight) == (0, 0)
        del status
        assert [len(links) for links in replicas.links] == [1, 1, 1, 1]
        assert open_files() == files
        assert held_by_clients() <= held  # of no kind more
    await asyncio.sleep(0)
    assert only_this_task_is_left()


async def test_what_was_cancelled_executes_at_most_once_and_costs_the_replicas_nothing(tmp_path):
    make_cluster(tmp_path, durability="memory")
    rng = random.Random(8)
    async with running_cluster(tmp_path) as nodes, client_of(tmp_path) as client:
        await until(lambda: all(replica.connected for replica in client.status().replicas))
        first = await client.put(b"before", b"")
        session, files, held = client.status().session, open_files(), held_by_clients()
        keys = [b"k%d" % number for number in range(10_000)]
        ended = await cancel_at_random(client, rng, [encode_put(key, b"") for key in keys])
        assert ended.keys() == {"CancelledError", "Result"}
        entries = [item async for item in client.scan(b"k", b"l")]
        assert len(entries) >= ended["Result"]
        assert {entry.version for _, entry in entries} == {1}
        assert min(entry.mod_revision for _, entry in entries) > first
        status = client.status()
        assert (status.session, status.queued, status.in_flight) == (session, 0, 0)
        del entries, status
        await until(lambda: open_files() == files)
        await until(lambda: held_by_clients() <= held)  # of no kind more; the nodes of this process wait for some, too
        await until(lambda: all(node.core.sizes["pending"] == 0 for node in nodes))
    await until(only_this_task_is_left)
