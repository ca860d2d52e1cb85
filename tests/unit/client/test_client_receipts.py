"""`result.receipt`: made of the replies that a client saw, of late ones too, for as long as somebody holds a result."""

import gc

import pytest

from bft.client.errors import NoReceipt
from bft.client.result import Result
from bft.core.messages import Authenticated, Request
from bft.errors import ExitCode
from bft.statemachine.results import Ok
from tests.unit.client.world import Waiter, World, outcome_of
from tests.unit.receipts import CLUSTER, badly_signed, signed_reply


def asked(*operations: bytes) -> tuple[World, list[Waiter], Authenticated[Request]]:
    world = World.registered()
    waiters = world.submit(*operations)
    (request,) = world.take()
    return world, waiters, request


def reply(world: World, request: Authenticated[Request], replica: int, *, bad: bool = False) -> None:
    answer = signed_reply(outcome_of(request), replica)
    world.dispatcher.on_reply(replica, badly_signed(answer) if bad else answer, world.now)


def test_each_result_of_a_bundle_has_its_own_receipt():
    world, waiters, request = asked(b"a", b"b")
    for replica in (3, 1):
        reply(world, request, replica)
    for waiter, operation in zip(waiters, (b"a", b"b"), strict=True):
        proven = waiter.answer.receipt.verify(CLUSTER)
        assert (proven.operation, proven.result) == (operation, Ok(waiter.answer.value))
        assert proven.signers == (1, 3)


def test_a_badly_signed_reply_counts_for_the_result_but_not_for_the_receipt():
    world, (waiter,), request = asked(b"a")
    reply(world, request, 0)
    reply(world, request, 1, bad=True)
    with pytest.raises(NoReceipt, match="of the 2 replies that agree on the result fewer than 2 are well signed") as no:
        _ = waiter.answer.receipt
    assert no.value.exit_code == ExitCode.VERIFICATION


@pytest.mark.parametrize("late", [2, 1], ids=["another replica", "the same replica, now well"])
def test_late_replies_make_up_for_a_badly_signed_one(late):
    world, (waiter,), request = asked(b"a")
    reply(world, request, 0)
    reply(world, request, 1, bad=True)
    reply(world, request, late)
    assert waiter.answer.receipt.verify(CLUSTER).signers == (0, late)


def test_a_late_reply_in_the_name_of_another_or_with_another_outcome_is_no_help():
    world, (waiter,), request = asked(b"a")
    reply(world, request, 0)
    reply(world, request, 1, bad=True)
    world.dispatcher.on_reply(1, signed_reply(outcome_of(request), 2), world.now)
    world.dispatcher.on_reply(2, signed_reply(outcome_of(request, seq=6), 2), world.now)
    with pytest.raises(NoReceipt):
        _ = waiter.answer.receipt


def test_replies_are_forgotten_with_the_last_result_of_their_bundle():
    world, waiters, request = asked(b"a", b"b")
    for replica in (0, 1):
        reply(world, request, replica)
    results = [waiter.answer for waiter in waiters]
    waiters.clear()
    assert len(world.dispatcher._proofs) == 1
    del results[0]
    gc.collect()
    assert len(world.dispatcher._proofs) == 1
    results.clear()
    gc.collect()
    assert len(world.dispatcher._proofs) == 0


def test_a_result_made_by_hand_has_no_receipt():
    with pytest.raises(NoReceipt):
        _ = Result(b"value", 1).receipt


def test_a_result_shows_what_it_is_and_not_the_replies():
    world, (waiter,), request = asked(b"a")
    for replica in (0, 1):
        reply(world, request, replica)
    assert repr(waiter.answer) == "Result(value=b'result of a', seq=5)"
