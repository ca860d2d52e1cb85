"""The writer of the saved state, apart from a node."""

import asyncio
from typing import cast

from bft.core.messages import GENESIS
from bft.node.snapshots import SnapshotWriter
from bft.statemachine.trie import MerkleTrie
from bft.storage.snapshot import SnapshotStore


async def test_it_ends_when_it_is_cancelled_in_the_very_moment_in_which_it_is_asked_to_save(tmp_path):
    """`asyncio.wait_for` of Python 3.11 swallowed this cancellation, and the replica never stopped."""
    store = cast("SnapshotStore", object())  # nothing of it is used: the state asked for is none that is certified
    writer = SnapshotWriter(store, lambda seq: None)
    running = asyncio.ensure_future(writer.run())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    writer.want(GENESIS.seq, MerkleTrie())
    running.cancel()
    done, _ = await asyncio.wait([running], timeout=5)
    assert done == {running}
    assert running.cancelled()
