"""The verdict refuses what must not be called safe; a key's history knows what the key may hold."""

from typing import Any

import pytest

from bench.history import KeyHistory, value_of, wrong_values
from bench.shared import Reading, SharedHistory, final_reads, judge, operations, padded, ranked, unpadded
from bench.verdict import Seen, Verdict

SIZE = 32


def status(seq: int = 9, root: str = "aa", accused: tuple[int, ...] = ()) -> dict[str, Any]:
    return {"last_executed": seq, "state_root": root, "evidence": [{"accused": replica} for replica in accused]}


def verdict(**changes: Any) -> Verdict:
    seen: dict[str, Any] = {
        "acknowledged": 100,
        "failed": 0,
        "violations": [],
        "keys": 10,
        "wrong": [],
        "faulty": set(),
        "statuses": {replica: status() for replica in range(4)},
        "executed": 100,
    }
    return Verdict.of(Seen(**(seen | changes)))


def failed(found: Verdict) -> list[str]:
    return [check.claim for check in found.checks if not check.holds]


def test_a_run_in_which_everything_held_is_safe():
    assert verdict().safe


def test_a_verdict_without_checks_is_not_safe():
    assert not Verdict(()).safe


@pytest.mark.parametrize(
    ("changes", "claim"),
    [
        ({"wrong": ["write 3 of caller 1 is lost"]}, "no acknowledged write is lost"),
        ({"wrong": None}, "no acknowledged write is lost"),
        ({"violations": ["caller 0 wrote 5 and finds 4"]}, "every answer fits the history"),
        ({"executed": 101}, "every operation executed once"),
        ({"executed": 99}, "every operation executed once"),
        ({"statuses": {0: status(), 1: status(), 2: status(), 3: status(root="bb")}}, "state roots are equal"),
        ({"statuses": {0: status(), 1: status(), 2: status(), 3: status(seq=8)}}, "state roots are equal"),
        ({"statuses": {0: status(), 1: status(), 2: status(), 3: None}}, "state roots are equal"),
        ({"statuses": {i: status(accused=(2,)) for i in range(4)}}, "no correct replica is accused"),
    ],
    ids=[
        "a lost write",
        "keys that could not be read back",
        "a stale read",
        "executed twice",
        "acknowledged and never executed",
        "unequal roots",
        "a laggard",
        "a silent correct replica",
        "a correct replica accused",
    ],
)
def test_an_unsafe_run_is_refused(changes, claim):
    found = verdict(**changes)
    assert not found.safe
    assert failed(found) == [claim]


def test_what_a_faulty_replica_says_counts_for_nothing():
    liar = status(root="cc", accused=(1, 2))
    rest = {replica: status(accused=(0,)) for replica in (1, 2, 3)}
    assert verdict(faulty={0}, statuses={0: liar} | rest).safe


def test_an_operation_of_unknown_outcome_may_have_executed_or_not():
    assert verdict(acknowledged=98, failed=2, executed=98).safe
    assert verdict(acknowledged=98, failed=2, executed=100).safe
    assert not verdict(acknowledged=98, failed=2, executed=101).safe


def test_a_key_holds_the_last_acknowledged_write():
    history = KeyHistory(writer=1, value_size=SIZE)
    history.on_acknowledged(1, revision=10)
    history.on_acknowledged(2, revision=20)
    assert history.on_read(value_of(1, 2, SIZE)) is None
    assert history.on_read(value_of(1, 1, SIZE)) == "caller 1 wrote 2 and finds 1"
    assert history.on_read(None) == "write 2 of caller 1 is lost"


@pytest.mark.parametrize(
    "value", [b"", b"short", value_of(2, 2, SIZE), value_of(1, 2, SIZE + 1), value_of(1, 2, SIZE)[:-1] + b"x"]
)
def test_a_value_that_its_writer_never_wrote_is_found(value):
    history = KeyHistory(writer=1, value_size=SIZE, acknowledged=2)
    assert history.on_read(value) == "a key of caller 1 holds what it never wrote"


