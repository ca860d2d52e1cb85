"""A replica whose state goes wrong says so, gets the certified one from the others, and does not do so for ever."""

import asyncio
import re

import pytest
import structlog

from bft.errors import DivergedError
from bft.node import Node, scrub, snapshots
from bft.statemachine.kv import KeyValue, encode_get, encode_put, stored_key
from bft.statemachine.store import application_key
from tests.integration.harness import RawClient, make_cluster, replica_config, running, running_cluster

TIMEOUT_S = 30
INTERVAL = 4


async def until(condition) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        while not condition():  # noqa: ASYNC110 (the condition is not ours to signal)
            await asyncio.sleep(0.01)


def agree(nodes: list[Node]) -> bool:
    return len({(node.core.last_executed, node.core.state_root) for node in nodes}) == 1


def write_wrongly(node: Node, key: bytes) -> None:
    """As a service that is not deterministic would."""
    node._state._store.application.set(stored_key(key), b"wrong")


async def fill(client: RawClient, count: int) -> None:
    for number in range(count):
        await client.call(encode_put(b"k%d" % number, b"v%d" % number))


async def test_a_state_that_diverged_once_is_named_repaired_and_served_again(tmp_path):
    cluster = make_cluster(tmp_path, checkpoint_interval=INTERVAL, window=2 * INTERVAL)
    async with running_cluster(tmp_path) as nodes, RawClient(tmp_path, cluster) as client:
        await client.register()
        await fill(client, 10)
        await until(lambda: agree(nodes))
        with structlog.testing.capture_logs() as said:
            write_wrongly(nodes[3], b"k7")
            await fill(client, 2 * INTERVAL)
            await until(lambda: nodes[3].counters.divergences == 1 and not nodes[3].core.repairing)
            await fill(client, 3 * INTERVAL)
            await until(lambda: agree(nodes))
        (difference,) = [line for line in said if line["event"] == "the state differed"]
        assert difference["key"] == repr(application_key(stored_key(b"k7")))
        assert difference["ours"] != difference["certified"] != "absent"
        assert [node.core.evidence for node in nodes] == [[]] * 4
        assert nodes[3].core.stable.seq == nodes[0].core.stable.seq > 3 * INTERVAL
        session, number = client.session, client.number
    async with running_cluster(tmp_path) as nodes, RawClient(tmp_path, cluster) as client:  # its log remembers it all
        client.session, client.number = session, number
        await client.call(encode_put(b"more", b"1"))
        await until(lambda: agree(nodes))


async def test_a_value_that_changed_in_memory_is_found_by_the_scrub_and_repaired(tmp_path, monkeypatch):
    monkeypatch.setattr(scrub, "_REST_S", 0.1)
    cluster = make_cluster(tmp_path, checkpoint_interval=INTERVAL, window=2 * INTERVAL)
    async with running_cluster(tmp_path) as nodes, RawClient(tmp_path, cluster) as client:
        await client.register()
        await fill(client, 2 * INTERVAL)
        await until(lambda: agree(nodes) and all(node.scrubber.passes for node in nodes))
        assert [node.scrubber.found for node in nodes] == [0] * 4
        held = nodes[2]._state._store.application
        key = application_key(stored_key(b"k3"))
        sound = held._data[key]
        held._data[key] = sound[:-1] + bytes([sound[-1] ^ 1])
        await until(lambda: nodes[2].counters.divergences == 1 and not nodes[2].core.repairing)
        assert held._data[key] == sound
        assert nodes[2].scrubber.found == 1
        await fill(client, 2 * INTERVAL)
        await until(lambda: agree(nodes))


async def test_a_replica_that_goes_wrong_again_stops_and_says_so(tmp_path, monkeypatch):
    cluster = make_cluster(tmp_path, checkpoint_interval=INTERVAL, window=2 * INTERVAL)
    async with (
        running(replica_config(tmp_path, 0)),
        running(replica_config(tmp_path, 1)),
        running(replica_config(tmp_path, 2)),
        RawClient(tmp_path, cluster) as client,
    ):
        await client.register()
        flaky = Node(replica_config(tmp_path, 3))
        flaky.bind()

        class Flaky(KeyValue):
            def apply(self, ctx, operation):
                ctx.store.put(b"hidden input", ctx.seq.to_bytes(8))
                return super().apply(ctx, operation)

        monkeypatch.setattr(flaky._state, "_service", Flaky())

        async def load():
            while True:
                await fill(client, INTERVAL)

        loading = asyncio.ensure_future(load())
        try:
            with pytest.raises(ExceptionGroup) as caught:
                await asyncio.wait_for(flaky.run(), TIMEOUT_S)
        finally:
            loading.cancel()
            await flaky.close()
        assert caught.group_contains(DivergedError, match="soon after it was repaired.*not deterministic")
        assert flaky.counters.divergences == 1
        assert (await client.call(encode_get(b"k1")))[0].endswith(b"v1")


async def test_a_bit_that_flips_in_the_saved_state_on_disk_is_found_and_written_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(snapshots, "_SCRUB_EVERY_S", 0.2)
    monkeypatch.setattr(snapshots, "_SCRUB_SHARE", 0.0)
    cluster = make_cluster(tmp_path, checkpoint_interval=INTERVAL, window=2 * INTERVAL)
    value = b"found by nobody else" * 3
    async with running_cluster(tmp_path) as nodes, RawClient(tmp_path, cluster) as client:
        await client.register()
        await client.call(encode_put(b"key", value))
        await fill(client, 3 * INTERVAL)
        await until(lambda: agree(nodes) and nodes[2].saved_seq >= INTERVAL and nodes[2].scrubs["saved"] > 1)
        assert [node.scrubs["saved_damaged"] for node in nodes] == [0] * 4
        file = replica_config(tmp_path, 2).data / "state" / "data.mdb"
        with structlog.testing.capture_logs() as said:
            content = file.read_bytes()
            with file.open("r+b") as disk:
                for found in re.finditer(value, content):
                    disk.seek(found.end() - 1)
                    disk.write(b"D")
            await until(lambda: any(line["event"] == "the saved state was written anew" for line in said))
        assert nodes[2].scrubs["saved_damaged"] == 1
        await fill(client, 3 * INTERVAL)
        await until(lambda: agree(nodes))
        session, number = client.session, client.number
    async with running_cluster(tmp_path) as nodes, RawClient(tmp_path, cluster) as client:
        client.session, client.number = session, number
        await client.call(encode_put(b"more", b"1"))
        await until(lambda: agree(nodes))
        assert (await client.call(encode_get(b"key")))[0].endswith(value)
