from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy import launcher
from deploy.ports import free_base_port
from tests.e2e.harness import Cluster


def make(directory: Path) -> Cluster:
    cluster = Cluster(directory)
    cluster.bft("cluster", "init", cluster.directory, "--replicas", "4", "--base-port", str(free_base_port(4)))
    return cluster


def stop(cluster: Cluster) -> None:
    launcher.stop([cluster.replica(replica) for replica in range(4)], grace_s=5.0)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster that was made and not started; whatever runs of it at the end is ended."""
    cluster = make(tmp_path / "c")
    yield cluster
    stop(cluster)


@pytest.fixture
def running(cluster: Cluster) -> Cluster:
    """A cluster of the test's own, which may break it."""
    cluster.up()
    return cluster


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A running cluster for tests that claim to leave it unharmed."""
    cluster = make(tmp_path_factory.mktemp("shared") / "c")
    cluster.up()
    yield cluster
    stop(cluster)
