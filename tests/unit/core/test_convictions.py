"""Evidence in batches becomes part of the replicated state (DESIGN §4, Evidence)."""

from typing import Any

import pytest

from bft.core.convictions import Convictions
from bft.core.effects import Convicted, EvidenceFound, Executed
from bft.core.events import ClientRequest
from bft.core.messages import (
    EVIDENCE_IN_BATCH_MAX,
    GENESIS,
    NULL_DIGEST,
    Batch,
    Evidence,
    PreparedCertificate,
    Proposal,
)
from bft.core.replica import Replica
from bft.statemachine.kv import KeyValue
from bft.statemachine.replicated import ReplicatedState
from bft.testing.symbolic import SymbolicAdmission
from tests.paper.stage import Stage, rejections, sent


@pytest.fixture
def backup() -> Stage:
    return Stage(n=4, me=1)


def proof(stage: Stage, accused: int = 3, seq: int = 7) -> Evidence:
    first, second = (stage.commit(accused, seq=seq, digest=digest) for digest in (b"a" * 32, b"b" * 32))
    return Evidence(first, second)


def order(stage: Stage, seq: int, batch: Batch) -> list[Any]:
    happened = stage.receive(0, stage.proposal(seq=seq, batch=batch))
    happened += stage.receive(2, stage.prepare(2, seq=seq, digest=batch.digest))
    for replica in (0, 2):
        happened += stage.receive(replica, stage.commit(replica, seq=seq, digest=batch.digest))
    return happened


def test_evidence_that_is_executed_convicts_in_the_hashed_state(backup: Stage) -> None:
    before = backup.replica.state_root
    happened = order(backup, 1, Batch(backup.now.wall_ns, (), (proof(backup),)))
    assert [(e.accused, e.seq) for e in happened if isinstance(e, Convicted)] == [(3, 1)]
    assert backup.replica.convictions == {3: 1}
    other = Stage(n=4, me=1)
    order(other, 1, Batch(other.now.wall_ns, (other.request(1),)))
    assert before != backup.replica.state_root != other.replica.state_root


def test_whoever_did_not_know_the_proof_learns_it_from_the_batch(backup: Stage) -> None:
    happened = backup.receive(0, backup.proposal(seq=1, batch=Batch(backup.now.wall_ns, (), (proof(backup),))))
    assert [e.evidence.accused for e in happened if isinstance(e, EvidenceFound)] == [3]


def test_the_digest_binds_the_evidence(backup: Stage) -> None:
    one, other = Batch(1, (), (proof(backup),)), Batch(1, (), (proof(backup, seq=8),))
    assert len({one.digest, other.digest, Batch(1, ()).digest}) == 3
    stripped = Proposal(backup.header(view=0, seq=1, digest=one.digest), other)
    assert rejections(backup.receive(0, stripped)) == ["digest does not match"]


def test_more_evidence_than_fits_a_batch_is_refused(backup: Stage) -> None:
    proofs = tuple(proof(backup, accused) for accused in (2, 3))
    assert len(proofs) > EVIDENCE_IN_BATCH_MAX
    assert rejections(backup.receive(0, backup.proposal(seq=1, batch=Batch(backup.now.wall_ns, (), proofs)))) == [
        "batch not acceptable"
    ]


def test_a_second_proof_against_a_replica_changes_nothing() -> None:
    stage, application, convictions = Stage(n=4, me=1), ReplicatedState(KeyValue()), Convictions()
    assert convictions.record(proof(stage), seq=5, application=application)
    root = application.root()
    assert not convictions.record(proof(stage, seq=9), seq=6, application=application)
    assert (application.root(), list(convictions)) == (root, [(3, 5)])


def test_who_transfers_the_state_learns_the_convicted() -> None:
    stage, application, learnt = Stage(n=4, me=1), ReplicatedState(KeyValue()), Convictions()
    Convictions().record(proof(stage), seq=5, application=application)
    learnt.load(application)
    assert list(learnt) == [(3, 5)]


def test_a_replica_that_starts_from_a_snapshot_knows_the_convicted() -> None:
    stage, application = Stage(n=4, me=1), ReplicatedState(KeyValue())
    Convictions().record(proof(stage), seq=5, application=application)
    restarted = Replica(
        id=1,
        parameters=stage.parameters,
        signer=stage.signers[1],
        admission=SymbolicAdmission(),
        application=application,
    )
    restarted.recover([], GENESIS)
    assert restarted.convictions == {3: 5}


def test_a_primary_puts_what_it_holds_on_record_with_the_next_requests() -> None:
    primary = Stage(n=4, me=0)
    (alone,) = sent(primary.receive(2, proof(primary)), Proposal)
    assert [e.accused for e in alone.batch.evidence] == [3]
    (following,) = sent(primary.step(ClientRequest(primary.request(1))), Proposal)
    assert (len(following.batch.requests), following.batch.evidence) == (1, ())


def test_evidence_re_proposed_in_a_new_view_keeps_its_place(backup: Stage) -> None:
    """What a later primary finds proposed it does not propose a second time."""
    batch = Batch(backup.now.wall_ns, (), (proof(backup),))
    backup.receive(0, backup.proposal(seq=1, batch=batch))
    prepared = (backup.prepared(view=0, seq=1, digest=batch.digest),)
    happened = []
    for replica in (2, 3):
        happened += backup.receive(replica, backup.view_change(replica, view=1, prepared=prepared))
    assert [h.header.message.digest for h in sent(happened, Proposal)] == []
    for replica in (2, 3):
        happened += backup.receive(replica, backup.commit(replica, view=1, seq=1, digest=batch.digest))
    happened += backup.receive(2, backup.prepare(2, view=1, seq=1, digest=batch.digest))
    happened += backup.receive(3, backup.prepare(3, view=1, seq=1, digest=batch.digest))
    assert [e.batch.digest for e in happened if isinstance(e, Executed)] == [batch.digest]
    assert backup.replica.convictions == {3: 1}
    assert NULL_DIGEST not in [p.batch.digest for p in sent(happened, Proposal)]


def test_a_forged_view_change_beside_a_true_one_convicts_nobody(backup: Stage) -> None:
    """Others would refuse the proof, and so every batch with it: each primary that put it on record would be stuck."""
    true = backup.prepared(view=0, seq=1, digest=b"d" * 32)
    forged = PreparedCertificate(true.header, (true.prepares[0],) * len(true.prepares))
    backup.receive(3, backup.view_change(3, view=2, prepared=(true,)))
    happened = backup.receive(3, backup.view_change(3, view=2, prepared=(forged,)))
    assert not [effect for effect in happened if isinstance(effect, EvidenceFound)]
    assert backup.replica.evidence == []
