"""The checkers, fed with what must not happen: each complains."""

from types import SimpleNamespace

import pytest

from bft.core.effects import (
    Accepted,
    BecameStable,
    Committed,
    EnteredView,
    EvidenceFound,
    Executed,
    Persist,
    Prepared,
    Rejoined,
    Send,
    Stable,
    ViewChangeCause,
    ViewChangeStarted,
)
from bft.core.events import Received, Tick
from bft.core.messages import (
    GENESIS,
    NULL_DIGEST,
    Authenticated,
    Batch,
    Checkpoint,
    CheckpointCertificate,
    Commit,
    Evidence,
    NewView,
    Prepare,
    PreparedCertificate,
    PrePrepare,
    Proposal,
    QueryStable,
    ReplyStable,
    Request,
    RequestKind,
    ViewChange,
)
from bft.testing.checkers import Checker
from bft.testing.options import Options
from bft.testing.scheduler import Scheduler
from bft.testing.symbolic import ClientSigner, Registry, SymbolicSigner
from bft.testing.trace import Trace
from bft.testing.violation import Violation

A, B = b"a" * 32, b"b" * 32


class World:
    """A checker, and replicas that do what a test says."""

    def __init__(self, n=4, **options):
        self.registry = Registry(n)
        self.checker = Checker(Options(seed=0, n=n, **options), self.registry, Scheduler(0), Trace())
        self.signers = [SymbolicSigner(self.registry, replica) for replica in range(n)]
        self.hosts = [self._host(replica) for replica in range(n)]

    def _host(self, replica):
        sizes = {"slots": 0, "held": 0, "pending": 0, "sessions": 0}
        core = SimpleNamespace(last_executed=0, view=0, active=True, sizes=sizes, state_root=A)
        state = SimpleNamespace(applied=[], root_at=lambda _: None)
        return SimpleNamespace(id=replica, correct=True, core=core, state=state, incarnation=1)

    def step(self, replica, *effects, last_executed=0):
        self.hosts[replica].core.last_executed = last_executed
        self.checker.on_step(self.hosts[replica], Tick(), list(effects))
        self.checker.on_durable(self.hosts[replica], [e.record for e in effects if isinstance(e, Persist)])

    def say(self, replica, header):
        """A proposal, durable and sent."""
        self.checker.on_durable(self.hosts[replica], [Accepted(Proposal(header, Batch(1, ())), None)])
        self.checker.on_sent(self.hosts[replica], Proposal(header, Batch(1, ())))

    def hear(self, replica, sender, message, *effects):
        self.checker.on_step(self.hosts[replica], Received(sender, message), list(effects))

    def roll_back(self, replica, since=0):
        self.checker.on_crash(self.hosts[replica])
        self.checker.amnesia.strike(self.hosts[replica], told=False, since=since)
        self.checker.on_restart(self.hosts[replica])

    def answer(self, replica, peer):
        answer = ReplyStable(9, 0, GENESIS, (), ())
        self.hear(peer, replica, QueryStable(9, 0, 0), Send(replica, answer))
        self.hear(replica, peer, answer)

    def execute(self, replica, seq, batch, *operations):
        self.hosts[replica].state.applied += [(seq, batch.time_ns, b"client", operation) for operation in operations]
        self.step(replica, Executed(seq, 0, batch, len(operations)), last_executed=seq)

    def header(self, digest, view=0, seq=1):
        primary = view % len(self.signers)
        return self.signers[primary].sign(PrePrepare(view, seq, digest, primary))

    def prepared(self, digest, voters=(1, 2), view=0):
        header = self.header(digest, view)
        certificate = PreparedCertificate(header, tuple(self.signers[v].sign(Prepare(header, v)) for v in voters))
        return Persist(Prepared(certificate, self.signers[1].sign(Commit(view, 1, digest, 1))))

    def stable(self, root, voters=(0, 1, 2)):
        votes = tuple(self.signers[v].sign(Checkpoint(4, root, v)) for v in voters)
        return Persist(Stable(CheckpointCertificate(votes)))


