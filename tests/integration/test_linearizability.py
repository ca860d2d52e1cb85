"""What concurrent clients of real nodes are told, judged as a whole."""

import asyncio
import random
from contextlib import AsyncExitStack
from typing import Any

import bft
from bft.testing.history import Action, Cas, Delete, Get, Listing, Put, Range
from bft.testing.linearizability import check, check_by_witness
from bft.testing.recorder import Recorder
from tests.integration.fake_replicas import until
from tests.integration.harness import add_client, make_cluster, replica_config, running

CLIENTS = 6
QUICK: dict[str, Any] = {"request_timeout_ns": 500_000_000, "view_change_timeout_ns": 500_000_000}


async def test_a_history_of_concurrent_clients_through_a_view_change_is_linearizable(tmp_path):
    make_cluster(tmp_path, durability="memory", **QUICK)
    names = ["test", *(f"c{i}" for i in range(1, CLIENTS))]
    for name in names[1:]:
        add_client(tmp_path, name)
    recorder = Recorder()
    keys = [b"a", b"b", b"c"]
    done = 0
    stop = False

    async def use(name: str, client: bft.Client) -> None:
        nonlocal done
        source = random.Random(name)
        seen: bytes | None = None
        number = 0
        while not stop:
            key, value = source.choice(keys), b"%s/%d" % (name.encode(), number)
            number += 1
            choices: list[Action] = [Put(key, value), Get(key), Cas(key, seen, value), Delete(key), Range(b"a", b"z")]
            (action,) = source.choices(choices, weights=(4, 6, 4, 1, 1))
            result = await recorder.perform(name, client, action)
            if isinstance(action, Get) and not isinstance(result, Listing | tuple | bool):
                seen = result
            done += 1

    async with AsyncExitStack() as others, AsyncExitStack() as primary:
        for replica in range(4):
            stack = primary if replica == 0 else others
            await stack.enter_async_context(running(replica_config(tmp_path, replica)))
        clients = [await others.enter_async_context(bft.connect(tmp_path, identity=name, timeout=60)) for name in names]
        users = [asyncio.ensure_future(use(*user)) for user in zip(names, clients, strict=True)]
        await until(lambda: done >= 150, 50)
        await primary.aclose()
        before = done
        await until(lambda: done >= before + 150, 50)
        stop = True
        await asyncio.gather(*users)
        assert all(client.status().view >= 1 for client in clients)

    for verdict in (check(recorder.history), check_by_witness(recorder.history)):
        assert verdict, str(verdict)
