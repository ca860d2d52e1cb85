"""Castro & Liskov, OSDI'99 §4.1-4.2: what each sentence of the normal case asks of one replica."""

import pytest

from bft.core import effects
from bft.core.effects import Rejection
from bft.core.events import ClientRequest
from bft.core.messages import NULL_BATCH, Batch, Commit, Evidence, Prepare, Proposal, Reply
from bft.core.parameters import SECOND
from bft.statemachine import Context, StateMachine
from tests.paper.stage import Stage, executed, rejections, sent


def test_the_primary_proposes_a_request_at_once(primary: Stage) -> None:
    """§4.2: the primary starts the three-phase protocol when it receives a request."""
    happened = primary.step(ClientRequest(primary.request(7)))
    (proposal,) = sent(happened, Proposal)
    assert (proposal.header.message.view, proposal.header.message.seq) == (0, 1)


def test_a_backup_relays_a_request_to_the_primary_and_does_not_propose(backup: Stage) -> None:
    """§4.1, §4.4: a backup that gets a request sends it to the primary."""
    request = backup.request(7)
    happened = backup.step(ClientRequest(request))
    assert effects.Send(0, request) in happened
    assert not sent(happened, Proposal)


def test_a_backup_that_accepts_a_pre_prepare_multicasts_a_prepare(backup: Stage) -> None:
    """§4.2: accepting a pre-prepare enters the prepare phase."""
    batch = backup.batch()
    happened = backup.receive(0, backup.proposal(seq=1, batch=batch))
    assert [p.digest for p in sent(happened, Prepare)] == [batch.digest]


def test_the_proposal_and_the_prepare_are_persisted_before_the_prepare_is_sent(backup: Stage) -> None:
    """§4.2: both messages are added to the log."""
    happened = backup.receive(0, backup.proposal(seq=1, batch=backup.batch()))
    kinds = [type(e.record) if isinstance(e, effects.Persist) else type(e) for e in happened]
    assert kinds.index(effects.Accepted) < kinds.index(effects.Broadcast)


def test_a_pre_prepare_of_another_view_is_not_accepted(backup: Stage) -> None:
    """§4.2: accepted only in view v."""
    happened = backup.receive(1, backup.proposal(view=1, seq=1, batch=backup.batch()))
    assert not sent(happened, Prepare)


def test_a_second_digest_for_one_view_and_sequence_number_is_proof_against_the_primary(backup: Stage) -> None:
    """§4.2: it has not accepted a pre-prepare for v and n containing a different digest."""
    backup.receive(0, backup.proposal(seq=1, batch=backup.batch(1)))
    happened = backup.receive(0, backup.proposal(seq=1, batch=backup.batch(2)))
    assert not sent(happened, Prepare)
    assert [e.accused for e in sent(happened, Evidence)] == [0]


@pytest.mark.parametrize("seq", [0, 9])
def test_a_pre_prepare_outside_the_watermarks_is_not_accepted(backup: Stage, seq: int) -> None:
    """§4.2: n is between h and H (here 0 < n <= 8)."""
    happened = backup.receive(0, backup.proposal(seq=seq, batch=backup.batch()))
    assert not sent(happened, Prepare)


def test_a_batch_that_is_not_the_headers_is_not_prepared(backup: Stage) -> None:
    """§4.2: d is the digest of m."""
    header = backup.header(view=0, seq=1, digest=backup.batch(1).digest)
    happened = backup.receive(0, Proposal(header, backup.batch(2)))
    assert rejections(happened) == [Rejection.WRONG_DIGEST]
    assert not sent(happened, Prepare)


def test_a_fresh_null_batch_is_not_prepared(backup: Stage) -> None:
    """§4.4: only a new view makes null requests."""
    happened = backup.receive(0, backup.proposal(seq=1, batch=NULL_BATCH))
    assert rejections(happened) == [Rejection.BAD_BATCH]


def test_a_proposal_far_from_the_local_clock_is_not_prepared(backup: Stage) -> None:
    """TOCS'02 §2.4: agreed non-deterministic values are checked by the backups."""
    late = Batch(backup.now.wall_ns + backup.parameters.clock_bound_ns + 1, (backup.request(1),))
    happened = backup.receive(0, backup.proposal(seq=1, batch=late))
    assert rejections(happened) == [Rejection.CLOCK]


