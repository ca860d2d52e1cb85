"""new_view as a pure function: nothing that may have committed is ever lost (OSDI'99 §4.4)."""

from __future__ import annotations

from itertools import combinations

import pytest

from bft.core.messages import NULL_DIGEST
from bft.core.new_view import reproposals
from tests.paper.stage import Stage


@pytest.mark.parametrize("n", [4, 5, 6, 7])
def test_what_a_quorum_prepared_is_reproposed_by_every_quorum_of_view_changes(n: int) -> None:
    """A batch that committed was prepared by a quorum; whichever quorum changes the view must keep it."""
    stage = Stage(n=n, me=n - 1)
    digest = stage.batch().digest
    certificate = stage.prepared(view=0, seq=3, digest=digest)
    for prepared_by in combinations(range(n), stage.quorum):
        for changing in combinations(range(n), stage.quorum):
            # up to f of those in both quorums lie and hide it
            liars = set(changing[: stage.replica.quorums.f])
            votes = [
                stage.view_change(r, view=1, prepared=(certificate,) if r in prepared_by and r not in liars else ())
                for r in changing
            ]
            assert reproposals([v.message for v in votes]) == [(1, NULL_DIGEST), (2, NULL_DIGEST), (3, digest)]


def test_nothing_prepared_reproposes_nothing() -> None:
    stage = Stage(n=4, me=3)
    assert reproposals([stage.view_change(r, view=1).message for r in range(3)]) == []
