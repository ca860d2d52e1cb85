"""Real processes: who was stopped, or cut off, for thousands of operations comes back by itself."""

import asyncio
import json
import os
import signal
import urllib.request

import pytest

import bft
from bft.config import load_cluster
from tests.e2e.harness import Cluster, kill, load, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e")]
AWAY = 3_000  # operations; the window below is passed many times


def standing(cluster: Cluster, replica: int) -> tuple[int, str]:
    config = load_cluster(cluster.directory)
    with urllib.request.urlopen(f"http://{config.replicas[replica].admin}/status", timeout=5) as response:
        found = json.loads(response.read())
    return found["last_executed"], found["state_root"]


@pytest.fixture
def cluster(cluster: Cluster) -> Cluster:
    for home in (cluster.directory, *(cluster.replica(i) for i in range(4))):
        path = home / "cluster.toml"
        path.write_text(
            path.read_text() + "\n[protocol]\ncheckpoint_interval = 16\nwindow = 32\narchive_batches_max = 32\n"
        )
    return cluster


@pytest.mark.parametrize("how", ["stopped", "killed"])
async def test_a_replica_that_was_away_for_thousands_of_operations_comes_back_without_new_traffic(cluster, how):
    cluster.up()
    pid = cluster.pid(3)
    async with bft.connect(cluster.directory) as client, load(client) as seen:
        await seen.grows(by=50)
        if how == "stopped":
            os.kill(pid, signal.SIGSTOP)
        else:
            kill(cluster, 3)
        await seen.grows(by=AWAY // 2)
    if how == "stopped":
        os.kill(pid, signal.SIGCONT)
    else:
        cluster.up("--replica", "3")
    await asyncio.to_thread(wait_until, lambda: standing(cluster, 3) == standing(cluster, 1))
    if how == "stopped":
        assert cluster.pid(3) == pid
