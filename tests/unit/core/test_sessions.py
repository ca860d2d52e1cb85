"""The client table: exactly-once under hostile numbers, bounded, the same after a state transfer."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bft.core.messages import Outcome, ReplyStatus, Request, RequestKind
from bft.core.parameters import Parameters
from bft.core.sessions import Disposition, Session, Sessions
from bft.statemachine.kv import KeyValue
from bft.statemachine.replicated import ReplicatedState

CLIENT = b"c" * 32
LARGEST = 2**64 - 1


def table(**overrides: Any) -> Sessions:
    return Sessions(Parameters(n=4, **overrides))


def register(nonce: int, client: bytes = CLIENT) -> Request:
    return Request(client, 0, nonce, 0, RequestKind.REGISTER, (b"certificate",))


def opened(sessions: Sessions, *, nonce: int = 1, client: bytes = CLIENT, position: int = 1 << 16) -> Session:
    session = sessions.open(register(nonce, client), name="x", position=position, time_ns=0)
    assert session is not None
    return session


def request(session: Session, number: int, acked: int = 0) -> Request:
    return Request(session.client, session.id, number, acked, RequestKind.APPLICATION, (b"operation",))


def execute(sessions: Sessions, session: Session, message: Request, *, position: int, result: bytes = b"r") -> None:
    outcome = Outcome(message.client, message.session, message.number, bytes(32), 1, ReplyStatus.EXECUTED, (result,))
    sessions.record(session, message.number, outcome, acked=message.acked, position=position)


def test_a_number_that_was_executed_is_never_fresh_again() -> None:
    sessions = table()
    session = opened(sessions)
    execute(sessions, session, request(session, 1), position=2 << 16)
    assert sessions.judge(request(session, 1)) is Disposition.EXECUTED


def test_a_later_number_does_not_censor_an_earlier_one() -> None:
    sessions = table()
    session = opened(sessions)
    execute(sessions, session, request(session, 2), position=2 << 16)
    assert sessions.judge(request(session, 1)) is Disposition.FRESH


def test_a_number_beyond_the_window_is_outside() -> None:
    sessions = table(session_window=8)
    session = opened(sessions)
    assert sessions.judge(request(session, 8)) is Disposition.FRESH
    assert sessions.judge(request(session, 9)) is Disposition.OUTSIDE_WINDOW


def test_the_largest_number_with_the_largest_acked_costs_no_memory() -> None:
    sessions = table()
    session = opened(sessions)
    execute(sessions, session, request(session, LARGEST, acked=LARGEST), position=2 << 16)
    assert session.window.bit_length() <= 1
    assert session.contiguous == LARGEST


def test_a_session_of_another_client_is_unknown() -> None:
    sessions = table()
    session = opened(sessions)
    foreign = Request(b"d" * 32, session.id, 1, 0, RequestKind.APPLICATION, (b"operation",))
    assert sessions.judge(foreign) is Disposition.UNKNOWN_SESSION


def test_the_least_recently_used_session_is_evicted() -> None:
    sessions = table(sessions_max=2)
    first = opened(sessions, client=b"1" * 32, position=1 << 16)
    second = opened(sessions, client=b"2" * 32, position=2 << 16)
    execute(sessions, first, request(first, 1), position=3 << 16)
    opened(sessions, client=b"3" * 32, position=4 << 16)
    assert sessions.find(request(first, 2)) is first
    assert sessions.find(request(second, 1)) is None


def test_one_client_cannot_evict_anothers_sessions() -> None:
    sessions = table(sessions_per_client_max=2)
    other = opened(sessions, client=b"o" * 32)
    for nonce in range(50):
        opened(sessions, nonce=nonce, position=(nonce + 2) << 16)
    assert sessions.find(request(other, 1)) is other
    assert len(sessions) == 3


def test_a_client_with_many_sessions_loses_one_before_a_client_with_one() -> None:
    """Else enough hostile clients, each within its own limit, could register everybody else away."""
    sessions = table(sessions_max=3)
    only = opened(sessions, client=b"a" * 32, position=1 << 16)
    first = opened(sessions, nonce=1, position=2 << 16)
    opened(sessions, nonce=2, position=3 << 16)
    opened(sessions, client=b"b" * 32, position=4 << 16)
    assert sessions.judge(request(only, 1)) is Disposition.FRESH
    assert sessions.judge(request(first, 1)) is Disposition.UNKNOWN_SESSION


def test_an_old_registration_evicts_none_of_the_clients_newer_sessions() -> None:
    """Registrations are replayed by whoever saw them."""
    sessions = table(sessions_per_client_max=2)
    for nonce in (1, 2, 3):
        opened(sessions, nonce=nonce, position=nonce << 16)
    assert sessions.open(register(1), name="x", position=9 << 16, time_ns=0) is None


def test_in_a_full_table_only_a_recent_registration_evicts() -> None:
    sessions = table(sessions_max=1, registration_age_max_ns=1000)
    opened(sessions, client=b"1" * 32)
    assert sessions.open(register(5, b"2" * 32), name="x", position=9 << 16, time_ns=5_000) is None
    assert sessions.open(register(4_500, b"2" * 32), name="x", position=9 << 16, time_ns=5_000) is not None


def test_cached_results_of_all_sessions_together_are_bounded() -> None:
    sessions = table(reply_bytes_max=3_000)
    for number in range(1, 6):
        session = opened(sessions, nonce=number, client=bytes([number]) * 32, position=number << 16)
        execute(sessions, session, request(session, 1), position=(10 + number) << 16, result=bytes(1000))
    assert sessions.outcome_bytes <= 3_000


def test_acknowledged_results_are_forgotten() -> None:
    sessions = table()
    session = opened(sessions)
    execute(sessions, session, request(session, 1), position=2 << 16)
    execute(sessions, session, request(session, 2, acked=1), position=3 << 16)
    assert list(session.outcomes) == [2]


def test_cached_results_are_bounded_in_bytes() -> None:
    sessions = table(session_reply_bytes_max=4096)
    session = opened(sessions)
    for number in range(1, 20):
        execute(sessions, session, request(session, number), position=(number + 1) << 16, result=bytes(1000))
    assert session.outcome_bytes <= 4096
    assert max(session.outcomes) == 19


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 40)), max_size=60))
def test_each_number_executes_at_most_once_in_any_order(arrivals: list[tuple[int, int]]) -> None:
    sessions = table(session_window=8)
    session = opened(sessions)
    executed: list[int] = []
    for position, (number, acked) in enumerate(arrivals, start=2):
        message = request(session, number, min(acked, number - 1))
        if sessions.judge(message) is Disposition.FRESH:
            execute(sessions, session, message, position=position << 16)
            executed.append(number)
    assert len(set(executed)) == len(executed)


@given(st.lists(st.integers(1, 12), max_size=30))
def test_the_table_comes_out_of_the_replicated_state_as_it_went_in(numbers: list[int]) -> None:
    sessions = table(session_window=16)
    session = opened(sessions)
    for position, number in enumerate(numbers, start=2):
        if sessions.judge(request(session, number)) is Disposition.FRESH:
            execute(sessions, session, request(session, number), position=position << 16)
    state = ReplicatedState(KeyValue())
    sessions.flush(state)
    copy = table(session_window=16)
    copy.load(state)
    assert copy.find(request(session, 1)) == session
