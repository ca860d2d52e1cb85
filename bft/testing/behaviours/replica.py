"""The production core with a behaviour around it: the same in the simulator and in a replica process."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

from bft.core.effects import Broadcast, Effect, Send
from bft.core.events import Event, Instant, Received
from bft.core.messages import Authenticated, Batch, Evidence, Prepare, ReplicaId
from bft.core.parameters import Parameters
from bft.core.ports import Admission, Application, Signer
from bft.core.replica import Replica
from bft.statemachine.api import Poll, StateMachine
from bft.statemachine.replicated import ReplicatedState
from bft.testing.behaviours.base import Behaviour, BehaviourContext
from bft.testing.conspiracy import Conspiracy


class ByzantineReplica(Replica):
    """A replica whose behaviour stands between its correct core and the world.

    The core is kept from learning what would convict itself, unless the behaviour sees to that.
    """

    def __init__(
        self,
        *,
        id: ReplicaId,  # noqa: A002 - the paper's word
        parameters: Parameters,
        signer: Signer,
        admission: Admission,
        application: Application,
        behaviour: Behaviour,
        chance: random.Random,
        conspiracy: Conspiracy | None = None,
    ) -> None:
        super().__init__(id=id, parameters=parameters, signer=signer, admission=admission, application=application)
        self._behaviour = behaviour
        self._chance = chance
        self._conspiracy = conspiracy
        # an honest twin does not know that it is one
        self._hides = behaviour.keeps_core_ignorant and type(behaviour) is not Behaviour

    @property
    def next_deadline_ns(self) -> int | None:
        deadlines = (super().next_deadline_ns, self._behaviour.wake_ns)
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def step(self, event: Event, now: Instant) -> list[Effect]:
        return self._behave(super().step, event, now)

    def absorb(self, event: Event, now: Instant) -> list[Effect]:
        return self._behave(super().absorb, event, now)

    def settle(self, now: Instant) -> list[Effect]:
        return self._say(super().settle(now), now)

    def _behave(self, take: Callable[[Event, Instant], list[Effect]], event: Event, now: Instant) -> list[Effect]:
        effects: list[Effect] = []
        for heard in self._behaviour.hear(event, self._look(now)):
            if not (self._hides and self._incriminates(heard)):
                effects += take(heard, now)
        return self._say(effects, now)

    def _say(self, effects: list[Effect], now: Instant) -> list[Effect]:
        if self._hides:
            effects = self._without_confessions(effects)
        return self._behaviour.transform(effects, self._look(now))

    def _next_batch(self, proofs: tuple[Evidence, ...], now: Instant) -> Batch:
        return self._behaviour.propose(super()._next_batch(proofs, now), self._look(now))

    def _look(self, now: Instant) -> BehaviourContext:
        return BehaviourContext(
            id=self.id,
            n=self.n,
            signer=self._context.signer,
            random=self._chance,
            now_ns=now.monotonic_ns,
            parameters=self._context.parameters,
            view=self.view,
            executed=self.last_executed,
            stable=self.stable.seq,
            conspiracy=self._conspiracy,
        )

    def _incriminates(self, event: Event) -> bool:
        """Evidence against ourselves, or a header of ours that our core knows nothing of."""
        match event:
            case Received(_, Evidence() as evidence):
                return evidence.accused == self.id
            case Received(_, Authenticated(message=Prepare() as prepare)):
                header = prepare.header.message
                slot = self._ordering.log.get(header.seq)
                known = None if slot is None or slot.header is None else slot.header.message
                return header.replica == self.id and header != known
            case _:
                return False

    def _without_confessions(self, effects: Iterable[Effect]) -> list[Effect]:
        return [
            effect
            for effect in effects
            if not (
                isinstance(effect, Send | Broadcast)
                and isinstance(effect.message, Evidence)
                and effect.message.accused == self.id
            )
        ]


class ByzantineState(ReplicatedState):
    """The replicated state of a replica whose behaviour stands between it and the clients' queries."""

    def __init__(self, service: StateMachine, behaviour: Behaviour) -> None:
        super().__init__(service)
        self._behaviour = behaviour

    def query(self, operation: bytes, *, client: bytes, client_name: str) -> bytes:
        return self._behaviour.answer(operation, super().query(operation, client=client, client_name=client_name))

    def poll(self, operation: bytes, *, client: bytes, client_name: str) -> Poll:
        answer, later = super().poll(operation, client=client, client_name=client_name)
        return Poll(self._behaviour.answer(operation, answer), later)
