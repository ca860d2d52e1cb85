"""Several bundles of one client in flight, against real nodes of which the primary reorders them."""

import asyncio
from contextlib import AsyncExitStack

import bft
from bft.client import ClientSettings
from bft.core.events import ClientRequest
from bft.core.messages import RequestKind
from tests.integration.harness import make_cluster, replica_config, running


def reorder(node, swapped: list[tuple[int, int]]) -> None:
    """Make the node take up a client's bundles in pairs, the later one of each first."""
    absorb = node._core.absorb
    held: list[ClientRequest] = []

    def absorb_in_pairs(event, now):
        if not isinstance(event, ClientRequest) or event.request.message.kind is not RequestKind.APPLICATION:
            return absorb(event, now)
        held.append(event)
        if len(held) < 2:
            return []
        first, second = held
        held.clear()
        swapped.append((second.request.message.number, first.request.message.number))
        return absorb(second, now) + absorb(first, now)

    node._core.absorb = absorb_in_pairs


async def test_bundles_in_flight_that_the_primary_reorders_execute_once_each(tmp_path):
    make_cluster(tmp_path, durability="memory")
    settings = ClientSettings(bundles_max=4, bundle_operations_max=1)
    swapped: list[tuple[int, int]] = []
    async with AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(running(replica_config(tmp_path, i))) for i in range(4)]
        client = bft.connect(tmp_path, identity="test", timeout=60, settings=settings)
        await stack.enter_async_context(client)
        reorder(nodes[0], swapped)
        calls = [asyncio.ensure_future(client.put(b"%02d" % number, b"v")) for number in range(40)]
        revisions = await asyncio.gather(*calls)
        del nodes[0]._core.absorb  # a lone bundle has no other to wait for
        assert any(later > earlier for later, earlier in swapped)
        assert revisions != sorted(revisions)
        entries = [entry async for _, entry in client.scan()]
        assert [entry.mod_revision for entry in entries] == revisions
        assert {entry.version for entry in entries} == {1}
        assert client.status().view == 0
