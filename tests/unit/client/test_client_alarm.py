"""The client's one alarm, on the event loop that a fast program uses."""

import asyncio
from types import SimpleNamespace

import uvloop

from bft.client.client import Client


def test_an_alarm_that_is_already_due_can_be_set_again_under_uvloop() -> None:
    """uvloop's `call_at` with a time in the past returns a handle that cannot tell its time.

    Found by the benchmark: the link that was being read closed on it, reconnected, and closed again until calls timed
    out.
    """

    async def arm_twice() -> int:
        loop = asyncio.get_running_loop()
        client = object.__new__(Client)
        due: list[float] = []
        client._loop = loop
        client._alarm = None
        client._alarm_at = 0.0
        client._dispatcher = SimpleNamespace(next_deadline=loop.time() - 1.0, on_deadline=due.append)  # type: ignore[assignment]
        client._now = loop.time  # type: ignore[method-assign]
        client._arm()
        client._arm()
        client._dispatcher.next_deadline = float("inf")  # type: ignore[misc]
        await asyncio.sleep(0.01)
        return len(due)

    assert uvloop.run(arm_twice()) == 1