def test_prepared_needs_the_header_and_a_quorum_of_votes_in_all(backup: Stage) -> None:
    """§4.2: the pre-prepare and 2f prepares from different backups that match it."""
    batch = backup.batch()
    early = backup.receive(2, backup.prepare(2, seq=1, digest=batch.digest))
    early += backup.receive(3, backup.prepare(3, seq=1, digest=batch.digest))
    assert not sent(early, Commit)
    happened = backup.receive(0, backup.proposal(seq=1, batch=batch))
    assert [c.digest for c in sent(happened, Commit)] == [batch.digest]


def test_one_backups_prepare_counts_once() -> None:
    """§4.2: from *different* backups."""
    stage = Stage(n=7, me=1)  # quorum 5: header, own, and three more
    batch = stage.batch()
    stage.receive(0, stage.proposal(seq=1, batch=batch))
    happened = [stage.receive(2, stage.prepare(2, seq=1, digest=batch.digest)) for _ in range(5)][-1]
    assert not sent(happened, Commit)
    assert rejections(happened) == [Rejection.DUPLICATE]


def test_the_primary_sends_no_prepare_and_none_of_it_counts(backup: Stage) -> None:
    """§4.2: the pre-prepare is the primary's vote; it must not vote twice."""
    batch = backup.batch()
    happened = backup.receive(0, backup.proposal(seq=1, batch=batch))
    happened = backup.receive(0, backup.prepare(0, seq=1, digest=batch.digest))
    assert rejections(happened) == [Rejection.PRIMARY_PREPARE]
    assert not sent(happened, Commit)


def test_a_vote_relayed_in_anothers_name_does_not_count(backup: Stage) -> None:
    """A link speaks for its own replica only."""
    happened = backup.receive(2, backup.prepare(3, seq=1, digest=backup.batch().digest))
    assert rejections(happened) == [Rejection.WRONG_SIGNER]


def test_committed_local_needs_a_quorum_of_commits(backup: Stage) -> None:
    """§4.2: 2f+1 commits, possibly its own included."""
    batch = backup.batch()
    backup.receive(0, backup.proposal(seq=1, batch=batch))
    backup.receive(2, backup.prepare(2, seq=1, digest=batch.digest))  # now our own COMMIT is out
    assert executed(backup.receive(0, backup.commit(0, seq=1, digest=batch.digest))) == []
    assert executed(backup.receive(2, backup.commit(2, seq=1, digest=batch.digest))) == [1]


def test_commits_for_another_digest_do_not_count(backup: Stage) -> None:
    """§4.2: commits that match the pre-prepare."""
    batch = backup.batch()
    backup.receive(0, backup.proposal(seq=1, batch=batch))
    backup.receive(2, backup.prepare(2, seq=1, digest=batch.digest))
    for replica in (0, 2, 3):
        assert executed(backup.receive(replica, backup.commit(replica, seq=1, digest=bytes(32)))) == []


def test_execution_follows_the_sequence_numbers(backup: Stage) -> None:
    """§4.2: executed after all requests with lower sequence numbers."""
    first, second = backup.batch(1), backup.batch(2)
    backup.receive(0, backup.proposal(seq=2, batch=second))
    for replica in (0, 2, 3):
        assert executed(backup.receive(replica, backup.commit(replica, seq=2, digest=second.digest))) == []
    backup.receive(0, backup.proposal(seq=1, batch=first))
    happened = [e for r in (0, 2, 3) for e in backup.receive(r, backup.commit(r, seq=1, digest=first.digest))]
    assert executed(happened) == [1, 2]


def test_each_replica_answers_the_client(backup: Stage) -> None:
    """§4.2: after executing, replicas send a reply to the client."""
    backup.commit_batch(1)
    replies = [e.reply for e in backup.effects if isinstance(e, effects.SendReply) and isinstance(e.reply, Reply)]
    assert [r.outcome.number for r in replies] == [1]


