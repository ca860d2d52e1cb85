"""The client believes what f+1 replicas say, and nothing that f liars say."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bft.client.collector import ReplyCollector, ViewTracker
from bft.core.messages import ReplyStatus
from bft.core.quorum import Quorums
from bft.statemachine.results import encode_ok
from tests.unit.client.world import outcome_of, reply_of, signed_request

REQUEST = signed_request(b"op")
TRUE = outcome_of(REQUEST)
FALSE = (
    replace(TRUE, results=(encode_ok(b"lie"),)),
    replace(TRUE, seq=TRUE.seq + 1),
    replace(TRUE, status=ReplyStatus.UNKNOWN_SESSION, results=()),
)


@given(data=st.data(), n=st.sampled_from([4, 5, 6, 7, 10, 13]))
def test_no_outcome_of_f_liars_is_accepted_whatever_they_say_in_whatever_order(data, n):
    quorums = Quorums.of(n)
    replicas = data.draw(st.permutations(range(n)))
    liars, honest = replicas[: quorums.f], replicas[quorums.f :]
    said = st.tuples(st.sampled_from(liars or [0]), st.sampled_from((TRUE, *FALSE)))
    lies = data.draw(st.lists(said, max_size=30)) if liars else []
    events = data.draw(st.permutations([*lies, *((replica, TRUE) for replica in honest)]))
    collector = ReplyCollector(REQUEST, quorums)
    accepted = [a for sender, outcome in events if (a := collector.add(sender, reply_of(outcome, sender)))]
    assert {a.outcome for a in accepted} == {TRUE}


@pytest.mark.parametrize("n", [4, 5, 6, 7, 10, 13])
def test_the_outcome_is_accepted_with_the_vote_of_replica_f_plus_one_and_not_before(n):
    quorums = Quorums.of(n)
    collector = ReplyCollector(REQUEST, quorums)
    votes = [collector.add(replica, reply_of(TRUE, replica)) for replica in range(quorums.weak)]
    assert votes[:-1] == [None] * quorums.f
    accepted = votes[-1]
    assert accepted is not None
    assert sorted(reply.result.message.replica for reply in accepted.replies) == list(range(quorums.weak))


def test_a_replica_has_one_vote_however_often_it_speaks():
    collector = ReplyCollector(REQUEST, Quorums.of(4))
    assert [collector.add(2, reply_of(TRUE, 2)) for _ in range(10)] == [None] * 10


def test_a_replica_does_not_vote_in_the_name_of_another():
    collector = ReplyCollector(REQUEST, Quorums.of(4))
    collector.add(0, reply_of(TRUE, 0))
    assert collector.add(0, reply_of(TRUE, 1)) is None
    assert collector.add(-1, reply_of(TRUE, -1)) is None
    assert collector.add(4, reply_of(TRUE, 4)) is None


@pytest.mark.parametrize(
    "other",
    [
        replace(TRUE, request_digest=b"x" * 32),
        replace(TRUE, number=2),
        replace(TRUE, session=8),
        replace(TRUE, client=b"x" * 32),
        replace(TRUE, results=()),  # of an executed request there is at least one
        replace(TRUE, results=(*TRUE.results, b"\0")),
    ],
)
def test_an_outcome_of_something_else_is_no_vote(other):
    collector = ReplyCollector(REQUEST, Quorums.of(4))
    assert [collector.add(replica, reply_of(other, replica)) for replica in range(4)] == [None] * 4


def test_a_replica_that_saw_a_request_ordered_twice_votes_for_what_it_says_last():
    first, second = (replace(FALSE[2], seq=seq) for seq in (5, 6))
    collector = ReplyCollector(REQUEST, Quorums.of(4))
    collector.add(0, reply_of(first, 0))
    collector.add(0, reply_of(second, 0))
    assert collector.add(1, reply_of(first, 1)) is None
    assert collector.add(2, reply_of(second, 2)) is not None


@given(data=st.data(), n=st.sampled_from([4, 7, 10]))
def test_f_liars_steer_the_view_neither_above_nor_below_what_a_correct_replica_reached(data, n):
    quorums = Quorums.of(n)
    views = ViewTracker(quorums)
    for liar in range(quorums.f):
        views.report(liar, data.draw(st.integers(0, 2**64 - 1)))
    assert views.view == 0
    reached = data.draw(st.lists(st.integers(0, 50), min_size=n - quorums.f, max_size=n - quorums.f))
    for replica, view in enumerate(reached, start=quorums.f):
        views.report(replica, view)
    assert sorted(reached, reverse=True)[quorums.f] <= views.view <= max(reached)


def test_the_primary_follows_the_view():
    views = ViewTracker(Quorums.of(4))
    assert not views.report(1, 6)
    assert views.report(2, 5)
    assert (views.view, views.primary) == (5, 1)
    assert not views.report(2, 3)
    assert views.view == 5
