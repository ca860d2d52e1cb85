"""The clients' stamps and the replicas' are joined at the replica whose answer completed the weak quorum."""

import pytest

from bench.phases import breakdown


def replica(seq: int, *ms: int) -> dict[str, object]:
    return {"batches": {str(seq): [value * 1_000_000 for value in ms]}}


def test_the_phases_are_those_of_the_replica_whose_answer_was_the_last_that_was_needed():
    told = [
        replica(7, 10, 20, 30, 31, 90),
        replica(7, 11, 21, 31, 32, 40),
        replica(7, 12, 22, 33, 34, 44),
        replica(8, 1),
    ]
    found = breakdown([(7, 0.005, 0.050), (9, 0.0, 1.0)], told)
    assert found is not None
    assert found.operations == 1
    assert found.ms == pytest.approx((7, 10, 11, 1, 10, 6))
    assert sum(found.ms) == pytest.approx(45)


def test_a_batch_of_which_too_few_replicas_saw_every_phase_says_nothing():
    assert breakdown([(7, 0.0, 1.0)], [replica(7, 1, 2, 3, 4, 5), *[replica(7, 1, 0, 3, 4, 5)] * 3]) is None