def test_a_request_ordered_twice_executes_once(backup: Stage) -> None:
    """§4.2: exactly-once by the last reply kept for the client; the second is answered from the cache."""
    backup.commit_batch(1)
    first = [e.reply.outcome for e in backup.effects if isinstance(e, effects.SendReply) and isinstance(e.reply, Reply)]
    batch = Batch(backup.now.wall_ns, (backup.request(1),))
    backup.receive(0, backup.proposal(seq=2, batch=batch))
    happened = [e for r in (0, 2, 3) for e in backup.receive(r, backup.commit(r, seq=2, digest=batch.digest))]
    assert [(e.seq, e.operations) for e in happened if isinstance(e, effects.Executed)] == [(2, 0)]
    assert [
        e.reply.outcome for e in happened if isinstance(e, effects.SendReply) and isinstance(e.reply, Reply)
    ] == first


def test_a_retransmitted_request_is_answered_from_the_cache(backup: Stage) -> None:
    """§4.1: if the request has been processed, the reply is re-sent."""
    batch = backup.commit_batch(1)
    happened = backup.step(ClientRequest(batch.requests[0]))
    assert [
        e.reply.outcome.number for e in happened if isinstance(e, effects.SendReply) and isinstance(e.reply, Reply)
    ] == [1]
    assert not sent(happened, Proposal)


def test_the_pipeline_is_bounded() -> None:
    """§5.1.4 (TOCS): the primary does not run ahead of what commits."""
    primary = Stage(n=4, me=0, batch_requests_max=1)
    for number in range(1, 2 * primary.parameters.pipeline_depth):
        primary.step(ClientRequest(primary.request(number)))
    assert len(sent(primary.effects, Proposal)) == primary.parameters.pipeline_depth


def batch_sizes(stage: Stage) -> list[int]:
    return [len(proposal.batch.requests) for proposal in sent(stage.effects, Proposal)]


def test_requests_that_come_while_fewer_are_in_flight_go_out_at_once_in_a_batch_of_their_own(primary: Stage) -> None:
    """§5.1.4 (TOCS): a batch costs the same votes whatever it holds, so it is to hold as much as is in flight."""
    for number in range(1, 9):
        primary.step(ClientRequest(primary.request(number)))
    assert batch_sizes(primary) == [1, 1, 2, 4]


def test_what_is_not_worth_a_batch_yet_is_proposed_when_what_is_in_flight_executes() -> None:
    """§5.1.4 (TOCS): nothing waits for longer than one batch takes to commit."""
    primary = Stage(n=4, me=0)
    for number in range(1, 4):
        primary.step(ClientRequest(primary.request(number)))
    assert batch_sizes(primary) == [1, 1]
    for proposal in sent(primary.effects, Proposal):
        seq, digest = proposal.header.message.seq, proposal.header.message.digest
        for voter in (1, 2):
            primary.receive(voter, primary.prepare(voter, seq=seq, digest=digest))
        for voter in (1, 2):
            primary.receive(voter, primary.commit(voter, seq=seq, digest=digest))
    assert batch_sizes(primary) == [1, 1, 1]


def test_many_requests_are_worth_a_batch_whatever_is_in_flight() -> None:
    """§5.1.4 (TOCS): an eighth of the largest batch does not wait, so a long pipeline fills under heavy load."""
    primary = Stage(n=4, me=0, batch_requests_max=16)
    for number in range(1, 9):
        primary.step(ClientRequest(primary.request(number)))
    assert batch_sizes(primary) == [1, 1, 2, 2, 2]


class Clock(StateMachine):
    """Notes the agreed time of each operation."""

    def __init__(self) -> None:
        self.times: list[int] = []

    def apply(self, ctx: Context, operation: bytes) -> bytes:
        self.times.append(ctx.time_ns)
        return b""


def test_the_agreed_time_never_runs_backwards() -> None:
    """TOCS'02 §2.4: the value comes from the primary, whose clock may be set back, or who may lie within the bound."""
    clock = Clock()
    stage = Stage(n=4, me=1, service=clock)
    stage.commit_batch(1)
    session = (1 << 16) | 0
    for number, back_ns in ((1, 0), (2, 5 * SECOND)):
        batch = Batch(stage.now.wall_ns - back_ns, (stage.request(number, session=session),))
        stage.receive(0, stage.proposal(seq=number + 1, batch=batch))
        for replica in (0, 2, 3):
            stage.receive(replica, stage.commit(replica, seq=number + 1, digest=batch.digest))
    first, second = clock.times
    assert second > first
