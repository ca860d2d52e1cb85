"""Replica processes that misbehave on purpose: clients go on, nothing acknowledged is lost, no other is accused."""

import asyncio
import json

import pytest

from bft.client import connect
from bft.errors import ExitCode
from deploy import launcher
from tests.e2e.harness import Cluster, load, read_back

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e")]

# who, how, and whether evidence must have been found
QUICK = [
    ("0=equivocate_split + lying_replies", True),
    ("3=garbage_signatures + flood(times=1)", False),
    ("0=after(1s, malformed_requests)", False),
]
LONG = [
    ("0=equivocate_each@signal", False),
    ("0=after(1s, jump_to_high)", None),
    ("0=after(1s, censor)", False),
    ("0=after(1s, oversized_batch)", False),
    ("0=after(1s, unsigned_requests)", False),
    ("0=after(1s, clock_ahead)", False),
    ("0=after(1s, below_watermarks)", None),
    ("0=slow_primary(percent=20)", False),
    ("0=until(3s, replayed_requests + duplicate_requests)", False),
    ("0=then(silent_to_f, 1s, silent)", False),
    ("2=equivocate_votes + equivocate_checkpoints", None),
    ("2=huge_certificates + view_max", None),
    ("2=view_change_spam(jump=1000)", None),
    ("2=forged_certificates + overcounted_transfer", None),
    ("1=split_replies + stale_reads", False),
    ("1=with_probability(0.5, only_to(2|3, early_commits + replay))", False),
]


async def _writes_go_on(cluster: Cluster) -> None:
    async with connect(cluster.directory, timeout=60.0) as client:
        async with load(client) as seen:
            await seen.grows(by=200)
        held = await read_back(client)
    assert seen.done.items() <= held.items()


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("behaviour", "convicted"), [*QUICK, *(pytest.param(*case, marks=pytest.mark.slow) for case in LONG)]
)
def test_with_one_faulty_process_clients_go_on_and_nobody_correct_is_accused(
    cluster: Cluster, behaviour: str, convicted: bool | None
) -> None:
    culprit = int(behaviour[0])
    cluster.up("--behaviour", behaviour)
    asyncio.run(_writes_go_on(cluster))
    log = launcher.tail(cluster.replica(culprit) / launcher.LOG_FILE, 10_000)
    assert any("BYZANTINE on purpose" in line for line in log)
    listed = json.loads(cluster.bft("evidence", "list", cluster.directory, "--json"))
    accused = {entry["accused"] for entry in listed}
    assert accused <= {culprit}
    if convicted is not None:
        assert bool(accused) is convicted


def test_a_senseless_behaviour_is_one_line_that_says_what_makes_sense(cluster: Cluster) -> None:
    said = cluster.bft("cluster", "up", cluster.directory, "--behaviour", "0=after(2s)", code=ExitCode.CONFIGURATION)
    assert "write after(TIME, BEHAVIOUR)" in said
