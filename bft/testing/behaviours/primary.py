"""What a faulty primary does with its right to order: two stories, other sequence numbers, late ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from bft.core.effects import Broadcast, Effect, Send
from bft.core.events import ClientRequest, Event, Received, Tick
from bft.core.messages import (
    Authenticated,
    Batch,
    ClientKey,
    Proposal,
    ReplicaId,
    Request,
    RequestKind,
    Seq,
)
from bft.testing.behaviours.base import Behaviour, BehaviourContext, receivers, tell
from bft.testing.behaviours.links import Delay


def own_proposal(effect: Send | Broadcast, context: BehaviourContext) -> Proposal | None:
    """The proposal, if the effect sends one of our own that orders something."""
    proposal = effect.message
    if not isinstance(proposal, Proposal) or proposal.header.message.replica != context.id:
        return None
    return proposal if proposal.batch.requests else None


def other_proposal(proposal: Proposal, batch: Batch, context: BehaviourContext) -> Proposal:
    """Another batch under the same (view, seq), properly signed."""
    return Proposal(context.signer.sign(replace(proposal.header.message, digest=batch.digest)), batch)


class Equivocate(Behaviour):
    """Some backups get another batch under the same (view, seq), properly signed."""

    def __init__(self, story: Callable[[ReplicaId, BehaviourContext], int]) -> None:
        self._story = story  # which one a backup is told; 0 is the true one

    def alter(self, effect: Send | Broadcast, context: BehaviourContext) -> Iterable[Effect]:
        proposal = own_proposal(effect, context)
        if proposal is None:
            return (effect,)
        honest = proposal

        def told(target: ReplicaId) -> Proposal:
            number = self._story(target, context)
            if not number:
                return honest
            return other_proposal(honest, replace(honest.batch, time_ns=honest.batch.time_ns + number), context)

        return tell(effect, told, context)


class BodySwap(Behaviour):
    """One header for all, but half of the others get a body that is not its own."""

    def alter(self, effect: Send | Broadcast, context: BehaviourContext) -> Iterable[Effect]:
        proposal = own_proposal(effect, context)
        if proposal is None:
            return (effect,)
        honest = proposal
        other = Proposal(honest.header, replace(honest.batch, time_ns=honest.batch.time_ns + 1))
        half = context.second_half
        return tell(effect, lambda target: other if target in half else honest, context)


class SlowPrimary(Delay):
    """Its proposals are late, each by a share of the request time-out: just early enough to stay primary."""

    def __init__(self, percent: int) -> None:
        super().__init__(0)
        self._percent = percent

    def delays(self, effect: Effect) -> bool:
        return isinstance(effect, Send | Broadcast) and isinstance(effect.message, Proposal)

    def delay_ns(self, context: BehaviourContext) -> int:
        return context.parameters.request_timeout_ns * self._percent // 100


class OtherSeqs(Behaviour):
    """Proposes its batches at sequence numbers that are not the next ones."""

    def __init__(self, seq: Callable[[Seq, BehaviourContext], Seq]) -> None:
        self._seq = seq

    def alter(self, effect: Send | Broadcast, context: BehaviourContext) -> Iterable[Effect]:
        proposal = own_proposal(effect, context)
        if proposal is None:
            return (effect,)
        honest = proposal.header.message
        header = context.signer.sign(replace(honest, seq=self._seq(honest.seq, context)))
        return [Send(target, Proposal(header, proposal.batch)) for target in receivers(effect, context)]


class _Clients(Behaviour):
    """Tells clients apart by the order in which they were first heard."""

    def __init__(self, client: int) -> None:
        self._index = client
        self._seen: list[ClientKey] = []

    def is_of_the_one(self, event: Event) -> bool | None:
        """Whether the event is a request of the client with the chosen number; None: no request at all."""
        request = _request_of(event)
        if request is None:
            return None
        client = request.client
        if client not in self._seen and len(self._seen) <= self._index:
            self._seen.append(client)
        return self._seen.index(client) == self._index if client in self._seen else False


class Censor(_Clients):
    """Proposes nothing of one client, as if it never heard of it; registrations pass, so that there is a victim."""

    def hear(self, event: Event, context: BehaviourContext) -> Iterable[Event]:
        request = _request_of(event)
        if request is None or request.kind is RequestKind.REGISTER:
            return (event,)
        return () if self.is_of_the_one(event) else (event,)


class Favour(_Clients):
    """Proposes one client's requests at once, all others' only after a share of the request time-out."""

    def __init__(self, client: int, percent: int) -> None:
        super().__init__(client)
        self._percent = percent
        self._waiting: list[tuple[int, Event]] = []

    def hear(self, event: Event, context: BehaviourContext) -> Iterable[Event]:
        due = [held for at_ns, held in self._waiting if at_ns <= context.now_ns]
        self._waiting = self._waiting[len(due) :]
        if self.is_of_the_one(event) is False and len(self._waiting) < 1000:
            delay_ns = context.parameters.request_timeout_ns * self._percent // 100
            self._waiting.append((context.now_ns + delay_ns, event))
            event = Tick()
        self.wake_ns = self._waiting[0][0] if self._waiting else None
        return (*due, event)


def _request_of(event: Event) -> Request | None:
    match event:
        case ClientRequest(request):
            return request.message
        case Received(_, Authenticated(message=Request() as relayed)):
            return relayed
        case _:
            return None


def jump_to_high() -> Behaviour:
    """Each proposal at the high watermark: everything below it is a gap."""
    return OtherSeqs(lambda _, context: context.stable + context.parameters.window)


def beyond_watermarks(by: int = 1) -> Behaviour:
    """Each proposal further up than anybody may listen."""
    return OtherSeqs(lambda seq, context: seq + context.parameters.window + by)


def below_watermarks() -> Behaviour:
    """Each proposal where everything is settled."""
    return OtherSeqs(lambda _, context: context.stable)


def sequence_gap(gap: int = 1) -> Behaviour:
    """Each proposal further on than its turn."""
    return OtherSeqs(lambda seq, _: seq + gap)
