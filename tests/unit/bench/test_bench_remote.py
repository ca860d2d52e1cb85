"""Times of another machine become ours, and the history is judged with what is not known of its clock."""

import json
import time

import pytest

from bench.options import Options
from bench.remote import PART_CHARACTERS, Offset, parts
from bench.shared import SharedHistory, judge, operations
from bft.errors import ConfigurationError

AHEAD = 1_000_000_000_000  # its clock, in nanoseconds


def result(history: SharedHistory) -> dict[str, object]:
    return {"shared": history.document(), "answers": []}


def test_a_history_of_two_machines_is_judged_on_one_clock():
    """Its write returned at 20 of our time; our read, invoked at 30, saw it."""
    there, here = SharedHistory(), SharedHistory()
    there.wrote(0, 1, b"0.1", AHEAD + 10, AHEAD + 20, seq=1, revision=1)
    here.read(1, 1, b"0.1", 30, 40, seq=2)
    here.read(1, 1, None, 1, 5, seq=0)
    rows = [*Offset(1000.0, 0.0).ours(result(there))["shared"], *here.document()]
    assert judge(operations(rows))
    assert not judge(operations([*there.document(), *here.document()]))  # as if the write was invoked after the read


def test_what_the_error_of_a_clock_can_explain_accuses_nobody():
    """By its clock, 8 ns wrong at most, the write was invoked 5 ns after a read had returned that found it."""
    there, here = SharedHistory(), SharedHistory()
    there.wrote(0, 1, b"0.1", 45, 60, seq=1, revision=1)
    here.read(1, 1, b"0.1", 30, 40, seq=2)
    rows = [*Offset(0.0, 8e-9).ours(result(there))["shared"], *here.document()]
    assert judge(operations(rows))
    assert not judge(operations([*there.document(), *here.document()]))


def test_an_unknown_outcome_stays_unknown():
    there = SharedHistory()
    there.doubtful(0, 1, b"0.1", AHEAD)
    ((*_, invoked_ns, returned_ns, _, _, _),) = Offset(1000.0, 1.0).ours(result(there))["shared"]
    assert invoked_ns <= -1_000_000_000
    assert returned_ns is None


def test_answers_are_told_in_our_time():
    document = Offset(100.0, 0.5).ours({"shared": [], "answers": [[7, 101.0, 102.5]]})
    assert document["answers"] == [(7, 1.0, 2.5)]


async def test_an_offset_is_within_its_error():
    async def ask() -> float:
        return time.monotonic() + 50

    found = await Offset.measured(ask)
    assert abs(found.ahead_s - 50) <= found.error_s


def test_a_result_travels_in_parts_and_arrives_whole():
    document = {"text": '"' * (PART_CHARACTERS + 1), "rows": [1, 2]}
    lines = list(parts(document))
    assert len(lines) > 1
    assert json.loads("".join(json.loads(line)["part"] for line in lines)) == document


def test_workers_elsewhere_need_a_cluster_that_they_can_reach(tmp_path):
    with pytest.raises(ConfigurationError, match="--worker needs --cluster"):
        Options(workers=("ssh load1 bft bench worker here",))
    with pytest.raises(ConfigurationError, match="at least as many --clients"):
        Options(cluster=tmp_path, clients=1, workers=("one", "two"))
