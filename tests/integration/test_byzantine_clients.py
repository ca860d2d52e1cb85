"""The simulator's Byzantine clients against nodes in this process, over real TLS and with real signatures."""

import asyncio
import random
import time
from dataclasses import replace

import pytest

from bft.codec import encode_frame
from bft.core.messages import Authenticated, Request
from bft.statemachine.kv import encode_put
from bft.testing.byzantine_clients import NAMES, ClientContext, parse
from tests.integration.harness import RawClient, add_client, make_cluster, running_cluster

STRIKES = 3


def context_of(mallory: RawClient, heard: list[Authenticated[Request]]) -> ClientContext:
    def forge(request: Request) -> Authenticated[Request]:
        return replace(mallory.signer.sign(request), signature=bytes(64))

    return ClientContext(
        key=mallory.key.public.raw,
        certificate=mallory.certificate,
        n=4,
        signer=mallory.signer,
        forge=forge,
        random=random.Random(1),
        time_ns=time.time_ns(),
        session=mallory.session,
        number=mallory.number + 1,
        heard=heard,
    )


async def strike(mallory: RawClient, name: str, heard: list[Authenticated[Request]]) -> None:
    """Sends what a strike consists of; a replica that has had enough closes the link, and is dialled again."""
    behaviour = parse(name)
    for _ in range(STRIKES):
        closed = [replica for replica, writer in mallory.writers.items() if writer.is_closing()]
        await mallory.connect(closed)
        for replica, request in behaviour.strike(context_of(mallory, heard)):
            mallory.writers[replica].write(encode_frame(request))
        mallory.number += behaviour.numbers
        await asyncio.sleep(0.02)


@pytest.mark.timeout(120)
async def test_no_behaviour_of_a_client_stops_another_or_deposes_the_primary(tmp_path):
    """A correct client's calls go on during each, nobody leaves view 0, and no table outgrows its limit."""
    cluster = make_cluster(tmp_path, durability="os")
    add_client(tmp_path, "mallory")
    async with (
        running_cluster(tmp_path) as nodes,
        RawClient(tmp_path, cluster) as alice,
        RawClient(tmp_path, cluster, "mallory") as mallory,
    ):
        await alice.register()
        await mallory.register()
        heard: list[Authenticated[Request]] = []
        for name in NAMES:
            attack = asyncio.ensure_future(strike(mallory, name, heard))
            heard.append(alice.signer.sign(alice.request(encode_put(b"key", name.encode()))))
            await alice.submit(heard[-1].message)
            await attack
        await alice.call(encode_put(b"key", b"last"))
        assert [node.core.view for node in nodes] == [0] * 4
        limits = cluster.parameters
        for sizes in (node.core.sizes for node in nodes):
            assert sizes["pending"] <= limits.pending_requests_max
            assert sizes["sessions"] <= limits.sessions_per_client_max + 1
