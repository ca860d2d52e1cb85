"""State transfer while checkpoints follow each other: from correct peers that are far away, beside one liar or dead."""

from typing import Any

import pytest

from bft.core import effects
from bft.core.messages import Checkpoint, CheckpointCertificate, FetchState, RequestKind, StableCheckpoint, StateChunk
from bft.core.parameters import MS, SECOND
from bft.statemachine.kv import encode_put
from bft.testing.symbolic import symbolic_certificate
from tests.paper.stage import CLIENT, Stage, sent
from tests.unit.core.test_review_catch_up import SESSION, order, signed

LAGGARD = 1
NEVER = 10**18


class Donor(Stage):
    """The state that correct peers serve, a new checkpoint every four batches."""

    def __init__(self) -> None:
        super().__init__(n=4, me=2)
        self.stable = CheckpointCertificate(())
        self.leased: set[int] = set()  # to whose questions something was found, so that the next is answered, too
        order(self, 1, signed(0, 1, RequestKind.REGISTER, symbolic_certificate(CLIENT)))
        for seq in (2, 3, 4):
            self._put(seq, 100)
        self._certify()

    def four_more(self) -> None:
        for seq in range(self.stable.seq + 1, self.stable.seq + 5):
            self._put(seq, 3)
        self._certify()

    def answer(self, peer: int, question: FetchState) -> StateChunk:
        """Which a correct peer gives: it lets go of a checkpoint when another is stable, but for who reads it."""
        if question.seq < self.stable.seq and peer not in self.leased:
            return StateChunk(question.seq, ())
        chunk: StateChunk = sent(self.receive(peer, question), StateChunk)[0]
        self.leased.add(peer)
        return chunk

    def _put(self, seq: int, keys: int) -> None:
        puts = [encode_put(b"%d-%d" % (seq, i), b"v") for i in range(keys)]
        order(self, seq, signed(SESSION, seq, RequestKind.APPLICATION, *puts))

    def _certify(self) -> None:
        own = sent(self.effects, Checkpoint)[-1]
        self.stable = CheckpointCertificate(
            tuple(self.checkpoint(r, seq=own.seq, root=own.root) for r in range(4) if r != LAGGARD)
        )
        self.receive(0, StableCheckpoint(self.stable))


def catches_up(faulty: int, behaviour: str, *, round_trip: int, every: int = NEVER, nodes: int) -> bool:
    """Within a minute, one peer being faulty and a checkpoint following the other ``every`` so many nanoseconds."""
    donor, laggard = Donor(), Stage(n=4, me=LAGGARD, transfer_nodes_max=nodes)
    on_the_way: list[tuple[int, int, Any]] = []  # when it arrives, the peer's number, what

    def sends(happened: list[Any]) -> None:
        for effect in happened:
            if not (isinstance(effect, effects.Send) and isinstance(effect.message, FetchState)):
                continue
            if effect.to != faulty:
                on_the_way.append((laggard.now.monotonic_ns + round_trip // 2, effect.to, effect.message))
            elif behaviour == "drips":
                one = StateChunk(effect.message.seq, donor.answer(faulty, effect.message).nodes[:1])
                on_the_way.append((laggard.now.monotonic_ns + 900 * MS, faulty, one))
            elif behaviour == "answers empty":
                sends(laggard.receive(faulty, StateChunk(effect.message.seq, ())))

    sends(laggard.receive(0, StableCheckpoint(donor.stable)))
    following = every
    while laggard.now.monotonic_ns < 60 * SECOND and not laggard.replica.last_executed:
        sends(laggard.wait(50 * MS))
        donor.now = laggard.now
        now = laggard.now.monotonic_ns
        if now >= following:
            following += every
            donor.four_more()
            on_the_way.append((now + round_trip // 2, 0, StableCheckpoint(donor.stable)))
        for arrival in [arrival for arrival in on_the_way if arrival[0] <= now]:
            on_the_way.remove(arrival)
            _, peer, message = arrival
            if isinstance(message, FetchState):
                on_the_way.append((now + round_trip // 2, peer, donor.answer(peer, message)))
            else:
                sends(laggard.receive(peer, message))
    return laggard.replica.last_executed > 0


@pytest.mark.parametrize("liar", [0, 3])
def test_a_liar_that_drips_is_not_asked_for_all_that_is_missing(liar: int) -> None:
    """The first in the order got every path that fitted in a question, and again after each of its answers."""
    assert catches_up(liar, "drips", round_trip=100 * MS, every=800 * MS, nodes=64)


@pytest.mark.parametrize("liar", [0, 3])
def test_a_liar_that_answers_empty_does_not_drive_us_from_each_checkpoint_to_the_next(liar: int) -> None:
    """What the correct ones were about to answer was asked for in vain, each time."""
    assert catches_up(liar, "answers empty", round_trip=200 * MS, every=800 * MS, nodes=8)


def test_checkpoints_that_follow_each_other_within_two_round_trips_are_caught_up_with_beside_a_dead_peer() -> None:
    assert catches_up(0, "is dead", round_trip=200 * MS, every=300 * MS, nodes=8)


def test_answers_that_come_when_the_next_question_is_asked_bring_what_is_still_wanted() -> None:
    assert catches_up(0, "is dead", round_trip=1900 * MS, nodes=8)
