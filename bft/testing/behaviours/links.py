"""Behaviours that say nothing wrong, but too late, too often, to too few, or not at all."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from bft.core.effects import Broadcast, Effect, Send, SendReply
from bft.core.messages import Authenticated, Commit, PeerMessage, Prepare, Status
from bft.testing.behaviours.base import MS, Behaviour, BehaviourContext, own_statement, receivers


class Silent(Behaviour):
    """Sends nothing, to peers or clients."""

    def alter(self, effect: Send | Broadcast, context: BehaviourContext) -> Iterable[Effect]:
        return ()

    def alter_reply(self, effect: SendReply, context: BehaviourContext) -> Iterable[Effect]:
        return ()


class DropTo(Behaviour):
    """Never sends to the given number of the others (the last ones)."""

    def __init__(self, count: Callable[[BehaviourContext], int]) -> None:
        self._count = count

    def alter(self, effect: Send | Broadcast, context: BehaviourContext) -> Iterable[Effect]:
        reached = context.others[: context.n - 1 - self._count(context)]
        return [Send(target, effect.message) for target in receivers(effect, context) if target in reached]


class Delay(Behaviour):
    """Sends everything, but later."""

    def __init__(self, delay_ns: int) -> None:
        self._delay_ns = delay_ns
        self._held: deque[tuple[int, Effect]] = deque()

    def delays(self, effect: Effect) -> bool:
        """Whether this one is late."""
        return isinstance(effect, Send | Broadcast | SendReply)

    def delay_ns(self, context: BehaviourContext) -> int:
        return self._delay_ns

    def transform(self, effects: list[Effect], context: BehaviourContext) -> list[Effect]:
        out: list[Effect] = []
        while self._held and self._held[0][0] <= context.now_ns:
            out.append(self._held.popleft()[1])
        for effect in effects:
            if self.delays(effect):
                self._held.append((context.now_ns + self.delay_ns(context), effect))
            else:
                out.append(effect)
        self.wake_ns = self._held[0][0] if self._held else None
        return out


class Replay(Behaviour):
    """Sends old messages again, to anybody."""

    def __init__(self, chance: float = 0.3, kept: int = 200) -> None:
        self._chance = chance
        self._old: deque[PeerMessage] = deque(maxlen=kept)

    def alter(self, effect: Send | Broadcast, context: BehaviourContext) -> Iterable[Effect]:
        self._old.append(effect.message)
        if context.random.random() >= self._chance:
            return (effect,)
        return (effect, Send(context.random.choice(context.others), context.random.choice(self._old)))


class Flood(Behaviour):
    """Every `every_ns`, says everything that it said lately so often to everybody."""

    def __init__(self, every_ns: int, times: int) -> None:
        self._every_ns = every_ns
        self._times = times
        self._next_ns = 0
        self._lately: deque[PeerMessage] = deque(maxlen=8)

    def transform(self, effects: list[Effect], context: BehaviourContext) -> list[Effect]:
        out = list(effects)
        self._lately.extend(effect.message for effect in effects if isinstance(effect, Send | Broadcast))
        if context.now_ns >= self._next_ns:
            self._next_ns = context.now_ns + self._every_ns
            out += [Broadcast(message) for message in self._lately for _ in range(self._times)]
        self.wake_ns = self._next_ns
        return out


class GarbageSignatures(Behaviour):
    """Its statements are well-formed, their signatures are not."""

    def alter(self, effect: Send | Broadcast, context: BehaviourContext) -> Iterable[Effect]:
        message = effect.message
        if not isinstance(message, Authenticated):
            return (effect,)
        garbage: Any = Authenticated(message.message, message.payload, bytes(64))
        return [Send(target, garbage) for target in receivers(effect, context)]


class Stale(Behaviour):
    """Claims for ever to stand where it stood first, and leaves retransmission to others."""

    def __init__(self) -> None:
        self._first: Status | None = None

    def alter(self, effect: Send | Broadcast, context: BehaviourContext) -> Iterable[Effect]:
        if not isinstance(effect.message, Status):
            return (effect,)
        self._first = self._first or effect.message
        return [Send(target, self._first) for target in receivers(effect, context)]


class ShowAndHide(Behaviour):
    """Its votes, and the certificates they complete, reach one laggard only; after a while nothing reaches anybody."""

    def __init__(self, shown_ns: int) -> None:
        self._shown_ns = shown_ns
        self._ends_ns: int | None = None

    def alter(self, effect: Send | Broadcast, context: BehaviourContext) -> Iterable[Effect]:
        if self._ends_ns is None:
            self._ends_ns = context.now_ns + self._shown_ns
        if context.now_ns >= self._ends_ns:
            return ()
        vote = own_statement(effect.message, context, Prepare) or own_statement(effect.message, context, Commit)
        if vote is None:
            return (effect,)
        return [Send(target, effect.message) for target in receivers(effect, context) if target == context.others[-1]]


def delay(ms: int = 300) -> Behaviour:
    """Everything, so much later."""
    return Delay(ms * MS)
