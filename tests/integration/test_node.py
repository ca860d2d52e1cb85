"""Four nodes in this process, over real TLS and a real disk."""

import asyncio
import errno
from contextlib import AsyncExitStack

import pytest

from bft.codec import MessageType, Query, encode_frame
from bft.core import effects as fx
from bft.core.effects import Effect
from bft.core.events import Instant
from bft.errors import StorageFailure
from bft.node import Node
from bft.statemachine.kv import decode_get, encode_get, encode_put
from tests.integration.harness import RawClient, make_cluster, replica_config, running, running_cluster

TIMEOUT_S = 30


async def until(condition, seconds: float = TIMEOUT_S) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 (the condition is not ours to signal)
            await asyncio.sleep(0.01)


def value_of(result: bytes) -> bytes | None:
    assert result[:1] == b"\0"
    entry = decode_get(result[1:])
    return None if entry is None else entry.value


def silent(effects: list[Effect], _: Instant) -> list[Effect]:
    return [e for e in effects if not isinstance(e, fx.Send | fx.Broadcast | fx.SendReply)]


async def test_what_was_put_is_read_and_all_replicas_reach_one_state(tmp_path):
    cluster = make_cluster(tmp_path, checkpoint_interval=4, window=8)
    async with running_cluster(tmp_path) as nodes, RawClient(tmp_path, cluster) as client:
        await client.register()
        for number in range(20):
            await client.call(encode_put(b"key", b"%d" % number), encode_put(b"k%d" % number, b""))
        assert value_of((await client.call(encode_get(b"key")))[0]) == b"19"
        await until(lambda: len({(n.core.last_executed, n.core.stable.seq, n.core.state_root) for n in nodes}) == 1)
        assert nodes[0].core.stable.seq == 20
        assert nodes[0].counters.executed_operations == nodes[3].counters.executed_operations == 42


async def test_one_silent_backup_hinders_nobody(tmp_path):
    cluster = make_cluster(tmp_path)
    async with AsyncExitStack() as stack:
        for i in range(4):
            await stack.enter_async_context(running(replica_config(tmp_path, i), silent if i == 3 else None))
        client = await stack.enter_async_context(RawClient(tmp_path, cluster))
        await client.register()
        await client.call(encode_put(b"a", b"1"))
        assert value_of((await client.call(encode_get(b"a")))[0]) == b"1"


async def test_a_silent_primary_is_replaced(tmp_path):
    cluster = make_cluster(tmp_path, request_timeout_ns=200_000_000, view_change_timeout_ns=200_000_000)
    async with AsyncExitStack() as stack:
        nodes = [
            await stack.enter_async_context(running(replica_config(tmp_path, i), silent if i == 0 else None))
            for i in range(4)
        ]
        client = await stack.enter_async_context(RawClient(tmp_path, cluster))
        await asyncio.wait_for(client.register(), TIMEOUT_S)
        await client.call(encode_put(b"a", b"1"))
        assert value_of((await client.call(encode_get(b"a")))[0]) == b"1"
        assert all(node.core.view >= 1 for node in nodes[1:])


@pytest.mark.parametrize("interval", [4, 128], ids=["from a snapshot", "from the log alone"])
async def test_a_cluster_that_stopped_goes_on_where_it_was(tmp_path, interval):
    cluster = make_cluster(tmp_path, checkpoint_interval=interval, window=2 * interval)
    async with running_cluster(tmp_path) as nodes, RawClient(tmp_path, cluster) as client:
        await client.register()
        for number in range(10):
            await client.call(encode_put(b"k%d" % number, b"v%d" % number))
        await until(lambda: len({node.core.last_executed for node in nodes}) == 1)
        await until(lambda: interval > 10 or all(node.saved_seq == 8 for node in nodes))
        executed, session, number = nodes[0].core.last_executed, client.session, client.number
    async with running_cluster(tmp_path) as nodes, RawClient(tmp_path, cluster) as client:
        assert [node.core.last_executed for node in nodes] == [executed] * 4
        client.session, client.number = session, number
        for index in range(10):
            assert value_of((await client.call(encode_get(b"k%d" % index)))[0]) == b"v%d" % index


async def test_a_replica_that_was_away_catches_up_without_new_traffic(tmp_path):
    cluster = make_cluster(tmp_path, checkpoint_interval=4, window=8)
    async with AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(running(replica_config(tmp_path, i))) for i in range(3)]
        client = await stack.enter_async_context(RawClient(tmp_path, cluster))
        await client.register()
        for number in range(30):
            await client.call(encode_put(b"k%d" % number, b"v"))
        late = await stack.enter_async_context(running(replica_config(tmp_path, 3)))
        await until(lambda: late.core.last_executed == nodes[0].core.last_executed)
        await until(lambda: late.core.state_root == nodes[0].core.state_root)


async def test_a_query_is_answered_by_one_replica(tmp_path):
    cluster = make_cluster(tmp_path)
    async with running_cluster(tmp_path) as nodes, RawClient(tmp_path, cluster) as client:
        await client.register()
        await client.call(encode_put(b"a", b"1"))
        await until(lambda: nodes[2].core.last_executed == 2)
        client.writers[2].write(encode_frame(Query(7, encode_get(b"a"))))
        await until(lambda: client.answers)
        assert client.answers[0].nonce == 7
        assert client.answers[0].seq == 2
        assert value_of(client.answers[0].result) == b"1"


async def test_a_forged_request_is_counted_and_executed_nowhere(tmp_path):
    cluster = make_cluster(tmp_path)
    async with running_cluster(tmp_path) as nodes, RawClient(tmp_path, cluster) as client:
        await client.register()
        frame = bytearray(encode_frame(client.signer.sign(client.request(encode_put(b"a", b"1")))))
        frame[-1] ^= 1
        client.writers[0].write(bytes(frame))
        await until(lambda: nodes[0].gate.invalid[MessageType.REQUEST.name])
        await until(lambda: len(nodes[0].clients) == 0)
        assert value_of((await client.call(encode_get(b"a")))[0]) is None


async def test_a_replica_whose_disk_fails_stops_and_says_no_more(tmp_path, monkeypatch):
    cluster = make_cluster(tmp_path)
    async with AsyncExitStack() as stack:
        for i in range(3):
            await stack.enter_async_context(running(replica_config(tmp_path, i)))
        client = await stack.enter_async_context(RawClient(tmp_path, cluster))
        await client.register()
        failing = Node(replica_config(tmp_path, 3))
        failing.bind()

        def fail(_: int) -> None:
            raise OSError(errno.EIO, "Input/output error")

        with monkeypatch.context() as patch:
            patch.setattr(failing.data.log, "_commit", lambda _: fail(0))
            with pytest.raises(ExceptionGroup) as caught:
                await asyncio.wait_for(asyncio.gather(failing.run(), client.call(encode_put(b"a", b"1"))), TIMEOUT_S)
        await failing.close()
        assert caught.group_contains(StorageFailure, match="Input/output error")
        assert value_of((await client.call(encode_get(b"a")))[0]) == b"1"
