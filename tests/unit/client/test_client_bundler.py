"""What goes into one bundle."""

import math

from bft.client.bundler import OPERATION_OVERHEAD_BYTES, REQUEST_OVERHEAD_BYTES, Bundler, PendingCall
from tests.unit.client.world import Waiter


def bundler_of(*sizes: int, operations_max: int = 100, payload: int = 1000) -> tuple[Bundler, list[PendingCall]]:
    bundler = Bundler(operations_max=operations_max, bundle_bytes_max=payload + REQUEST_OVERHEAD_BYTES)
    calls = [PendingCall(bytes(size), 10.0 + at, Waiter()) for at, size in enumerate(sizes)]
    for call in calls:
        bundler.add(call)
    return bundler, calls


def test_a_bundle_holds_the_oldest_calls_up_to_the_number_allowed():
    bundler, calls = bundler_of(1, 1, 1, operations_max=2)
    assert (bundler.take(), bundler.take(), bundler.take()) == (calls[:2], calls[2:], [])


def test_a_bundle_holds_calls_up_to_the_bytes_allowed():
    size = 500 - OPERATION_OVERHEAD_BYTES
    bundler, calls = bundler_of(size, size, 0)
    assert (bundler.take(), bundler.take()) == (calls[:2], calls[2:])


def test_a_call_larger_than_a_bundle_goes_alone():
    bundler, calls = bundler_of(1, 5000, 1)
    assert [bundler.take() for _ in calls] == [[call] for call in calls]


def test_a_cancelled_call_is_never_taken():
    bundler, calls = bundler_of(1, 1)
    waiter = calls[0].waiter = Waiter()
    waiter.cancelled = True
    assert bundler.take() == calls[1:]
    bundler.add(calls[0])
    assert bundler.take() == []


def test_expired_calls_leave_and_the_others_stay_in_order():
    bundler, calls = bundler_of(1, 1, 1)
    assert list(bundler.expired(9.0)) == []
    assert list(bundler.expired(11.0)) == calls[:2]
    assert bundler.earliest_deadline == calls[2].deadline
    assert bundler.take() == calls[2:]
    assert bundler.earliest_deadline == math.inf
