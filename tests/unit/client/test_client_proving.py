"""A stale read believes no replica: what does not hold, is too old or does not come is had of another."""

import asyncio
from dataclasses import replace
from itertools import count

import pytest

from bft.client.errors import NoProof
from bft.client.proving import Proofs
from bft.codec import Limits, MessageType, Proof, decode_body
from tests.unit.client.world import FRAME_HEAD_BYTES
from tests.unit.test_state_proof import CLUSTER, PROOF, TIME_NS, proof_of

AGE_S = 2.0
GOOD = PROOF.encode()
LIES = {
    "nothing": b"",
    "no proof": b"\x94",
    "another key's": proof_of(b"k8").encode(),
    "another value": replace(PROOF, nodes=proof_of(b"k8").nodes).encode(),
    "too few signers": proof_of(b"k7", 0, 1).encode(),
}


class Replicas:
    """Answers as told: bytes, or None for silence; the asking starts with replica 1."""

    def __init__(self, *answers: bytes | None) -> None:
        self.answers = answers
        self.asked: list[int] = []
        wall_ns = TIME_NS + int(AGE_S * 1e9)
        self.proofs = Proofs(CLUSTER, self, count(1), lambda: wall_ns)

    def send(self, replica: int, frame: bytes) -> None:
        question = decode_body(MessageType.PROVE, frame[FRAME_HEAD_BYTES:], Limits.of(CLUSTER.parameters)).unverified
        self.asked.append(replica)
        answer = self.answers[len(self.asked) - 1]
        if answer is not None:
            asyncio.get_running_loop().call_soon(self.proofs.on_proof, replica, Proof(question.nonce, answer))

    def is_up(self, replica: int) -> bool:
        return True

    async def prove(self, *, max_age: float | None = None):
        deadline = asyncio.get_running_loop().time() + 30
        return await self.proofs.prove(b"k7", max_age=max_age, deadline=deadline)


async def test_one_good_answer_is_enough_and_its_age_is_told():
    replicas = Replicas(GOOD)
    stored = await replicas.prove()
    assert (stored.proven.value, stored.proven.seq, stored.age_s) == (b"value 7", 128, AGE_S)
    assert replicas.asked == [1]


async def test_why_nothing_is_proven_is_said_once_for_all_who_say_the_same():
    with pytest.raises(NoProof, match=r"it: replica 0: not a proof.*; replicas 1, 2, 3: has no stable") as caught:
        await Replicas(b"", b"", b"", b"\x94").prove()
    assert str(caught.value).count("no stable checkpoint") == 1


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
async def test_a_proof_that_does_not_hold_is_had_of_another_replica(lie):
    replicas = Replicas(lie, GOOD)
    assert (await replicas.prove()).proven.value == b"value 7"
    assert replicas.asked == [1, 2]


async def test_a_silent_replica_is_left_for_the_next(monkeypatch):
    monkeypatch.setattr("bft.client.proving.ANSWER_S", 0.01)
    assert (await Replicas(None, GOOD).prove()).proven.value == b"value 7"


async def test_what_is_older_than_asked_for_is_not_taken():
    assert (await Replicas(GOOD).prove(max_age=AGE_S)).age_s == AGE_S
    with pytest.raises(NoProof, match=r"checkpoint 128 is 2\.0 s old"):
        await Replicas(GOOD, GOOD, GOOD, GOOD).prove(max_age=1.9)


async def test_when_none_helps_each_reason_is_told():
    with pytest.raises(NoProof, match=r"replica 0: .*replica 1: .*replica 2: .*replica 3: "):
        await Replicas(*list(LIES.values())[:4]).prove()


async def test_an_answer_on_another_replicas_link_is_none():
    replicas = Replicas(GOOD)
    asking = asyncio.ensure_future(replicas.prove())
    await asyncio.sleep(0)
    replicas.proofs.on_proof(2, Proof(2, b""))
    assert (await asking).proven.value == b"value 7"
