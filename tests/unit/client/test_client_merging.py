"""Watches: events that f+1 replicas vouch for, in order, none left out, whatever f of them say."""

import random

import pytest

from bft.client.merging import EventMerger
from bft.core.quorum import Quorums
from bft.statemachine.kv import Entry, Event, EventKind, Events


def put(revision: int, key: bytes = b"k", value: bytes = b"v") -> Event:
    return Event(revision, EventKind.PUT, key, Entry(value, revision, revision, 1))


def answer(*events: Event, following: int) -> Events:
    return Events(events, following, expiring=False)


def merger(since: int = 1, n: int = 4) -> EventMerger:
    return EventMerger(Quorums.of(n), since)


def test_an_event_is_believed_when_two_of_four_replicas_say_that_it_comes_next():
    merging = merger()
    assert merging.add(0, 1, answer(put(5), following=9)) == []
    assert merging.add(2, 1, answer(put(5), put(7), following=8)) == [put(5)]
    assert merging.add(1, 1, answer(put(5), put(7), following=8)) == [put(7)]
    assert merging.position == 8


def test_a_replica_alone_injects_nothing():
    merging = merger()
    lie = put(3, value=b"lie")
    assert merging.add(0, 1, answer(lie, following=9)) == []
    assert merging.add(1, 1, answer(put(5), following=6)) == []
    assert merging.add(2, 1, answer(put(5), following=6)) == [put(5)]
    assert merging.wants(0)


def test_an_event_with_another_content_is_another_event():
    merging = merger()
    merging.add(0, 1, answer(put(5, value=b"lie"), following=6))
    assert merging.add(1, 1, answer(put(5), following=6)) == []
    assert merging.add(2, 1, answer(put(5), following=6)) == [put(5)]


def test_a_replica_alone_hides_nothing():
    merging = merger()
    assert merging.add(0, 1, answer(following=1000)) == []
    assert merging.add(1, 1, answer(put(5), following=6)) == []
    assert merging.add(2, 1, answer(put(5), following=6)) == [put(5)]


def test_part_of_what_one_operation_changed_is_not_believed():
    merging = merger()
    merging.add(0, 1, answer(put(5, b"a"), following=6))
    both = (put(5, b"a"), put(5, b"b"))
    merging.add(1, 1, answer(*both, following=6))
    assert merging.add(2, 1, answer(*both, following=6)) == list(both)


def test_where_nothing_happens_the_position_follows_what_two_replicas_say():
    merging = merger()
    merging.add(0, 1, answer(following=10**18))
    assert merging.position == 1
    merging.add(1, 1, answer(following=40))
    assert merging.position == 40
    merging.add(2, 1, answer(put(50), following=60))
    assert merging.position == 50
    assert merging.ask(1) == 50


def test_no_more_than_one_answer_of_a_replica_is_held():
    merging = merger()
    merging.add(0, 1, answer(put(5), following=6))
    assert not merging.wants(0)
    assert merging.wants(1)


def test_an_old_answer_adds_nothing():
    merging = merger()
    for replica in (0, 1):
        merging.add(replica, 1, answer(put(5), following=6))
    assert merging.add(2, 1, answer(put(5), following=6)) == []
    assert merging.wants(2)


@pytest.mark.parametrize(
    "wrong",
    [answer(put(5), put(4), following=6), answer(put(5), put(6), put(5), following=7), answer(put(6), following=6),
     answer(put(2), following=6), answer(following=2)],
)  # fmt: skip
def test_what_no_correct_replica_answers_is_refused(wrong):
    merging = merger(3)
    with pytest.raises(ValueError, match=r"event|backwards"):
        merging.add(0, 3, wrong)
    assert merging.wants(0)


def test_that_events_are_gone_is_believed_of_three_of_four():
    merging = merger()
    for replica, oldest in ((0, 10**9), (1, 40)):
        merging.forgotten(replica, 1, oldest)
        assert merging.compacted is None
    merging.forgotten(2, 1, 41)
    assert merging.compacted == 41


def test_what_was_said_of_an_earlier_position_is_not_said_of_this_one():
    merging = merger()
    merging.forgotten(0, 1, 40)
    merging.forgotten(1, 1, 40)
    for replica in (2, 3):
        merging.add(replica, 1, answer(put(5), following=6))
    merging.forgotten(2, 1, 40)
    assert merging.compacted is None


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("n", [4, 6, 7])
def test_whatever_f_replicas_say_what_comes_out_is_the_history_and_it_comes_out(seed, n):
    rng = random.Random(seed)
    revisions = sorted(rng.sample(range(1, 400), 60))
    history = [put(revision, b"%d" % part) for revision in revisions for part in range(rng.choice((1, 1, 2)))]
    end = 400
    quorums = Quorums.of(n)
    liars = set(rng.sample(range(n), quorums.f))
    merging = EventMerger(quorums, 1)
    believed: list[Event] = []
    for _ in range(4000):
        replica = rng.randrange(n)
        if not merging.wants(replica):
            continue
        since = merging.ask(replica)
        following = max(since, min(end, since + rng.randrange(1, 60)))
        events = [event for event in history if since <= event.revision < following]
        if replica in liars and events:
            match rng.randrange(4):
                case 0:
                    events = events[1:]
                case 1:
                    events = [put(event.revision, event.key, b"lie") for event in events]
                case 2:
                    following = 10**6
                case _:
                    events = [put(since, b"lie"), *(event for event in events if event.revision > since)]
        believed += merging.add(replica, since, Events(tuple(events), following, expiring=False))
    assert believed == history
