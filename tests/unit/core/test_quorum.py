"""Quorum arithmetic: the two properties that everything else stands on."""

import pytest

from bft.core.messages import CertifiedBatch, CheckpointCertificate, PreparedCertificate
from bft.core.quorum import Quorums
from tests.paper.stage import Stage


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


@pytest.fixture
def stage() -> Stage:
    return Stage(n=4, me=1)


def test_one_backups_prepare_repeated_proves_nothing(stage: Stage) -> None:
    digest = stage.batch().digest
    vote = stage.prepare(2, seq=1, digest=digest)
    repeated = PreparedCertificate(stage.header(view=0, seq=1, digest=digest), (vote, vote))
    assert not stage.replica.quorums.proves_prepared(repeated)


def test_one_replicas_commit_repeated_proves_nothing(stage: Stage) -> None:
    batch = stage.batch()
    vote = stage.commit(2, seq=1, digest=batch.digest)
    assert not stage.replica.quorums.proves_committed(CertifiedBatch(batch, (vote, vote, vote)))


def test_commits_for_another_batch_prove_nothing(stage: Stage) -> None:
    votes = tuple(stage.commit(r, seq=1, digest=stage.batch(1).digest) for r in (0, 2, 3))
    assert not stage.replica.quorums.proves_committed(CertifiedBatch(stage.batch(2), votes))


def test_one_replicas_checkpoint_repeated_proves_nothing(stage: Stage) -> None:
    vote = stage.checkpoint(2, seq=4, root=bytes(32))
    assert not stage.replica.quorums.proves_stable(CheckpointCertificate((vote, vote, vote)))


def test_checkpoints_of_different_roots_prove_nothing(stage: Stage) -> None:
    votes = tuple(stage.checkpoint(r, seq=4, root=bytes([r]) * 32) for r in (0, 2, 3))
    assert not stage.replica.quorums.proves_stable(CheckpointCertificate(votes))
