"""Quorum arithmetic: the two properties that everything else stands on."""

import pytest

from bft.core.quorum import Quorums


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6, 7, 10, 13, 100])
def test_two_quorums_share_a_correct_replica(n: int) -> None:
    quorums = Quorums.of(n)
    assert 2 * quorums.quorum - n >= quorums.f + 1


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6, 7, 10, 13, 100])
def test_the_correct_replicas_alone_form_a_quorum(n: int) -> None:
    quorums = Quorums.of(n)
    assert quorums.quorum <= n - quorums.f


@pytest.mark.parametrize(("n", "f", "quorum"), [(4, 1, 3), (5, 1, 4), (6, 1, 4), (7, 2, 5), (10, 3, 7), (13, 4, 9)])
def test_the_sizes_are_those_of_the_paper(n: int, f: int, quorum: int) -> None:
    assert (Quorums.of(n).f, Quorums.of(n).quorum, Quorums.of(n).weak) == (f, quorum, f + 1)


def test_the_primary_rotates_with_the_view() -> None:
    assert [Quorums.of(4).primary(view) for view in range(6)] == [0, 1, 2, 3, 0, 1]


def test_a_cluster_of_nobody_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one replica"):
        Quorums.of(0)