def test_a_write_of_unknown_outcome_may_show_and_then_stays():
    history = KeyHistory(writer=1, value_size=SIZE, acknowledged=1, doubtful={2})
    assert history.on_read(value_of(1, 1, SIZE)) is None
    assert history.on_read(value_of(1, 2, SIZE)) is None
    assert history.on_read(value_of(1, 1, SIZE)) is not None


def test_a_revision_that_does_not_grow_is_found():
    history = KeyHistory(writer=1, value_size=SIZE)
    assert history.on_acknowledged(1, revision=10) is None
    assert history.on_acknowledged(2, revision=10) is not None


def test_the_final_state_is_held_against_every_key():
    histories = {key: KeyHistory(1, SIZE, acknowledged=1) for key in (b"a", b"b", b"c")}
    held = {b"a": value_of(1, 1, SIZE), b"b": value_of(1, 7, SIZE)}
    assert len(wrong_values(histories, held)) == 2


def test_a_history_survives_its_way_to_another_process():
    history = KeyHistory(writer=3, value_size=SIZE, acknowledged=4, doubtful={5, 6})
    assert KeyHistory.of(history.document()) == history


def test_a_stale_read_of_a_shared_key_is_refused():
    history = SharedHistory()
    first, second = history.value(1), history.value(2)
    history.wrote(1, 0, first, 0, 10, seq=1, revision=1)
    history.wrote(2, 0, second, 20, 30, seq=2, revision=2)
    history.read(3, 0, second, 40, 50, seq=3)
    assert verdict(shared=operations(history.document())).safe
    history.read(3, 0, first, 60, 70, seq=4)
    found = verdict(shared=operations(history.document()))
    assert failed(found) == ["the history of the shared keys is linearizable"]


def test_a_write_of_a_shared_key_whose_outcome_is_unknown_may_be_seen_or_not():
    history = SharedHistory()
    doubtful = history.value(1)
    history.doubtful(1, 0, doubtful, 0)
    history.read(2, 0, None, 10, 20, seq=1)
    history.read(2, 0, doubtful, 30, 40, seq=3)
    assert verdict(shared=operations(history.document())).safe


def test_a_system_that_tells_nothing_of_itself_is_judged_by_its_answers():
    assert verdict(statuses=None, executed=None).safe
    assert failed(verdict(statuses=None, executed=None, wrong=["lost"])) == ["no acknowledged write is lost"]


def shared_history(*, read: bytes | None) -> SharedHistory:
    """Caller 0 wrote key 3 and was told; then caller 1 read it, and was told that it came after the same write."""
    history = SharedHistory()
    history.wrote(0, 3, b"0.1", 10, 20, seq=5, revision=5)
    history.read(1, 3, read, 30, 40, seq=5)
    history.read(1, 3, read, 50, 60, seq=5)
    return history


def test_reads_that_name_the_write_before_them_have_places_of_their_own():
    assert judge(ranked(operations(shared_history(read=b"0.1").document())))
    assert not judge(ranked(operations(shared_history(read=None).document())))


@pytest.mark.parametrize(("held", "linearizable"), [(b"0.1", True), (b"0.2", False), (None, False)])
def test_shared_keys_are_read_back_and_must_hold_what_the_history_says(held, linearizable):
    history = operations(shared_history(read=b"0.1").document())
    items = [] if held is None else [(b"shared/3", padded(held, 12))]
    read_back = final_reads(history, [Reading(100, 110, 9, items)], 12)
    assert bool(judge(ranked([*history, *read_back]))) == linearizable


@pytest.mark.parametrize(("stored", "value"), [(b"7.1.....", b"7.1"), (b"7.1..", b"7.1.."), (None, None)])
def test_a_value_that_was_cut_or_padded_in_another_way_is_none_that_was_written(stored, value):
    assert unpadded(stored, 8) == value
