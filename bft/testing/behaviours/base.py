"""What a Byzantine behaviour is: a transform of what a replica hears, proposes and sends, around its own correct core.

A behaviour holds no more than the faulty replica itself would: its own signer handle, what its own core heard and
wanted to send, and a clock.  It knows nothing of simulator or node: `ByzantineReplica` calls it in either, and calls
again with nothing to send at `wake_ns` at the latest.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from bft.core.effects import Broadcast, Effect, Send, SendReply
from bft.core.events import Event
from bft.core.messages import Authenticated, Batch, PeerMessage, ReplicaId, Seq, SignedMessage, View
from bft.core.parameters import Parameters
from bft.core.ports import Signer
from bft.testing.conspiracy import Conspiracy

MS = 1_000_000  # nanoseconds
SECOND = 1_000 * MS


@dataclass(frozen=True, slots=True)
class BehaviourContext:
    """What the faulty replica has at hand."""

    id: ReplicaId
    n: int
    signer: Signer  # its own handle, no other's
    random: random.Random
    now_ns: int  # its monotonic clock
    parameters: Parameters = field(default_factory=lambda: Parameters(n=4))
    view: View = 0  # in which its own core is
    executed: Seq = 0  # by its own core
    stable: Seq = 0  # its core's low watermark
    conspiracy: Conspiracy | None = None  # what the colluders of this run share; None: it is alone

    @property
    def f(self) -> int:
        return (self.n - 1) // 3

    @property
    def others(self) -> list[ReplicaId]:
        return [replica for replica in range(self.n) if replica != self.id]

    @property
    def second_half(self) -> list[ReplicaId]:
        """Half of the others, rounded down: the primary and the first half are a quorum or nearly so."""
        others = self.others
        return others[(len(others) + 1) // 2 :]


class Behaviour:
    """Hears, proposes and sends everything as a correct replica would; subclasses do worse."""

    wake_ns: int | None = None  # on the context's clock: call `transform` again by then
    keeps_core_ignorant: bool = True  # of what would convict it, so that the core goes on as if nothing were wrong

    def hear(self, event: Event, context: BehaviourContext) -> Iterable[Event]:
        """What its own core gets to hear in place of an event."""
        return (event,)

    def propose(self, batch: Batch, context: BehaviourContext) -> Batch:
        """What its own core proposes, as primary, in place of a batch."""
        return batch

    def transform(self, effects: list[Effect], context: BehaviourContext) -> list[Effect]:
        """What the replica does instead of `effects`."""
        out: list[Effect] = []
        for effect in effects:
            if isinstance(effect, Send | Broadcast):
                out.extend(self.alter(effect, context))
            elif isinstance(effect, SendReply):
                out.extend(self.alter_reply(effect, context))
            else:
                out.append(effect)
        return out

    def alter(self, effect: Send | Broadcast, context: BehaviourContext) -> Iterable[Effect]:
        """What leaves in place of one send to peers."""
        return (effect,)

    def alter_reply(self, effect: SendReply, context: BehaviourContext) -> Iterable[Effect]:
        """What leaves in place of one reply."""
        return (effect,)

    def answer(self, operation: bytes, result: bytes) -> bytes:
        """What a client's query gets in place of its result."""
        return result


def own_statement(message: PeerMessage, context: BehaviourContext, kind: type[SignedMessage]) -> Any:
    """The statement if the message is the replica's own of this type, else None."""
    if not isinstance(message, Authenticated) or not isinstance(message.message, kind):
        return None
    statement: Any = message.message
    return statement if statement.replica == context.id else None


def receivers(effect: Send | Broadcast, context: BehaviourContext) -> list[ReplicaId]:
    """To whom the effect would go."""
    return [effect.to] if isinstance(effect, Send) else context.others


def tell(
    effect: Send | Broadcast, story: Callable[[ReplicaId], PeerMessage], context: BehaviourContext
) -> list[Effect]:
    """Send each receiver of `effect` its own story."""
    return [Send(target, story(target)) for target in receivers(effect, context)]
