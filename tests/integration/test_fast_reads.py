"""Fast reads of real nodes: linearizable together with writes, whatever one replica answers, and cheap."""

import asyncio
import random
from contextlib import AsyncExitStack
from typing import Any

import msgpack
import pytest

import bft
import bft.client
from bft.state_proof import StateProof
from bft.statemachine import kv
from bft.statemachine.replicated import ReplicatedState
from bft.statemachine.results import encode_ok
from bft.statemachine.store import application_key
from bft.statemachine.trie import MerkleTrie
from bft.testing.history import Action, Cas, Delete, Get, Operation, Put, Range
from bft.testing.linearizability import check
from bft.testing.recorder import Recorder
from tests.integration.fake_replicas import until
from tests.integration.harness import add_client, make_cluster, replica_config, running, running_cluster

QUICK: dict[str, Any] = {"request_timeout_ns": 500_000_000, "view_change_timeout_ns": 500_000_000}
KEYS = [b"a", b"b"]


class LivesInThePast(ReplicatedState):
    """To the same question it gives its first answer for ever."""

    def __init__(self, service) -> None:
        super().__init__(service)
        self._said: dict[bytes, bytes] = {}

    def query(self, operation: bytes, *, client: bytes, client_name: str) -> bytes:
        return self._said.setdefault(operation, super().query(operation, client=client, client_name=client_name))


class MakesUp(ReplicatedState):
    """Every key holds what nobody wrote, and no range holds anything."""

    def query(self, operation: bytes, *, client: bytes, client_name: str) -> bytes:
        if operation[1] == kv.Opcode.GET:
            return encode_ok(msgpack.packb([1, 1, 1, b"forged"]))
        return encode_ok(msgpack.packb([[], None, 1]))


async def test_a_fast_read_orders_nothing_and_says_what_it_was(tmp_path):
    make_cluster(tmp_path, durability="memory", fast_reads=True)
    async with running_cluster(tmp_path) as nodes, bft.connect(tmp_path, identity="test", timeout=60) as client:
        await client.put(b"a", b"1")
        executed = nodes[0].core.last_executed
        read = await client.query(kv.encode_get(b"a"))
        entry = kv.decode_get(read.value)
        assert entry is not None
        assert (entry.value, read.consistency, read.seq, read.result) == (b"1", "linearizable", executed, None)
        assert nodes[0].core.last_executed == executed
        ordered = await client.query(kv.encode_get(b"a"), consistency="ordered")
        assert (ordered.value, ordered.consistency) == (read.value, "ordered")
        assert ordered.result is not None
        assert ordered.result.receipt.seq == ordered.seq == executed + 1
        status = client.status()
        assert (status.fast_reads, status.fast_reads_given_up) == (1, 0)


async def test_without_fast_reads_a_linearizable_read_is_ordered_and_says_so(tmp_path):
    make_cluster(tmp_path, durability="memory")
    async with running_cluster(tmp_path), bft.connect(tmp_path, identity="test", timeout=60) as client:
        await client.put(b"a", b"1")
        assert (await client.query(kv.encode_get(b"a"))).consistency == "ordered"
        entry = await client.get(b"a", consistency="linearizable")
        assert entry is not None
        assert entry.value == b"1"


async def test_with_one_replica_dead_and_one_behind_a_read_is_ordered_instead(tmp_path):
    make_cluster(tmp_path, durability="memory", fast_reads=True)
    async with AsyncExitStack() as stack:
        for replica in range(3):
            parts: dict[str, Any] = {"make_state": LivesInThePast} if replica == 2 else {}
            await stack.enter_async_context(running(replica_config(tmp_path, replica), **parts))
        client = await stack.enter_async_context(bft.connect(tmp_path, identity="test", timeout=60))
        assert await client.get(b"a", consistency="linearizable") is None
        await client.put(b"a", b"1")
        read = await client.query(kv.encode_get(b"a"))
        entry = kv.decode_get(read.value)
        assert entry is not None
        assert (entry.value, read.consistency) == (b"1", "ordered")
        assert client.status().fast_reads_given_up >= 1


class FastCaller:
    """A client that orders no read if it need not."""

    def __init__(self, client: bft.Client) -> None:
        self._client = client
        self.fast = 0

    async def call(self, operation: bytes, *, timeout: float | None = None) -> bft.Result:
        if operation[1] not in (kv.Opcode.GET, kv.Opcode.RANGE):
            return await self._client.call(operation, timeout=timeout)
        read = await self._client.query(operation, timeout=timeout)
        self.fast += read.consistency == "linearizable"
        return bft.Result(read.value, read.seq)


