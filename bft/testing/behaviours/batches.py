"""What a faulty primary puts into its batches.

Its own core proposes what comes back, and takes part as for any other batch: so what is harmless stays in order, and
what is not is left to the backups to refuse.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace

from bft.core.effects import Effect, Executed
from bft.core.messages import Authenticated, Batch, Request
from bft.testing.behaviours.base import SECOND, Behaviour, BehaviourContext

Requests = tuple[Authenticated[Request], ...]


class Stuffed(Behaviour):
    """Each batch holds something other than the requests that wait."""

    def __init__(self, stuff: Callable[[Requests, BehaviourContext], Requests]) -> None:
        self._stuff = stuff

    def propose(self, batch: Batch, context: BehaviourContext) -> Batch:
        return replace(batch, requests=self._stuff(batch.requests, context))


class Replayed(Behaviour):
    """Each batch begins with requests that were executed long ago."""

    def __init__(self, count: int) -> None:
        self._old: deque[Authenticated[Request]] = deque(maxlen=count)

    def transform(self, effects: list[Effect], context: BehaviourContext) -> list[Effect]:
        for effect in effects:
            if isinstance(effect, Executed):
                self._old.extend(effect.batch.requests)
        return effects

    def propose(self, batch: Batch, context: BehaviourContext) -> Batch:
        room = context.parameters.batch_requests_max - len(batch.requests)
        new = set(batch.requests)
        old = [request for request in self._old if request not in new]
        return replace(batch, requests=(*old[:room], *batch.requests))


class WrongClock(Behaviour):
    """Its proposals carry a time that its clock never showed."""

    def __init__(self, offset_ns: int) -> None:
        self._offset_ns = offset_ns

    def propose(self, batch: Batch, context: BehaviourContext) -> Batch:
        return replace(batch, time_ns=max(1, batch.time_ns + self._offset_ns))


def unsigned_requests() -> Behaviour:
    """The client's signature is nothing."""
    return Stuffed(lambda requests, _: tuple(Authenticated(r.message, r.payload, bytes(64)) for r in requests))


def malformed_requests() -> Behaviour:
    """What should be a request's bytes is none."""
    return Stuffed(lambda requests, _: tuple(Authenticated(r.message, b"\xc1" * 40, r.signature) for r in requests))


def duplicate_requests() -> Behaviour:
    """Every request twice, as far as a batch may hold so many."""
    return Stuffed(lambda requests, context: (requests + requests)[: context.parameters.batch_requests_max])


def oversized_batch() -> Behaviour:
    """One request more than a batch may hold."""
    return Stuffed(lambda requests, context: requests[:1] * (context.parameters.batch_requests_max + 1))


def empty_batch() -> Behaviour:
    """Sequence numbers for nothing."""
    return Stuffed(lambda *_: ())


def clock_ahead(s: int = 3600) -> Behaviour:
    """Its clock shows a time to come."""
    return WrongClock(s * SECOND)


def clock_behind(s: int = 3600) -> Behaviour:
    """Its clock shows a time long past."""
    return WrongClock(-s * SECOND)
