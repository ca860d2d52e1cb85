"""A replicated counter: the whole service, and a client of it."""

import bft
from bft.statemachine import Context, StateMachine


class Counter(StateMachine):
    """Adds the number that an operation names; answers with the new total."""

    def apply(self, ctx: Context, operation: bytes) -> bytes:
        total = int(ctx.store.get(b"total") or b"0") + int(operation)
        ctx.store.put(b"total", b"%d" % total)
        return b"%d" % total


async def add(client: bft.Client, number: int) -> int:
    """Add, exactly once; the total after it."""
    return int((await client.call(b"%d" % number)).value)
