"""What a Byzantine behaviour is: a transform of what a replica sends, between its core and the network.

A behaviour holds no more than the faulty replica itself would: its own signer handle, what its own core wanted to send,
and a clock.  It knows nothing of simulator or node; either hands it the effects of each step and carries out what comes
back, and calls again with nothing at `wake_ns` at the latest.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from bft.core.effects import Broadcast, Effect, Send, SendReply
from bft.core.messages import Authenticated, PeerMessage, ReplicaId, SignedMessage
from bft.core.ports import Signer
from bft.testing.conspiracy import Conspiracy

MS = 1_000_000  # nanoseconds


@dataclass(frozen=True, slots=True)
class BehaviourContext:
    """What the faulty replica has at hand."""

    id: ReplicaId
    n: int
    signer: Signer  # its own handle, no other's
    random: random.Random
    now_ns: int  # its monotonic clock
    conspiracy: Conspiracy | None = None  # what the colluders of this run share; None: it is alone

    @property
    def others(self) -> list[ReplicaId]:
        return [replica for replica in range(self.n) if replica != self.id]

    @property
    def second_half(self) -> list[ReplicaId]:
        """Half of the others, rounded down: the primary and the first half are a quorum or nearly so."""
        others = self.others
        return others[(len(others) + 1) // 2 :]


class Behaviour:
    """Sends everything as a correct replica would; subclasses do worse."""

    wake_ns: int | None = None  # on the context's clock: call `transform` again by then

    def transform(self, effects: list[Effect], context: BehaviourContext) -> list[Effect]:
        """What the replica does instead of `effects`."""
        out: list[Effect] = []
        for effect in effects:
            if isinstance(effect, Send | Broadcast | SendReply):
                out.extend(self.alter(effect, context))
            else:
                out.append(effect)
        return out

    def alter(self, effect: Send | Broadcast | SendReply, context: BehaviourContext) -> Iterable[Effect]:
        """What leaves in place of one send."""
        return (effect,)


class Composed(Behaviour):
    """One behaviour after the other: each sees what the one before it lets out."""

    def __init__(self, parts: list[Behaviour]) -> None:
        self._parts = parts

    @property
    def wake_ns(self) -> int | None:  # type: ignore[override]  # computed here, a plain field elsewhere
        return min((part.wake_ns for part in self._parts if part.wake_ns is not None), default=None)

    def transform(self, effects: list[Effect], context: BehaviourContext) -> list[Effect]:
        for part in self._parts:
            effects = part.transform(effects, context)
        return effects


def own_statement(message: PeerMessage, context: BehaviourContext, kind: type[SignedMessage]) -> Any:
    """The statement if the message is the replica's own of this type, else None."""
    if not isinstance(message, Authenticated) or not isinstance(message.message, kind):
        return None
    statement: Any = message.message
    return statement if statement.replica == context.id else None


def tell(
    effect: Send | Broadcast, story: Callable[[ReplicaId], PeerMessage], context: BehaviourContext
) -> list[Effect]:
    """Send each receiver of `effect` its own story."""
    targets = [effect.to] if isinstance(effect, Send) else context.others
    return [Send(target, story(target)) for target in targets]