@pytest.fixture
def world():
    return World()


def test_two_histories_are_a_violation(world):
    world.execute(0, 1, Batch(1, ()))
    with pytest.raises(Violation, match="executed"):
        world.execute(1, 1, Batch(2, ()))


def test_a_gap_is_a_violation(world):
    with pytest.raises(Violation, match="executed 2 after 0"):
        world.execute(0, 2, Batch(1, ()))


def test_an_operation_executed_at_two_sequence_numbers_is_a_violation(world):
    world.execute(0, 1, Batch(1, ()), b"operation")
    with pytest.raises(Violation, match="executed again"):
        world.execute(0, 2, Batch(2, ()), b"operation")


def test_an_operation_executed_twice_in_a_batch_is_a_violation(world):
    with pytest.raises(Violation, match="twice"):
        world.execute(0, 1, Batch(1, ()), b"operation", b"operation")


def test_an_operation_that_only_one_replica_executes_is_a_violation(world):
    world.execute(0, 1, Batch(1, ()), b"operation")
    with pytest.raises(Violation, match="other operations"):
        world.execute(1, 1, Batch(1, ()))


def test_a_request_that_no_client_signed_is_a_violation(world):
    forged = Authenticated(Request(A, 1, 1, 0, RequestKind.APPLICATION, (b"x",)), b"payload", b"signature")
    with pytest.raises(Violation, match="never signed"):
        world.execute(0, 1, Batch(1, (forged,)))


def test_two_prepared_digests_in_one_view_are_a_violation(world):
    world.step(1, world.prepared(A))
    with pytest.raises(Violation, match="two digests are prepared"):
        world.step(2, world.prepared(B))


def test_a_prepared_certificate_short_of_a_quorum_is_a_violation(world):
    with pytest.raises(Violation, match="no quorum prepared"):
        world.step(1, world.prepared(A, voters=(1,)))


def test_a_prepared_certificate_with_one_voter_twice_is_a_violation(world):
    with pytest.raises(Violation, match="no quorum prepared"):
        world.step(1, world.prepared(A, voters=(1, 1)))


def test_two_roots_of_one_checkpoint_are_a_violation(world):
    world.step(1, world.stable(A))
    with pytest.raises(Violation, match="two roots"):
        world.step(2, BecameStable(4, B))


def test_a_stable_checkpoint_short_of_a_quorum_is_a_violation(world):
    with pytest.raises(Violation, match="no quorum"):
        world.step(1, world.stable(A, voters=(0, 1)))


def test_a_view_that_goes_back_is_a_violation(world):
    world.hosts[0].core.view = 2
    world.step(0)
    world.hosts[0].core.view = 1
    with pytest.raises(Violation, match="went back"):
        world.step(0)


def test_a_vote_sent_before_it_is_durable_is_a_violation(world):
    with pytest.raises(Violation, match="disk does not hold"):
        world.checker.on_sent(world.hosts[1], world.signers[1].sign(Commit(0, 1, A, 1)))


def test_a_replica_that_contradicts_itself_is_a_violation(world):
    first, second = world.header(A), world.header(B)
    for header in (first, second):
        world.checker.on_durable(world.hosts[0], [Accepted(Proposal(header, Batch(1, ())), None)])
    world.checker.on_sent(world.hosts[0], Proposal(first, Batch(1, ())))
    with pytest.raises(Violation, match="contradicts itself"):
        world.checker.on_sent(world.hosts[0], Proposal(second, Batch(1, ())))


def test_what_a_replica_lost_and_nobody_who_answered_held_it_may_contradict():
    world = World(rollbacks=1)
    first, second = world.header(A), world.header(B)
    world.say(0, first)
    world.hear(1, 0, Proposal(first, Batch(1, ())))
    world.roll_back(0)
    world.answer(0, peer=2)
    world.step(0, Rejoined(was_silenced=False))
    world.say(0, second)
    world.step(1, EvidenceFound(Evidence(first, second)))


