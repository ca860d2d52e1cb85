"""Numbers of a session: without gaps, within the window."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bft.client.session import SessionWindow


@given(st.lists(st.one_of(st.none(), st.integers(0, 40)), max_size=200), st.integers(1, 8))
def test_numbers_have_no_gap_and_stay_within_acked_plus_window(steps, size):
    window = SessionWindow(1, size)
    used: list[int] = []
    accepted: set[int] = set()
    for step in steps:
        if step is None:
            if window.is_open:
                used.append(window.allocate())
        elif step in used:
            window.accept(step)
            accepted.add(step)
        contiguous = next(number for number in range(len(used) + 2) if number + 1 not in accepted)
        assert window.acked == contiguous
        assert used == list(range(1, len(used) + 1))
        assert len(used) <= window.acked + size


def test_a_full_window_gives_no_number():
    window = SessionWindow(1, 2)
    window.allocate()
    window.allocate()
    window.accept(2)
    assert not window.is_open
    with pytest.raises(RuntimeError):
        window.allocate()
    window.accept(1)
    assert (window.acked, window.allocate()) == (2, 3)


def test_a_number_that_was_never_used_is_not_accepted():
    window = SessionWindow(1, 4)
    window.allocate()
    window.accept(2)
    window.accept(1)
    assert window.acked == 1