async def history_of(directory, liar: type[ReplicatedState], *, seconds_max: float = 50) -> tuple[list[Operation], int]:
    """What five clients are told that mix fast reads and writes; replica 3 is the liar, and 1 restarts."""
    names = ["test", *(f"c{number}" for number in range(1, 5))]
    for name in names[1:]:
        add_client(directory, name)
    recorder = Recorder()
    done, stop = 0, False

    async def use(name: str, client: FastCaller) -> None:
        nonlocal done
        source = random.Random(name)
        number = 0
        while not stop:
            key, value = source.choice(KEYS), b"%s/%d" % (name.encode(), number)
            number += 1
            choices: list[Action] = [Put(key, value), Get(key), Cas(key, None, value), Delete(key), Range(b"a", b"z")]
            (action,) = source.choices(choices, weights=(3, 8, 1, 2, 1))
            await recorder.perform(name, client, action)
            done += 1

    async with AsyncExitStack() as others, AsyncExitStack() as laggard:
        for replica in range(4):
            stack = laggard if replica == 1 else others
            parts: dict[str, Any] = {"make_state": liar} if replica == 3 else {}
            await stack.enter_async_context(running(replica_config(directory, replica), **parts))
        clients = [
            await others.enter_async_context(bft.connect(directory, identity=name, timeout=60)) for name in names
        ]
        callers = [FastCaller(client) for client in clients]
        users = [asyncio.ensure_future(use(*user)) for user in zip(names, callers, strict=True)]
        await until(lambda: done >= 150, seconds_max)
        await laggard.aclose()
        await asyncio.sleep(0.3)
        async with running(replica_config(directory, 1)):
            before = done
            await until(lambda: done >= before + 150, seconds_max)
            stop = True
            await asyncio.gather(*users)
        return recorder.history, sum(caller.fast for caller in callers)


@pytest.mark.parametrize("liar", [LivesInThePast, MakesUp])
async def test_a_history_with_a_liar_and_a_laggard_is_linearizable(tmp_path, liar):
    make_cluster(tmp_path, fast_reads=True, checkpoint_interval=8, window=16, **QUICK)
    history, fast = await history_of(tmp_path, liar)
    verdict = check(history)
    assert verdict, str(verdict)
    assert fast > 0


async def test_a_stale_read_is_proven_by_one_replica_and_verifies_offline(tmp_path):
    make_cluster(tmp_path, durability="memory", checkpoint_interval=4, window=8)
    async with running_cluster(tmp_path) as nodes, bft.connect(tmp_path, identity="test", timeout=60) as client:
        with pytest.raises(bft.NoProof, match="no stable checkpoint yet"):
            await client.prove(b"a")
        revision = await client.put(b"a", b"1")
        while min(node.core.stable.seq for node in nodes) < 4:
            await client.put(b"b", b"2")
        found = await client.prove(b"a", max_age=60)
        assert found.entry == bft.client.Entry(b"1", revision, revision, 1)
        assert found.seq % 4 == 0
        assert await client.get(b"a", consistency="stale") == found.entry
        absent = await client.prove(b"c")
        assert absent.entry is None
        with pytest.raises(bft.NoProof):
            await client.prove_stored(b"c")  # the service's own record, which is no entry
    path = tmp_path / "a.proof"
    found.proof.save(path)
    proven = bft.StateProof.load(path).verify(tmp_path / "cluster.toml")
    assert (proven.key, proven.seq) == (kv.stored_key(b"a"), found.seq)


async def test_a_replica_that_proves_nothing_true_is_passed_over(tmp_path, monkeypatch):
    make_cluster(tmp_path, durability="memory", checkpoint_interval=4, window=8)
    async with AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(running(replica_config(tmp_path, replica))) for replica in range(4)]
        client = await stack.enter_async_context(bft.connect(tmp_path, identity="test", timeout=60))
        await client.put(b"a", b"1")
        while min(node.core.stable.seq for node in nodes) < 4:
            await client.put(b"b", b"2")
        liar, state = nodes[0], MerkleTrie().update({application_key(b"ka"): b"lie"})
        lie = StateProof.of(liar.config.cluster, liar.core.stable, state, b"ka").encode()
        monkeypatch.setattr(liar, "_proof", lambda _: lie)
        found = [await client.prove(b"a") for _ in range(8)]
        assert {each.entry.value for each in found if each.entry} == {b"1"}