def test_to_speak_after_an_answer_of_who_holds_what_was_lost_is_a_violation():
    world = World(rollbacks=1)
    header = world.header(A)
    world.say(0, header)
    world.hear(1, 0, Proposal(header, Batch(1, ())))
    world.roll_back(0)
    world.answer(0, peer=1)
    with pytest.raises(Violation, match="was shown what it lost"):
        world.step(0, Rejoined(was_silenced=False))


def test_after_an_unnoticed_rollback_two_new_votes_that_contradict_each_other_are_a_violation():
    world = World(rollbacks=1)
    world.say(0, world.header(A, seq=1))
    world.roll_back(0)
    world.step(0, Rejoined(was_silenced=False))
    first, second = world.header(A, seq=2), world.header(B, seq=2)
    world.say(0, first)
    with pytest.raises(Violation, match="contradicts itself"):
        world.say(0, second)
    with pytest.raises(Violation, match="accuses the correct replica 0"):
        world.step(1, EvidenceFound(Evidence(first, second)))


def test_after_an_unnoticed_rollback_to_contradict_what_the_copy_held_is_a_violation():
    world = World(rollbacks=1)
    world.say(0, world.header(A, seq=1))
    world.say(0, world.header(A, seq=2))
    world.roll_back(0, since=1)
    world.step(0, Rejoined(was_silenced=False))
    with pytest.raises(Violation, match="contradicts itself"):
        world.say(0, world.header(B, seq=1))


def test_a_replica_that_was_silenced_may_contradict_nothing():
    world = World(rollbacks=1)
    world.say(0, world.header(A))
    world.roll_back(0)
    world.step(0, Rejoined(was_silenced=True))
    with pytest.raises(Violation, match="contradicts itself"):
        world.say(0, world.header(B))


def test_the_accusation_of_a_correct_replica_is_a_violation(world):
    with pytest.raises(Violation, match="accuses the correct replica 0"):
        world.step(1, EvidenceFound(Evidence(world.header(A), world.header(B))))


def test_the_accusation_of_a_byzantine_replica_is_right():
    world = World(byzantine=((0, "silent"),))
    world.step(1, EvidenceFound(Evidence(world.header(A), world.header(B))))


def test_evidence_that_proves_nothing_is_a_violation():
    world = World(byzantine=((0, "silent"),))
    with pytest.raises(Violation, match="proves nothing"):
        world.step(1, EvidenceFound(Evidence(world.header(A), world.header(B, view=4))))


def test_an_agreed_clock_that_runs_backwards_is_a_violation(world):
    world.execute(0, 1, Batch(2, ()), b"one")
    with pytest.raises(Violation, match="clock"):
        world.execute(0, 2, Batch(1, ()), b"two")


def test_joining_a_view_change_that_only_faulty_replicas_want_is_a_violation(world):
    with pytest.raises(Violation, match="no correct replica wants"):
        world.step(0, ViewChangeStarted(5, ViewChangeCause.JOINED))


def test_a_restart_from_before_the_truncated_log_is_a_violation(world):
    world.checker.on_truncated(world.hosts[0], 4)
    with pytest.raises(Violation, match="recovered 0, its log and snapshot reach 4"):
        world.checker.on_restart(world.hosts[0])


def test_what_one_replica_executed_and_lost_in_a_crash_did_not_happen(world):
    """Its reply had not left either: both wait for the disk."""
    world.execute(0, 1, Batch(1, ()), b"one")
    world.checker.on_crash(world.hosts[0])
    world.hosts[0].core.last_executed = 0
    world.checker.on_restart(world.hosts[0])
    world.execute(1, 1, Batch(2, ()), b"two")
    with pytest.raises(Violation, match="executed"):
        world.execute(0, 1, Batch(1, ()), b"one")


def test_what_was_executed_and_is_durable_outlives_the_crash(world):
    commits = tuple(world.signers[r].sign(Commit(0, 1, Batch(1, ()).digest, r)) for r in range(3))
    world.checker.on_durable(world.hosts[0], [Committed(commits)])
    world.execute(0, 1, Batch(1, ()), b"one")
    world.checker.on_crash(world.hosts[0])
    with pytest.raises(Violation, match="executed"):
        world.execute(1, 1, Batch(2, ()), b"two")


