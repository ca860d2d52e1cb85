"""Everything that decides a simulated run; printed in full for each seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any

from bft.core.parameters import Parameters
from bft.testing.byzantine import draw
from bft.testing.byzantine_clients import SWARM as CLIENT_SWARM
from bft.testing.scheduler import MS, SECOND
from bft.testing.twins import Round, draw_rounds


class Family(StrEnum):
    """Kinds of faults that a seed switches on and off (swarm testing)."""

    LOSS = "loss"
    DELAY = "delay"
    REORDER = "reorder"
    DUPLICATE = "duplicate"
    PARTITION = "partition"
    ASYMMETRIC = "asymmetric"
    CRASH = "crash"
    PAUSE = "pause"
    CLOCK = "clock"
    CRASH_STOP = "crash-stop"
    BYZANTINE = "byzantine"
    BYZANTINE_CLIENT = "byzantine-client"
    TWINS = "twins"
    LOST_DISK = "lost-disk"
    ROLLBACK = "rollback"


ALL_FAMILIES = tuple(Family)
_KEYED_EVERY = 100  # seeds: one of them with real signatures and real bytes
_DELAYS_A_REQUEST = 10  # five from client to result, and as many again for view changes and retransmission
STANDARD_REQUESTS = 200  # of all clients of a drawn seed
_OF_DISKS = (Family.LOST_DISK, Family.ROLLBACK)
_DRAWN_APART = (
    Family.BYZANTINE_CLIENT,
    Family.TWINS,
    *_OF_DISKS,
)  # with chances of their own: the others' seeds stay what they were
# limits that Byzantine clients of a simulated cluster can reach
_TIGHT: dict[str, Any] = {
    "pending_requests_max": 256,
    "pending_per_origin_max": 64,
    "session_window": 16,
    "sessions_max": 48,
    "sessions_per_client_max": 6,
}
QUICK_NS = 1 * MS  # mean delay of a message, when delay is no fault


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """One run; equal options give an equal run, event for event.  Times in nanoseconds of virtual time."""

    seed: int
    n: int = 4
    families: tuple[Family, ...] = ()  # what was drawn; the fields below say what came of it

    clients: int = 3
    requests: int = 12  # of each client
    operations: int = 2  # in one request, at most
    in_flight: int = 4  # requests of one client
    fast_reads: bool = False  # clients accept results on a quorum of replies
    think_ns: int = 300 * MS  # mean pause of a client before its next request

    checkpoint_interval: int = 4
    window: int = 16
    pipeline_depth: int = 4
    batch_requests_max: int = 8
    request_timeout_ns: int = 800 * MS
    view_change_timeout_ns: int = 800 * MS

    fault_phase_ns: int = 6 * SECOND
    liveness_bound_ns: int = 240 * SECOND  # from healing to the last result, were messages there at once
    events_max: int = 3_000_000
    delay_ns: int = QUICK_NS  # mean, one way
    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    sync_ns: int = 500_000  # mean of one fsync
    snapshot_ns: int = 5 * MS  # mean time to save a snapshot
    round_events_max: int = 1  # that a replica absorbs before it settles once; 1: each by itself
    round_ns: int = MS  # how long after its first event a round ends, if it is not full before
    partitions: int = 0
    asymmetric_cuts: int = 0
    crashes: int = 0  # each followed by a restart
    pauses: int = 0
    clock_offset_ns: int = 0  # wall clocks differ by up to twice this
    clock_drift_ppm: int = 0
    clock_steps: int = 0
    lost_disks: int = 0  # each strikes only while fewer than f replicas are faulty otherwise
    rollbacks: int = 0  # likewise: an older copy of the disk is put in place
    crash_stop: tuple[int, ...] = ()  # replicas that stop for good, at some time of the fault phase
    cut_off: tuple[tuple[int, int, int], ...] = ()  # (replica, from, until): reaches nobody, and nobody it
    byzantine: tuple[tuple[int, str], ...] = ()  # (replica, behaviour), active to the end
    byzantine_clients: tuple[str, ...] = ()  # behaviours, any number of them, active to the end
    twins: tuple[int, ...] = ()  # replicas that run twice: two correct cores, two disks, one key
    rounds: tuple[Round, ...] = ()  # of the fault phase, one after the other: who can talk with whom
    omitted: tuple[
        str, ...
    ] = ()  # faults, by kind and index as "crash 2", that do not strike; see `bft.testing.shrinking`
    keyed: bool = False  # real Ed25519 and the real codec; else signatures are symbolic
    promised: bool = True  # False: more than f may be faulty, and safety is not demanded

    def __post_init__(self) -> None:
        faulty = {replica for replica, _ in self.byzantine} | set(self.crash_stop) | set(self.twins)
        if self.promised and len(faulty) > (self.n - 1) // 3:
            raise ValueError(f"{len(faulty)} faulty replicas of {self.n}: no promise holds")

    @classmethod
    def draw(cls, seed: int, n: int, families: Sequence[Family] = ALL_FAMILIES) -> Options:
        """Options of a seed: each family is on in about half of the seeds."""
        chance = random.Random(f"options {seed} {n}")  # hashed with SHA-512: the same in every process
        on = {family for family in Family if family not in _DRAWN_APART and chance.random() < 0.5} & set(families)
        f = (n - 1) // 3
        count = chance.randint(1, f) if f and Family.BYZANTINE in on else 0
        texts = [draw(chance) for _ in range(count)]
        byzantine = chance.sample(range(n), count)
        # the first primary is the most interesting one to corrupt; who lies about new views should lead the second
        target = int(any("new_view" in text for text in texts))
        if byzantine and target not in byzantine and chance.random() < 0.6:
            byzantine[0] = target
        others = [replica for replica in range(n) if replica not in byzantine]
        spare = f - len(byzantine)
        stopped = chance.sample(others, chance.randint(1, spare)) if spare and Family.CRASH_STOP in on else []
        apart = random.Random(f"twins and clients {seed} {n}")
        twins = apart.random() < 0.1 and f > len(byzantine) + len(stopped) and Family.TWINS in families
        hostile = apart.random() < 0.25 and Family.BYZANTINE_CLIENT in families
        on |= ({Family.TWINS} if twins else set()) | ({Family.BYZANTINE_CLIENT} if hostile else set())
        twin = apart.choice([replica for replica in others if replica not in stopped])
        disks = random.Random(f"disks {seed} {n}")
        spare -= len(stopped) + twins
        on |= {family for family in _OF_DISKS if disks.random() < 0.5 and spare and family in families}
        lost_disks = disks.randint(1, 4) if Family.LOST_DISK in on else 0
        rollbacks = disks.randint(1, 4) if Family.ROLLBACK in on else 0
        round_ = random.Random(f"round {seed} {n}")
        interval = chance.choice((2, 4, 8))
        clients = chance.choice((1, 2, 4))
        requests = STANDARD_REQUESTS // clients
        timeout = chance.randint(400, 1200) * MS
        return cls(
            seed=seed,
            n=n,
            families=tuple(family for family in Family if family in on),
            clients=clients,
            requests=requests,
            operations=chance.randint(1, 3),
            in_flight=chance.randint(1, 6),
            think_ns=chance.choice((6 * SECOND, 3 * SECOND)) // requests,
            checkpoint_interval=interval,
            window=interval * chance.choice((2, 3, 4)),
            pipeline_depth=chance.randint(1, 2 * interval),
            batch_requests_max=chance.choice((1, 2, 8)),
            request_timeout_ns=timeout,
            view_change_timeout_ns=timeout,
            delay_ns=chance.choice((20, 100, 300)) * MS if Family.DELAY in on else QUICK_NS,
            loss=chance.choice((0.02, 0.1, 0.25)) if Family.LOSS in on else 0.0,
            duplicate=chance.choice((0.02, 0.2)) if Family.DUPLICATE in on else 0.0,
            reorder=chance.choice((0.05, 0.3)) if Family.REORDER in on else 0.0,
            sync_ns=chance.choice((100_000, 500_000, 20 * MS)),
            snapshot_ns=chance.choice((1 * MS, 20 * MS, SECOND)),
            round_events_max=round_.choice((1, 4, 16, 64)),
            round_ns=round_.choice((100_000, MS, 5 * MS)),
            partitions=chance.randint(1, 4) if Family.PARTITION in on else 0,
            asymmetric_cuts=chance.randint(1, 4) if Family.ASYMMETRIC in on else 0,
            crashes=chance.randint(1, 2 * n) if Family.CRASH in on else 0,
            pauses=chance.randint(1, 4) if Family.PAUSE in on else 0,
            clock_offset_ns=chance.randint(0, 5 * SECOND) if Family.CLOCK in on else 0,
            clock_drift_ppm=chance.randint(0, 500) if Family.CLOCK in on else 0,
            clock_steps=chance.randint(0, 3) if Family.CLOCK in on else 0,
            lost_disks=lost_disks,
            rollbacks=rollbacks,
            crash_stop=tuple(sorted(stopped)),
            byzantine=tuple(sorted(zip(byzantine, texts, strict=True))),
            keyed=seed % _KEYED_EVERY == 0,
            byzantine_clients=tuple(apart.choices(CLIENT_SWARM, k=apart.randint(1, 3)) if hostile else ()),
            twins=(twin,) if twins else (),
            rounds=draw_rounds(apart, instances=n + 1, phase_ns=6 * SECOND) if twins else (),
        )

    @property
    def patience_ns(self) -> int:
        """From healing to the last result: each request may have to wait for the one before it.

        A Byzantine client has a turn between two of a correct one's on its own link and, by relay, on every backup's.
        """
        turns = self.clients
        if self.byzantine_clients:
            turns += len(self.byzantine_clients) + self.n - 1
        return self.liveness_bound_ns + _DELAYS_A_REQUEST * turns * self.requests * self.delay_ns

    @property
    def spare(self) -> int:
        """How many more replicas may be faulty at any one time."""
        faulty = {replica for replica, _ in self.byzantine} | set(self.crash_stop) | set(self.twins)
        return max(0, (self.n - 1) // 3 - len(faulty))

    @property
    def behaviours(self) -> list[str]:
        """Every Byzantine behaviour of the run, by name and by whose it is."""
        whose = [("primary of view 0" if replica == 0 else "backup", text) for replica, text in self.byzantine]
        whose += [("client", text) for text in self.byzantine_clients]
        return [f"{part} as {who}" for who, text in whose for part in text.split("+")]

    @property
    def parameters(self) -> Parameters:
        """The replicas' parameters: small windows and short time-outs, so that every edge is met often."""
        return Parameters(
            n=self.n,
            fast_reads=self.fast_reads,
            checkpoint_interval=self.checkpoint_interval,
            window=self.window,
            pipeline_depth=min(self.pipeline_depth, self.window),
            batch_requests_max=self.batch_requests_max,
            request_timeout_ns=self.request_timeout_ns,
            view_change_timeout_ns=self.view_change_timeout_ns,
            timeout_doublings_max=4,
            archive_batches_max=3 * self.window,
            transfer_nodes_max=16,
            transfer_timeout_ns=300 * MS,
            held_messages_max=128,
            rejoin_interval_ns=10 * SECOND,
            courtesy_wait_ns=3 * SECOND,
            courtesy_doublings_max=4,
            **(_TIGHT if self.byzantine_clients else {}),
        )

    def describe(self) -> str:
        """All of it on one line, as it would be written."""
        return "Options(" + ", ".join(f"{f.name}={_written(getattr(self, f.name))}" for f in fields(self)) + ")"

    @property
    def replay(self) -> str:
        """The command that runs this seed again, on one line."""
        if self == Options.draw(self.seed, self.n):
            return f"bft sim --seed {self.seed} -n {self.n}"
        if self.families and self == Options.draw(self.seed, self.n, self.families):
            return f"bft sim --seed {self.seed} -n {self.n}" + "".join(
                f" --family {family}" for family in self.families
            )
        return f"python -c 'from bft.testing.simulation import *; simulate({self.describe()}, print)'"


def _written(value: object) -> str:
    """As Python reads it, in double quotes only."""
    if isinstance(value, tuple):
        return "(" + "".join(f"{_written(item)}, " for item in value) + ")"
    return f'"{value}"' if isinstance(value, str) else repr(value)
