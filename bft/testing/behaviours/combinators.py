"""Behaviours made of behaviours: when, towards whom, how often, and one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from bft.core.effects import Broadcast, Effect, Send, SendReply
from bft.core.events import Event
from bft.core.messages import Batch, ReplicaId
from bft.testing.behaviours.base import Behaviour, BehaviourContext, receivers

Targets = Callable[[BehaviourContext], list[ReplicaId]]


class Together(Behaviour):
    """One behaviour after the other: each sees what the one before it lets through."""

    def __init__(self, *parts: Behaviour) -> None:
        self._parts = parts
        self.keeps_core_ignorant = all(part.keeps_core_ignorant for part in parts)

    @property
    def wake_ns(self) -> int | None:  # type: ignore[override]  # computed here, a plain field elsewhere
        return min((part.wake_ns for part in self._parts if part.wake_ns is not None), default=None)

    def pull(self) -> None:
        for part in self._parts:
            pull_trigger(part)

    def hear(self, event: Event, context: BehaviourContext) -> Iterable[Event]:
        events = [event]
        for part in self._parts:
            events = [heard for each in events for heard in part.hear(each, context)]
        return events

    def propose(self, batch: Batch, context: BehaviourContext) -> Batch:
        for part in self._parts:
            batch = part.propose(batch, context)
        return batch

    def transform(self, effects: list[Effect], context: BehaviourContext) -> list[Effect]:
        for part in self._parts:
            effects = part.transform(effects, context)
        return effects

    def answer(self, operation: bytes, result: bytes) -> bytes:
        for part in self._parts:
            result = part.answer(operation, result)
        return result


class Gate(Behaviour):
    """The inner behaviour while the gate is open; while it is shut, the replica is correct."""

    def __init__(self, inner: Behaviour) -> None:
        self._inner = inner
        self.keeps_core_ignorant = inner.keeps_core_ignorant
        self._open = False
        self._opens_ns: int | None = None  # known beforehand, of a gate that time opens

    def is_open(self, context: BehaviourContext) -> bool:
        """Asked once for each face that the replica shows; with a clock that only runs forward."""
        raise NotImplementedError

    @property
    def wake_ns(self) -> int | None:  # type: ignore[override]  # computed here, a plain field elsewhere
        return self._inner.wake_ns if self._open else self._opens_ns

    def pull(self) -> None:
        pull_trigger(self._inner)

    def _look(self, context: BehaviourContext) -> bool:
        self._open = self.is_open(context)
        return self._open

    def hear(self, event: Event, context: BehaviourContext) -> Iterable[Event]:
        return self._inner.hear(event, context) if self._look(context) else (event,)

    def propose(self, batch: Batch, context: BehaviourContext) -> Batch:
        return self._inner.propose(batch, context) if self._look(context) else batch

    def transform(self, effects: list[Effect], context: BehaviourContext) -> list[Effect]:
        return self._inner.transform(effects, context) if self._look(context) else effects

    def answer(self, operation: bytes, result: bytes) -> bytes:
        return self._inner.answer(operation, result) if self._open else result


class After(Gate):
    """Correct for the first `delay_ns`, counted from its first step."""

    def __init__(self, delay_ns: int, inner: Behaviour) -> None:
        super().__init__(inner)
        self._delay_ns = delay_ns

    def is_open(self, context: BehaviourContext) -> bool:
        if self._opens_ns is None:
            self._opens_ns = context.now_ns + self._delay_ns
        return context.now_ns >= self._opens_ns


class Until(Gate):
    """Correct from `delay_ns` on, counted from its first step."""

    def __init__(self, delay_ns: int, inner: Behaviour) -> None:
        super().__init__(inner)
        self._delay_ns = delay_ns
        self._ends_ns: int | None = None

    def is_open(self, context: BehaviourContext) -> bool:
        if self._ends_ns is None:
            self._ends_ns = context.now_ns + self._delay_ns
        return context.now_ns < self._ends_ns


class InView(Gate):
    """Faulty only while its own core is in one of these views."""

    def __init__(self, views: tuple[range, ...], inner: Behaviour) -> None:
        super().__init__(inner)
        self._views = views

    def is_open(self, context: BehaviourContext) -> bool:
        return any(context.view in views for views in self._views)


class WithProbability(Gate):
    """Faulty with this chance in each step, else correct."""

    def __init__(self, chance: float, inner: Behaviour) -> None:
        super().__init__(inner)
        self._chance = chance

    def is_open(self, context: BehaviourContext) -> bool:
        return context.random.random() < self._chance

    @property
    def wake_ns(self) -> int | None:  # type: ignore[override]  # computed here, a plain field elsewhere
        return self._inner.wake_ns  # what it waits for comes, whatever this step's draw was


class OnSignal(Gate):
    """Correct until the host pulls the trigger, and again when it pulls it a second time; see `pull_trigger`."""

    _pulled = False

    def pull(self) -> None:
        self._pulled = not self._pulled

    def is_open(self, context: BehaviourContext) -> bool:
        return self._pulled


class OnlyTo(Behaviour):
    """Faulty towards these replicas (and clients, if so said); all others are told what a correct replica says."""

    def __init__(self, targets: Targets, inner: Behaviour, *, clients: bool = False) -> None:
        self._targets = targets
        self._clients = clients
        self._inner = inner
        self.keeps_core_ignorant = inner.keeps_core_ignorant

    @property
    def wake_ns(self) -> int | None:  # type: ignore[override]  # computed here, a plain field elsewhere
        return self._inner.wake_ns

    def pull(self) -> None:
        pull_trigger(self._inner)

    def hear(self, event: Event, context: BehaviourContext) -> Iterable[Event]:
        return self._inner.hear(event, context)

    def propose(self, batch: Batch, context: BehaviourContext) -> Batch:
        return self._inner.propose(batch, context)

    def transform(self, effects: list[Effect], context: BehaviourContext) -> list[Effect]:
        targets = self._targets(context)
        told = [part for effect in self._inner.transform(effects, context) for part in _apart(effect, context)]
        honest = [part for effect in effects for part in _apart(effect, context)]
        return [effect for effect in told if self._is_for(effect, targets, otherwise=True)] + [
            effect for effect in honest if not self._is_for(effect, targets, otherwise=True)
        ]

    def _is_for(self, effect: Effect, targets: list[ReplicaId], *, otherwise: bool) -> bool:
        if isinstance(effect, Send):
            return effect.to in targets
        return self._clients if isinstance(effect, SendReply) else otherwise

    def answer(self, operation: bytes, result: bytes) -> bytes:
        return self._inner.answer(operation, result) if self._clients else result


def _apart(effect: Effect, context: BehaviourContext) -> list[Effect]:
    if not isinstance(effect, Broadcast):
        return [effect]
    return [Send(target, effect.message) for target in receivers(effect, context)]


def pull_trigger(behaviour: Behaviour) -> None:
    """Open, or shut again, every gate of the behaviour that waits for a signal."""
    if isinstance(behaviour, Together | Gate | OnlyTo):
        behaviour.pull()


# --- the combinators, as they are written


def after(delay_ns: int, behaviour: Behaviour) -> Behaviour:
    """Correct until then."""
    return After(delay_ns, behaviour)


def until(delay_ns: int, behaviour: Behaviour) -> Behaviour:
    """Correct from then on."""
    return Until(delay_ns, behaviour)


def then(first: Behaviour, delay_ns: int, second: Behaviour) -> Behaviour:
    """The first for `delay_ns`, and the second from then on."""
    return Together(Until(delay_ns, first), After(delay_ns, second))


def in_view(views: tuple[range, ...], behaviour: Behaviour) -> Behaviour:
    """Correct in all other views."""
    return InView(views, behaviour)


def with_probability(chance: float, behaviour: Behaviour) -> Behaviour:
    """Correct in all but this share of the steps."""
    return WithProbability(chance, behaviour)


def only_to(targets: Targets, behaviour: Behaviour, *, clients: bool = False) -> Behaviour:
    """Correct towards all others."""
    return OnlyTo(targets, behaviour, clients=clients)


def on_signal(behaviour: Behaviour) -> Behaviour:
    """Correct until `pull_trigger`."""
    return OnSignal(behaviour)
