"""Dialling peers that do not behave."""

import asyncio

from bft.config import load_replica
from bft.net.inbox import Inbox
from crypto import tls
from tests.integration.harness import make_cluster
from tests.integration.rude_server import rude_server
from tests.unit.net.test_link import peer_network


async def test_a_peer_that_resets_after_its_handshake_does_not_end_the_dialling(tmp_path):
    cluster = make_cluster(tmp_path)
    config = load_replica(tmp_path / "replica-1", {})
    context = tls.server_context(certificate=config.certificate, key=config.key, ca=cluster.ca)
    dialer = peer_network(tmp_path, 0, Inbox(lambda: None)).dialers[1]
    with rude_server(cluster.replicas[1].peer, context) as server:
        dialling = asyncio.create_task(dialer.run())
        try:
            async with asyncio.timeout(10):
                while server.connections < 12 and not dialling.done():
                    dialer.hurry()
                    await asyncio.sleep(0.01)
            assert not dialling.done()
        finally:
            dialling.cancel()
            await asyncio.gather(dialling, return_exceptions=True)


async def test_it_ends_when_it_is_cancelled_in_the_very_moment_in_which_the_peer_dials_us(tmp_path):
    """`asyncio.wait_for` of Python 3.11 swallowed this cancellation, and the replica never stopped."""
    make_cluster(tmp_path)
    dialer = peer_network(tmp_path, 0, Inbox(lambda: None)).dialers[1]
    dialer._pause_s = 100.0  # once it was refused
    dialling = asyncio.create_task(dialer.run())
    await asyncio.sleep(0.5)
    dialer.hurry()
    dialling.cancel()
    done, _ = await asyncio.wait([dialling], timeout=5)
    assert done == {dialling}
