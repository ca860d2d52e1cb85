"""What is derived from what was recorded."""

import pytest

from bench.cluster import ViewEvent
from bench.figures import Span, first_commit_s, longest_pause_s, recovery_s, view_changes
from bench.latency import Interval


def timeline(*totals: int) -> list[Interval]:
    return [Interval(i / 10, {"put": total} if total else {}, None, None, None) for i, total in enumerate(totals)]


def events(*told: tuple[float, int, int, bool]) -> list[ViewEvent]:
    return [ViewEvent(1000 + at_s, replica, view, entered) for at_s, replica, view, entered in told]


def test_the_longest_pause_is_the_longest_run_of_empty_intervals():
    assert longest_pause_s(timeline(5, 0, 5, 0, 0, 0, 5)) == 0.3


def test_a_view_change_lasts_from_the_first_replica_that_leaves_to_the_last_that_enters():
    told = events((2.0, 1, 1, False), (2.1, 2, 1, False), (2.3, 1, 1, True), (2.4, 2, 1, True), (2.5, 3, 1, True))
    (span,) = view_changes(told, 3, epoch_s=1000, until_s=10)
    assert span.view == 1
    assert span.begin_s == pytest.approx(2.0)
    assert span.end_s == pytest.approx(2.5)


def test_entering_the_first_view_is_no_view_change():
    assert view_changes(events(*((0.1, replica, 0, True) for replica in range(3))), 3, epoch_s=1000, until_s=10) == []


def test_a_view_change_that_does_not_end_lasts_to_the_end():
    assert view_changes(events((2.0, 1, 1, False)), 3, epoch_s=1000, until_s=10) == [Span(2.0, 10, 1)]


def test_recovery_is_told_from_the_fault_to_the_first_second_as_good_as_before():
    assert recovery_s(timeline(*[10] * 20, *[0] * 5, *[10] * 20), 2.0) == pytest.approx(0.5)


def test_a_run_that_never_recovers_says_so():
    assert recovery_s(timeline(*[10] * 20, *[1] * 25), 2.0) is None


def test_a_fault_without_any_effect_costs_no_recovery():
    assert recovery_s(timeline(*[10] * 40), 2.0) == 0.0


def test_the_first_operation_after_a_fault_ends_the_pause_that_follows_it():
    assert first_commit_s(timeline(*[10] * 21, *[0] * 5, 1, *[0] * 3, 9), 2.0) == pytest.approx(0.6)
    assert first_commit_s(timeline(*[10] * 40), 2.0) == 0.0
    assert first_commit_s(timeline(*[10] * 20, *[0] * 20), 2.0) is None