def crashed_after(world, seq):
    """Replica 0 executed up to `seq`, all of it durable, and crashed."""
    for at in range(1, seq + 1):
        batch = Batch(at, ())
        commits = tuple(world.signers[r].sign(Commit(0, at, batch.digest, r)) for r in range(3))
        world.checker.on_durable(world.hosts[0], [Committed(commits)])
        world.execute(0, at, batch)
    world.checker.on_crash(world.hosts[0])


def test_a_replay_that_stops_short_of_the_durable_log_is_a_violation(world):
    crashed_after(world, 2)
    world.hosts[0].core.last_executed = 1
    with pytest.raises(Violation, match="recovered 1, its log and snapshot reach 2"):
        world.checker.on_restart(world.hosts[0])


def test_a_replay_that_gives_another_state_is_a_violation(world):
    crashed_after(world, 2)
    world.hosts[0].core.state_root = B
    with pytest.raises(Violation, match="another state at 2"):
        world.checker.on_restart(world.hosts[0])


def test_a_replay_that_gives_the_same_state_is_none(world):
    crashed_after(world, 2)
    world.checker.on_restart(world.hosts[0])


def test_a_new_view_that_does_not_follow_from_its_view_changes_is_a_violation(world):
    changes = tuple(world.signers[r].sign(ViewChange(1, GENESIS, (), r)) for r in range(3))
    entered = world.signers[1].sign(NewView(1, changes, (world.header(A, view=1),), 1))
    with pytest.raises(Violation, match="other headers than its view changes call for"):
        world.step(0, Persist(EnteredView(entered)))


def test_a_new_view_that_nulls_what_was_prepared_is_a_violation(world):
    certificate = world.prepared(A).record.certificate
    changes = tuple(world.signers[r].sign(ViewChange(1, GENESIS, (certificate,), r)) for r in range(3))
    null = world.header(NULL_DIGEST, view=1)
    entered = world.signers[1].sign(NewView(1, changes, (null,), 1))
    with pytest.raises(Violation, match="other headers than its view changes call for"):
        world.step(0, Persist(EnteredView(entered)))


def test_a_new_view_without_what_committed_before_is_a_violation(world):
    commits = tuple(world.signers[r].sign(Commit(0, 1, A, r)) for r in range(3))
    world.step(0, Persist(Committed(commits)))
    changes = tuple(world.signers[r].sign(ViewChange(1, GENESIS, (), r)) for r in range(3))
    entered = world.signers[1].sign(NewView(1, changes, (), 1))
    with pytest.raises(Violation, match="begins without what committed at 1"):
        world.step(0, Persist(EnteredView(entered)))


def test_a_log_beyond_its_window_is_a_violation(world):
    world.hosts[0].core.sizes["slots"] = 17
    for _ in range(15):
        world.step(0)
    with pytest.raises(Violation, match="17 slots"):
        world.step(0)


def test_a_signature_exists_only_for_the_owner_of_the_handle():
    registry = Registry(4)
    with pytest.raises(ValueError, match="cannot sign"):
        SymbolicSigner(registry, 1).sign(Commit(0, 1, A, 2))
    with pytest.raises(ValueError, match="its own"):
        ClientSigner(registry, A).sign(Request(B, 1, 1, 0, RequestKind.APPLICATION, (b"x",)))


def test_a_forged_statement_inside_a_signed_one_is_refused():
    registry = Registry(4)
    forged = Authenticated(Checkpoint(4, A, 0), b"", b"signature")
    signed = SymbolicSigner(registry, 1).sign(ViewChange(1, CheckpointCertificate((forged,)), (), 1))
    assert not registry.accepts(signed)
    assert registry.accepts(SymbolicSigner(registry, 1).sign(ViewChange(1, GENESIS, (), 1)))
