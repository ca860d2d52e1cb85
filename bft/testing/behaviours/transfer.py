"""What a faulty replica shows to laggards: batches, bodies, state and certificates that are wrong, late or too many."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from bft.core.effects import Broadcast, Effect, Send
from bft.core.messages import (
    NULL_DIGEST,
    Batch,
    Batches,
    Bodies,
    CertifiedBatch,
    Checkpoint,
    CheckpointCertificate,
    Commit,
    PeerMessage,
    Seq,
    StableCheckpoint,
    StateChunk,
    Status,
)
from bft.testing.behaviours.base import Behaviour, BehaviourContext, own_statement, receivers
from bft.testing.behaviours.links import Delay
from bft.testing.behaviours.view_change import wrong

_AHEAD = 1  # claimed in STATUS, so that it is asked


class _Source(Behaviour):
    """Claims to be ahead, so that it is asked; subclasses answer."""

    def alter(self, effect: Send | Broadcast, context: BehaviourContext) -> Iterable[Effect]:
        message = effect.message
        if isinstance(message, Status):
            lie: PeerMessage | None = replace(message, last_executed=message.last_executed + _AHEAD)
        elif isinstance(message, Batches | Bodies | StateChunk):
            lie = self.reply_to_fetch(message, context)
        else:
            return (effect,)
        return [] if lie is None else [Send(target, lie) for target in receivers(effect, context)]

    def reply_to_fetch(self, answer: Batches | Bodies | StateChunk, context: BehaviourContext) -> PeerMessage | None:
        raise NotImplementedError


class WrongTransfer(_Source):
    """Answers with batches, bodies and tree nodes that are not what was asked for."""

    def reply_to_fetch(self, answer: Batches | Bodies | StateChunk, context: BehaviourContext) -> PeerMessage:
        match answer:
            case Batches():
                return Batches(tuple(replace(c, batch=_other(c.batch)) for c in answer.batches))
            case Bodies():
                return Bodies(tuple(_other(batch) for batch in answer.batches))
            case StateChunk():
                return replace(answer, nodes=tuple((path, wrong(node)) for path, node in answer.nodes))


class StalledTransfer(_Source):
    """Never answers."""

    def reply_to_fetch(self, answer: Batches | Bodies | StateChunk, context: BehaviourContext) -> None:
        return None


class DrippedTransfer(Delay):
    """Answers with one item at a time, each just before it would be given up."""

    def __init__(self, percent: int) -> None:
        super().__init__(0)
        self._percent = percent

    def delays(self, effect: Effect) -> bool:
        return isinstance(effect, Send) and isinstance(effect.message, Batches | Bodies | StateChunk)

    def delay_ns(self, context: BehaviourContext) -> int:
        return context.parameters.transfer_timeout_ns * self._percent // 100

    def transform(self, effects: list[Effect], context: BehaviourContext) -> list[Effect]:
        return super().transform([_dripped(effect) for effect in effects], context)


class OvercountedTransfer(_Source):
    """Answers with everything that it has, again and again in one message, asked for or not."""

    def __init__(self, times: int) -> None:
        self._times = times

    def reply_to_fetch(self, answer: Batches | Bodies | StateChunk, context: BehaviourContext) -> PeerMessage:
        match answer:
            case Batches():
                return Batches(answer.batches * self._times)
            case Bodies():
                return Bodies(answer.batches * self._times)
            case StateChunk():
                return replace(answer, nodes=answer.nodes * self._times)


class HeightBack(_Source):
    """Answers with what it showed first, below where the laggard stands; its STATUS and checkpoints go back, too."""

    def __init__(self) -> None:
        self._first: dict[type, PeerMessage] = {}

    def alter(self, effect: Send | Broadcast, context: BehaviourContext) -> Iterable[Effect]:
        if not isinstance(effect.message, StableCheckpoint):
            return super().alter(effect, context)
        old = self._first.setdefault(StableCheckpoint, effect.message)
        return [Send(target, old) for target in receivers(effect, context)]

    def reply_to_fetch(self, answer: Batches | Bodies | StateChunk, context: BehaviourContext) -> PeerMessage:
        if isinstance(answer, Batches) and not answer.batches:
            return self._first.get(Batches, answer)
        return self._first.setdefault(type(answer), answer)


class ForgedCertificates(Behaviour):
    """Fills certificates with its own vote, again and again: committed batches and stable checkpoints that are none.

    It claims to be ahead, so that it is asked.
    """

    _last_seq: Seq = 0

    def alter(self, effect: Send | Broadcast, context: BehaviourContext) -> Iterable[Effect]:
        message = effect.message
        if isinstance(message, Status):
            ahead = replace(message, last_executed=message.last_executed + _AHEAD)
            stable = _forged_stable(message.stable, context)
            return (replace(effect, message=ahead), replace(effect, message=StableCheckpoint(stable)))
        if isinstance(message, Batches):
            after = message.batches[-1].seq if message.batches else self._last_seq
            forged = _forged_commit(after + 1, context)
            return (replace(effect, message=Batches((*message.batches, forged))),)
        commit: Commit | None = own_statement(message, context, Commit)
        if commit is not None:
            self._last_seq = commit.seq
        return (effect,)


def _other(batch: Batch) -> Batch:
    return replace(batch, time_ns=batch.time_ns + 1)


def _dripped(effect: Effect) -> Effect:
    if not isinstance(effect, Send):
        return effect
    match effect.message:
        case Batches(batches):
            return Send(effect.to, Batches(batches[:1]))
        case Bodies(batches):
            return Send(effect.to, Bodies(batches[:1]))
        case StateChunk(seq, nodes):
            return Send(effect.to, StateChunk(seq, nodes[:1]))
        case _:
            return effect


def _forged_stable(above: Seq, context: BehaviourContext) -> CheckpointCertificate:
    interval = context.parameters.checkpoint_interval
    vote = context.signer.sign(Checkpoint((above // interval + 1) * interval, wrong(NULL_DIGEST), context.id))
    return CheckpointCertificate((vote,) * context.n)


def _forged_commit(seq: Seq, context: BehaviourContext) -> CertifiedBatch:
    batch = Batch(1, ())
    vote = context.signer.sign(Commit(0, seq, batch.digest, context.id))
    return CertifiedBatch(batch, (vote,) * context.n)
