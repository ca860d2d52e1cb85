"""What the client does, step by step, without sockets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bft.client.errors import ClientClosed, NotAuthorised, ResultLost
from bft.core.messages import Authenticated, ReplyStatus, Request, RequestKind
from bft.errors import ApplicationError, Overloaded, SessionLost, Timeout
from bft.statemachine.results import encode_error, encode_ok
from tests.unit.client.world import CERTIFICATE, SESSION, Waiter, World, signed_request


def operations(world: World) -> list[list[bytes]]:
    return [list(request.message.operations) for request in world.take()]


# --- sessions


def test_a_session_is_opened_with_the_certificate_and_a_fresh_nonce():
    world = World()
    world.dispatcher.flush(world.now)
    (request,) = world.take()
    assert (request.message.session, request.message.number, request.message.kind) == (0, 1000, RequestKind.REGISTER)
    assert request.message.operations == (CERTIFICATE,)


def test_calls_made_before_the_session_is_open_go_out_once_it_is():
    world = World()
    waiters = world.submit(b"a", b"b")
    world.register()
    (request,) = world.take()
    assert (request.message.session, request.message.number) == (SESSION, 1)
    assert list(request.message.operations) == [b"a", b"b"]
    world.answer(request, replicas=(1, 2))
    assert [w.answer.value for w in waiters] == [b"result of a", b"result of b"]


def test_a_refused_certificate_fails_every_call():
    world = World()
    (early,) = world.submit(b"a")
    opened = Waiter()
    world.dispatcher.when_registered(opened)
    (request,) = world.take()
    world.answer(request, status=ReplyStatus.REFUSED, results=(b"expired",), replicas=(0, 1))
    (late,) = world.submit(b"b")
    for waiter in (early, opened, late):
        assert isinstance(waiter.error, NotAuthorised)
        assert "expired" in str(waiter.error)
    assert world.take() == []


def test_one_liar_cannot_have_a_certificate_refused():
    world = World()
    world.submit(b"a")
    (request,) = world.take()
    world.answer(request, status=ReplyStatus.REFUSED, results=(b"no",), replicas=(3,))
    world.answer(request, results=(SESSION.to_bytes(8, "big"),), replicas=(0, 1))
    assert world.dispatcher.session == SESSION


def test_a_forgotten_session_fails_what_was_under_way_and_opens_another_for_the_rest():
    world = World.registered(bundles_max=1)
    (sent,) = world.submit(b"a")
    (waiting,) = world.submit(b"b")
    (request,) = world.take()
    world.answer(request, status=ReplyStatus.UNKNOWN_SESSION, replicas=(0, 3))
    assert isinstance(sent.error, SessionLost)
    assert not waiting.done()
    world.register(session=8)
    (again,) = world.take()
    assert (again.message.session, again.message.number, again.message.operations) == (8, 1, (b"b",))


def test_one_liar_cannot_end_a_session():
    world = World.registered()
    (waiter,) = world.submit(b"a")
    (request,) = world.take()
    world.answer(request, status=ReplyStatus.UNKNOWN_SESSION, replicas=(3,))
    assert not waiter.done()
    world.answer(request, replicas=(0, 1))
    assert waiter.answer.value == b"result of a"


def test_a_registration_whose_result_is_gone_is_made_anew():
    world = World()
    world.dispatcher.flush(world.now)
    (first,) = world.take()
    world.answer(first, status=ReplyStatus.RESULT_DISCARDED, replicas=(0, 1))
    (second,) = world.take()
    assert second.message.number != first.message.number


# --- coalescing


def test_a_lone_call_goes_out_at_once():
    world = World.registered()
    world.submit(b"a")
    assert operations(world) == [[b"a"]]


def test_concurrent_calls_become_one_bundle():
    world = World.registered()
    world.submit(*(b"%d" % i for i in range(64)))
    assert [len(bundle) for bundle in operations(world)] == [64]


def test_calls_made_while_bundles_are_under_way_gather_into_the_next():
    world = World.registered(bundles_max=2)
    for operation in (b"a", b"b", b"c", b"d"):
        world.submit(operation)
    first, second = world.take()
    assert (first.message.operations, second.message.operations) == ((b"a",), (b"b",))
    world.answer(second, replicas=(0, 1))
    assert operations(world) == [[b"c", b"d"]]


def test_numbers_stay_within_the_session_window():
    world = World.registered(session_window=3, bundles_max=8)
    for operation in (b"a", b"b", b"c", b"d"):
        world.submit(operation)
    requests = world.take()
    assert [request.message.number for request in requests] == [1, 2, 3]
    world.answer(requests[1], replicas=(0, 1))
    assert world.take() == []
    world.answer(requests[0], replicas=(0, 1))
    (next_request,) = world.take()
    assert (next_request.message.number, next_request.message.acked) == (4, 2)


# --- results


def test_each_caller_gets_the_result_of_its_own_operation():
    world = World.registered()
    good, bad, broken = world.submit(b"a", b"b", b"c")
    (request,) = world.take()
    world.answer(request, results=(encode_ok(b"1"), encode_error("no", "not today"), b"?"), replicas=(1, 3), seq=9)
    assert (good.answer.value, good.answer.seq) == (b"1", 9)
    assert isinstance(bad.error, ApplicationError)
    assert (bad.error.code, str(bad.error)) == ("no", "not today")
    assert isinstance(broken.error, ApplicationError)


def test_a_result_that_the_replicas_discarded_is_reported_as_lost():
    world = World.registered()
    (waiter,) = world.submit(b"a")
    world.answer(world.take()[0], status=ReplyStatus.RESULT_DISCARDED, replicas=(0, 1))
    assert isinstance(waiter.error, ResultLost)


def test_operations_that_the_replicas_left_out_are_submitted_again():
    world = World.registered()
    first, second, third = world.submit(b"a", b"b", b"c")
    (request,) = world.take()
    world.answer(request, results=(encode_ok(b"large"),), replicas=(0, 1))
    assert first.answer.value == b"large"
    (rest,) = world.take()
    assert (rest.message.number, rest.message.operations) == (2, (b"b", b"c"))
    world.answer(rest, replicas=(0, 1))
    assert (second.answer.value, third.answer.value) == (b"result of b", b"result of c")


def test_operations_that_were_left_out_did_not_execute_if_they_then_time_out():
    world = World.registered()
    _, left_out = world.submit(b"a", b"b", timeout=5)
    (request,) = world.take()
    world.links.down = {0, 1, 2, 3}
    world.answer(request, results=(encode_ok(b"large"),), replicas=(0, 1))
    world.pass_time(5)
    assert not left_out.ambiguous


def test_replies_to_nothing_under_way_are_dropped():
    world = World.registered()
    world.answer(signed_request(b"never sent", number=1), replicas=range(4))
    (waiter,) = world.submit(b"a")
    (request,) = world.take()
    world.answer(request, replicas=(0, 1))
    world.answer(request, results=(encode_ok(b"late"),), replicas=(2, 3))
    assert waiter.answer.value == b"result of a"
    assert world.dispatcher.in_flight == 0


# --- retransmission and the primary


def test_the_first_copy_goes_to_the_primary_alone_and_later_ones_to_all():
    world = World.registered()
    world.submit(b"a", timeout=100)
    assert world.receivers() == [0]
    world.pass_time(1.5)
    assert sorted(world.receivers()) == [0, 1, 2, 3]


def test_retransmissions_become_rarer():
    world = World.registered()
    world.submit(b"a", timeout=1000)
    world.receivers()
    counts = []
    for _ in range(3):
        world.pass_time(8)
        counts.append(len(world.receivers()))
    assert counts[0] > counts[1] == counts[2] > 0


def test_when_the_primary_cannot_be_reached_the_first_copy_goes_to_the_others():
    world = World.registered()
    world.links.down = {0}
    world.submit(b"a")
    assert world.receivers() == [1, 2, 3]


def test_the_client_follows_f_plus_one_replicas_to_the_new_primary():
    world = World.registered()
    (waiter,) = world.submit(b"a")
    (request,) = world.take()
    world.answer(request, replicas=(1, 2), view=5)
    assert waiter.result is not None
    world.submit(b"b")
    assert world.receivers() == [1]


def test_one_liar_does_not_move_the_client_to_another_primary():
    world = World.registered()
    world.submit(b"a")
    (request,) = world.take()
    world.answer(request, replicas=(3,), view=999)
    world.answer(request, replicas=(1, 2))
    world.submit(b"b")
    assert world.receivers() == [0]


def test_what_is_under_way_is_sent_to_a_new_primary_as_soon_as_it_is_known():
    world = World.registered()
    world.submit(b"a")
    world.submit(b"b")
    first, _ = world.take()
    world.answer(first, replicas=(2, 3), view=1)
    assert world.receivers().count(1) >= 1


def test_a_replica_that_comes_back_is_sent_what_is_overdue():
    world = World.registered()
    world.links.down = {0, 3}
    world.submit(b"a", timeout=100)
    world.receivers()
    world.links.down = {3}
    world.dispatcher.on_link_up(0, world.now)
    assert world.receivers() == [0]


def test_when_the_link_to_the_primary_breaks_the_others_are_asked_at_once_and_once():
    world = World.registered()
    world.submit(b"a", timeout=100)
    world.receivers()
    world.links.down = {0}
    world.dispatcher.on_link_down(0, world.now)
    world.dispatcher.on_link_down(0, world.now)
    assert world.receivers() == [1, 2, 3]


def test_a_broken_link_to_a_backup_changes_nothing():
    world = World.registered()
    world.submit(b"a", timeout=100)
    world.receivers()
    world.links.down = {2}
    world.dispatcher.on_link_down(2, world.now)
    assert world.receivers() == []


# --- time-outs


def test_a_call_that_was_never_sent_times_out_unambiguously():
    world = World.registered()
    world.links.down = {0, 1, 2}
    (waiter,) = world.submit(b"a", timeout=5)
    world.pass_time(5)
    assert isinstance(waiter.error, Timeout)
    assert not waiter.ambiguous
    world.links.down = set()
    world.dispatcher.on_link_up(0, world.now)
    world.pass_time(60)
    assert world.take() == []


def test_a_call_that_was_sent_times_out_ambiguously():
    world = World.registered()
    (waiter,) = world.submit(b"a", timeout=5)
    world.pass_time(4.9)
    assert not waiter.done()
    world.pass_time(0.1)
    assert isinstance(waiter.error, Timeout)
    assert waiter.ambiguous


def test_a_call_that_gathered_behind_unanswered_bundles_times_out_unambiguously():
    world = World.registered(bundles_max=1)
    world.submit(b"a", timeout=100)
    (waiter,) = world.submit(b"b", timeout=5)
    world.pass_time(5)
    assert isinstance(waiter.error, Timeout)
    assert not waiter.ambiguous


def test_each_call_of_a_bundle_has_its_own_time_out():
    world = World.registered()
    (short,) = world.submit(b"a", timeout=3, flush=False)
    (long,) = world.submit(b"b", timeout=6)
    (request,) = world.take()
    world.pass_time(4)
    assert isinstance(short.error, Timeout)
    assert not long.done()
    world.answer(request, replicas=(0, 1))
    assert long.answer.value == b"result of b"


def test_a_request_that_nobody_awaits_any_more_is_sent_until_it_is_answered():
    world = World.registered()
    (waiter,) = world.submit(b"a", timeout=100)
    waiter.cancelled = True
    (request,) = world.take()
    world.pass_time(20)
    assert world.take() == [request]
    world.answer(request, replicas=(0, 1))
    assert world.dispatcher.in_flight == 0


@given(st.lists(st.tuples(st.sampled_from(["submit", "cancel", "answer", "wait"]), st.integers(0, 5)), max_size=40))
def test_whatever_is_cancelled_every_number_is_sent_and_none_is_skipped(steps):
    world = World.registered(bundles_max=2, session_window=3)
    waiters: list[Waiter] = []
    sent: dict[int, Authenticated[Request]] = {}
    answered: set[int] = set()
    for step, which in steps:
        match step:
            case "submit":
                waiters += world.submit(*(b"%d" % i for i in range(which)), timeout=1000, flush=which % 2 == 0)
            case "cancel" if which < len(waiters) and not waiters[which].done():
                waiters[which].cancelled = True
            case "answer" if open_ := sorted(set(sent) - answered):
                number = open_[which % len(open_)]
                world.answer(sent[number], replicas=(0, 1))
                answered.add(number)
            case "wait":
                world.pass_time(which)
        for request in world.take():
            known = sent.setdefault(request.message.number, request)
            assert known.digest == request.digest
        assert sorted(sent) == list(range(1, len(sent) + 1))
        contiguous = next(number for number in range(len(sent) + 2) if number + 1 not in answered)
        assert len(sent) <= contiguous + 3
        assert len(sent) - len(answered) <= 2


# --- overload


def test_a_call_behind_overloaded_replicas_fails_as_overloaded_and_was_not_sent():
    world = World.registered(bundles_max=1)
    (sent,) = world.submit(b"a", timeout=5)
    (waiting,) = world.submit(b"b", timeout=5)
    world.refuse(world.take()[0], replicas=(0, 2))
    world.pass_time(5)
    assert isinstance(waiting.error, Overloaded)
    assert isinstance(sent.error, Timeout)
    assert sent.ambiguous
    assert "overloaded" in str(sent.error)


def test_a_refused_request_is_sent_again_later_and_may_succeed():
    world = World.registered()
    (waiter,) = world.submit(b"a", timeout=100)
    (request,) = world.take()
    world.refuse(request, replicas=range(4))
    world.pass_time(10)
    assert world.take() == [request]
    world.answer(request, replicas=(0, 1))
    assert waiter.result is not None


@pytest.mark.parametrize(("replicas", "reason"), [((3, 3, 3), "overloaded"), ((0, 1, 2), "something else")])
def test_neither_one_liar_nor_another_reason_makes_an_overload(replicas, reason):
    world = World.registered(bundles_max=1)
    world.submit(b"a", timeout=5)
    (waiting,) = world.submit(b"b", timeout=5)
    world.refuse(world.take()[0], replicas=replicas, reason=reason)
    world.pass_time(5)
    assert isinstance(waiting.error, Timeout)


# --- closing


def test_closing_fails_every_call_and_says_which_may_have_executed():
    world = World.registered(bundles_max=1)
    (sent,) = world.submit(b"a")
    (waiting,) = world.submit(b"b")
    world.dispatcher.close(lambda ambiguous: ClientClosed("closed", ambiguous=ambiguous))
    (late,) = world.submit(b"c")
    assert [type(w.error) for w in (sent, waiting, late)] == [ClientClosed] * 3
    assert [w.ambiguous for w in (sent, waiting, late)] == [True, False, False]
