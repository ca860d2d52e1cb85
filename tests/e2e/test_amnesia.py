"""Replicas whose data directory is deleted, or replaced by an older copy, rejoin by themselves."""

import shutil
from pathlib import Path

import pytest

from bft.errors import ExitCode
from deploy import launcher
from tests.e2e.harness import Cluster, kill, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e")]
WINDOW = 16


@pytest.fixture
def quick(cluster: Cluster) -> Cluster:
    """A running cluster of small windows, so that little traffic passes them."""
    for home in (cluster.directory, *(cluster.replica(replica) for replica in range(4))):
        for config in home.glob("cluster.toml"):
            text = config.read_text()
            config.write_text(text + f"\n[protocol]\ncheckpoint_interval = {WINDOW // 2}\nwindow = {WINDOW}\n")
    cluster.up()
    return cluster


def put(cluster: Cluster, *keys: str) -> None:
    for key in keys:
        cluster.bft("kv", "put", key, "value", "--cluster", cluster.directory)


def silence(cluster: Cluster, replica: int) -> str | None:
    """None while it does not answer."""
    said: str | None = cluster.status()["replicas"][replica]["silence"]
    return said


def log_of(cluster: Cluster, replica: int) -> str:
    return (cluster.replica(replica) / launcher.LOG_FILE).read_text()


def data_of(cluster: Cluster, replica: int) -> Path:
    return cluster.replica(replica) / "data"


def its_vote_is_needed(cluster: Cluster, replica: int, *, without: int) -> None:
    """With another replica gone a quorum takes all that are left."""
    kill(cluster, without)
    put(cluster, f"with {replica} and without {without}")


@pytest.mark.timeout(300)
def test_a_replica_whose_directory_was_deleted_follows_and_then_votes_again(quick: Cluster) -> None:
    put(quick, *"abc")
    kill(quick, 3)
    shutil.rmtree(data_of(quick, 3))
    put(quick, *"def")
    quick.up("--replica", "3")
    assert "data directory lost" in log_of(quick, 3)
    wait_until(lambda: silence(quick, 3) == "")
    assert "signs nothing" in log_of(quick, 3)
    its_vote_is_needed(quick, 3, without=1)
    assert quick.bft("kv", "get", "a", "--cluster", quick.directory) == "value\n"


@pytest.mark.timeout(300)
def test_a_replica_whose_directory_is_an_older_copy_notices_and_votes_again(quick: Cluster, tmp_path: Path) -> None:
    put(quick, *"abc")
    quick.bft("cluster", "down", quick.directory)
    shutil.copytree(data_of(quick, 3), tmp_path / "copy")
    quick.up()
    put(quick, *"defgh")
    kill(quick, 3)
    shutil.rmtree(data_of(quick, 3))
    shutil.copytree(tmp_path / "copy", data_of(quick, 3))
    quick.up("--replica", "3")
    wait_until(lambda: silence(quick, 3) == "")
    assert "signs nothing" in log_of(quick, 3)
    its_vote_is_needed(quick, 3, without=2)


@pytest.mark.timeout(300)
def test_a_silent_replica_is_told_of_as_such(quick: Cluster) -> None:
    """With a second replica down it cannot pass its H: `bft cluster status` and `bft doctor` say what it waits for."""
    put(quick, "a")
    kill(quick, 3)
    kill(quick, 2)
    shutil.rmtree(data_of(quick, 3))
    quick.up("--replica", "3")
    wait_until(lambda: bool(silence(quick, 3)))
    assert "replica 3 does not vote: lost its disk" in quick.bft("doctor", quick.directory, code=ExitCode.UNAVAILABLE)
    quick.up("--replica", "2")
    wait_until(lambda: silence(quick, 3) == "")
    assert quick.status()["progress"]
