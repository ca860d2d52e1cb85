"""Replicas that collude: f of them achieve nothing; f + 1 do, and are named, and nobody else."""

import pytest

from bft.core.audit import audit
from bft.core.messages import ViewChange
from bft.testing.bystander import Bystander
from bft.testing.options import Options
from bft.testing.scheduler import MS, SECOND
from bft.testing.simulation import Simulation, scenario

pytestmark = pytest.mark.sim

TOGETHER = ["fork_together", "forget_together", "certify_together", "launder"]


@pytest.mark.parametrize("behaviour", TOGETHER)
def test_f_colluders_achieve_nothing(behaviour):
    """Two of seven, the first two primaries among them, while messages are lost and links are cut."""
    scenario(
        n=7,
        byzantine=((0, behaviour), (1, behaviour)),
        byzantine_clients=("bad_signature",),
        loss=0.05,
        partitions=2,
        requests=8,
    )


@pytest.mark.parametrize("together", ["fork_together+certify_together", "launder+certify_together"])
def test_colluders_that_do_everything_together_achieve_nothing(together):
    scenario(n=7, byzantine=((0, together), (1, together)), byzantine_clients=("two_faced",), requests=8)


def test_requests_that_a_colluding_primary_launders_are_not_executed():
    """Its proposals are refused at the door, all others' requests wait, and it loses its view."""
    run = scenario(byzantine=((0, "launder"),), byzantine_clients=("bad_signature",))
    assert run.view > 0
    assert run.accepted == 36


def broken(*, n, colluders, behaviour, groups, seed=0, **settings):
    """A world of f + 1 colluders: where it forked, and whom the correct replicas' logs convict afterwards.

    The checker of such a world still demands that no correct replica is accused by any evidence.
    """
    rounds = ((2 * SECOND, groups),)
    options = Options(
        seed=seed,
        n=n,
        byzantine=tuple((colluder, behaviour) for colluder in colluders),
        rounds=rounds,
        promised=False,
        fault_phase_ns=2 * SECOND,
        think_ns=50 * MS,
        **settings,
    )
    world = Simulation(options)
    world.watch(5 * SECOND)
    assert isinstance(world.checker, Bystander)
    logs = [host.disk.recover()[0] for host in world.hosts if host.correct]
    return world.checker.forked_at, [proof.accused for proof in audit(logs)]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("first", [0, 1, 2, 3])
def test_f_plus_1_of_four_fork_the_others_and_an_audit_names_exactly_them(seed, first):
    """An equivocating primary and a backup that votes for both its batches, between two that cannot talk."""
    colluders = sorted({first, (first + 1) % 4})
    one, other = (replica for replica in range(4) if replica not in colluders)
    forked_at, accused = broken(
        seed=seed, n=4, colluders=colluders, behaviour="fork_together", groups=((*colluders, one), (*colluders, other))
    )
    if first in (0, 3):  # the primary of view 0 is one of them
        assert forked_at is not None
    if forked_at is not None:
        assert accused == colluders


@pytest.mark.parametrize("seed", range(3))
def test_f_plus_1_of_seven_fork_the_others_and_an_audit_names_exactly_them(seed):
    forked_at, accused = broken(
        seed=seed, n=7, colluders=(0, 1, 2), behaviour="fork_together", groups=((0, 1, 2, 3, 4), (0, 1, 2, 5, 6))
    )
    assert forked_at is not None
    assert accused == [0, 1, 2]


def test_who_denies_in_a_new_view_what_was_committed_before_is_named():
    """No statement contradicts another at one place: the COMMITs convict, and the VIEW-CHANGEs that hide them."""
    rounds = ((SECOND, ((0, 1, 2), (3,))), (3 * SECOND, ((0, 1, 3), (2,))))
    world = Simulation(
        Options(
            seed=0,
            byzantine=((0, "forget_together"), (1, "forget_together")),
            rounds=rounds,
            promised=False,
            fault_phase_ns=4 * SECOND,
            think_ns=50 * MS,
            requests=80,
            checkpoint_interval=512,
            window=1024,
        )
    )
    world.watch(2 * SECOND)
    proofs = audit([host.disk.recover()[0] for host in world.hosts if host.correct])
    assert [proof.accused for proof in proofs] == [0, 1]
    assert {type(proof.second.message) for proof in proofs} == {ViewChange}


def test_an_audit_of_one_log_alone_names_nobody():
    """Each half was shown one consistent story."""
    options = Options(
        seed=0,
        byzantine=((0, "fork_together"), (1, "fork_together")),
        rounds=((2 * SECOND, ((0, 1, 2), (0, 1, 3))),),
        promised=False,
        fault_phase_ns=2 * SECOND,
    )
    world = Simulation(options)
    world.watch(0)
    assert audit([world.hosts[2].disk.recover()[0]]) == []


@pytest.mark.parametrize("seed", range(4))
def test_an_audit_of_correct_replicas_names_nobody_correct(seed):
    """Crashes, partitions and view changes make nobody look like a liar."""
    world = Simulation(
        Options(seed=seed, crashes=6, partitions=3, byzantine=((seed % 4, "equivocate_votes"),), loss=0.1)
    )
    world.run()
    accused = {proof.accused for proof in audit([host.disk.recover()[0] for host in world.hosts if host.correct])}
    assert accused <= {seed % 4}
