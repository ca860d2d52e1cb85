"""What the behaviours do to outgoing effects, without any cluster."""

import random
from typing import Any

import pytest

from bft.core.effects import Broadcast, Persist, Send, Stable
from bft.core.messages import GENESIS, Batch, Commit, FetchBatches, PrePrepare, Proposal, Request, RequestKind
from bft.testing.byzantine import MS, NAMES, SWARM, BehaviourContext, parse
from bft.testing.symbolic import ClientSigner, Registry, SymbolicSigner

CLIENT = b"c" * 32


@pytest.fixture
def registry():
    return Registry(4)


def context(registry, me=0, now_ns=0):
    return BehaviourContext(id=me, n=4, signer=SymbolicSigner(registry, me), random=random.Random(0), now_ns=now_ns)


def proposal(registry):
    request = ClientSigner(registry, CLIENT).sign(Request(CLIENT, 1, 1, 0, RequestKind.APPLICATION, (b"x",)))
    batch = Batch(7, (request,))
    return Proposal(SymbolicSigner(registry, 0).sign(PrePrepare(0, 1, batch.digest, 0)), batch)


@pytest.mark.parametrize("text", SWARM)
def test_every_behaviour_leaves_what_goes_to_the_disk_alone(registry, text):
    persist = Persist(Stable(GENESIS))
    assert persist in parse(text).transform([persist], context(registry))


@pytest.mark.parametrize("text", ["equivocate_split", "equivocate_one"])
def test_an_equivocator_tells_two_stories_both_of_which_it_signed(registry, text):
    sent: list[Any] = parse(text).transform([Broadcast(proposal(registry))], context(registry))
    stories = {effect.message.header.message.digest for effect in sent}
    assert sorted(effect.to for effect in sent) == [1, 2, 3]
    assert len(stories) == 2
    assert all(registry.accepts(effect.message) for effect in sent)
    assert all(effect.message.batch.digest == effect.message.header.message.digest for effect in sent)


def test_one_backup_is_told_the_other_story_by_equivocate_one(registry):
    honest = proposal(registry)
    sent: list[Any] = parse("equivocate_one").transform([Broadcast(honest)], context(registry))
    assert [effect.to for effect in sent if effect.message != honest] == [3]


def test_a_silent_replica_sends_nothing(registry):
    assert parse("silent").transform([Broadcast(FetchBatches(0))], context(registry)) == []


def test_misbehaviour_may_begin_later(registry):
    behaviour = parse("after(5ms, silent)")
    effect = Broadcast(FetchBatches(0))
    assert behaviour.transform([effect], context(registry, now_ns=100)) == [effect]
    assert behaviour.transform([effect], context(registry, now_ns=100 + 5 * MS)) == []


def test_a_delayed_message_leaves_when_its_time_has_come(registry):
    behaviour = parse("delay:ms=5")
    effect = Broadcast(FetchBatches(0))
    assert behaviour.transform([effect], context(registry, now_ns=0)) == []
    assert behaviour.wake_ns == 5 * MS
    assert behaviour.transform([], context(registry, now_ns=5 * MS)) == [effect]
    assert behaviour.wake_ns is None


def test_drop_to_reaches_all_but_the_last(registry):
    sent: list[Any] = parse("drop_to:targets=2").transform([Broadcast(FetchBatches(0))], context(registry))
    assert sent == [Send(1, FetchBatches(0))]


def test_split_votes_conflict_and_are_signed(registry):
    vote = SymbolicSigner(registry, 1).sign(Commit(0, 1, b"d" * 32, 1))
    sent: list[Any] = parse("equivocate_votes").transform([Broadcast(vote)], context(registry, me=1))
    assert len({effect.message.message.digest for effect in sent}) == 2
    assert all(registry.is_genuine(effect.message) for effect in sent)


def test_what_it_relays_for_others_is_not_forged(registry):
    vote = SymbolicSigner(registry, 2).sign(Commit(0, 1, b"d" * 32, 2))
    assert parse("wrong_digest").transform([Broadcast(vote)], context(registry, me=1)) == [Broadcast(vote)]


def test_joined_behaviours_act_one_after_the_other(registry):
    sent: list[Any] = parse("equivocate_one+drop_to").transform([Broadcast(proposal(registry))], context(registry))
    assert [effect.to for effect in sent] == [1, 2]


def test_every_name_is_a_behaviour():
    assert all(parse(name) is not parse(name) for name in NAMES)
