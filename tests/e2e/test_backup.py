"""A backup of a running cluster, proven offline, and a new cluster that begins with it."""

import json
from pathlib import Path

import pytest

from bft.config import load_cluster
from bft.errors import ExitCode
from deploy import launcher
from deploy.ports import free_base_port
from tests.e2e.harness import Cluster

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e")]


@pytest.fixture
def cluster(cluster: Cluster) -> Cluster:
    for home in (cluster.directory, *(cluster.replica(i) for i in range(4))):
        path = home / "cluster.toml"
        path.write_text(path.read_text() + "\n[protocol]\ncheckpoint_interval = 4\nwindow = 8\n")
    cluster.up()
    for number in range(10):
        cluster.bft("kv", "put", f"k{number}", f"v{number}", "--cluster", cluster.directory)
    return cluster


def take(cluster: Cluster, out: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads(cluster.bft("backup", cluster.directory, "--out", out, "--json"))
    return found


def test_a_restored_cluster_has_what_was_certified_and_goes_on(cluster: Cluster, tmp_path: Path) -> None:
    out = tmp_path / "state.backup"
    taken = take(cluster, out)
    launcher.stop([cluster.replica(1)], grace_s=5.0)
    assert f"checkpoint {taken['seq']}, certified by" in cluster.bft(
        "backup", "verify", out, "--cluster", cluster.directory
    )
    again = Cluster(tmp_path / "again")
    try:
        cluster.bft(
            "restore", out, "--cluster", cluster.directory, "--out", again.directory, "-p", str(free_base_port(4))
        )
        assert load_cluster(again.directory).cluster != load_cluster(cluster.directory).cluster
        again.up()
        assert again.bft("kv", "get", "k3", "--cluster", again.directory) == "v3\n"
        for number in range(10):
            again.bft("kv", "put", "more", str(number), "--cluster", again.directory)
        again.bft("cluster", "down", again.directory)
        again.up()
        assert again.bft("kv", "get", "more", "--cluster", again.directory) == "9\n"
        roots = {json.loads(again.bft("backup", again.directory, "--out", tmp_path / "b2", "--json"))["root"]}
        assert roots != {taken["root"]}
    finally:
        launcher.stop([again.replica(i) for i in range(4)], grace_s=5.0)


def test_a_backup_that_is_damaged_forged_or_foreign_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    out = tmp_path / "state.backup"
    take(cluster, out)
    cluster.bft("backup", cluster.directory, "--out", out, code=ExitCode.ENVIRONMENT)
    whole = out.read_bytes()
    other = Cluster(tmp_path / "other")
    other.bft("cluster", "init", other.directory, "-n", "4")
    other.bft("backup", "verify", out, "--cluster", other.directory, code=ExitCode.VERIFICATION)
    for position in range(0, len(whole), len(whole) // 16):
        damaged = bytearray(whole)
        damaged[position] ^= 4
        out.write_bytes(damaged)
        said = cluster.bft("backup", "verify", out, "--cluster", cluster.directory, code=ExitCode.VERIFICATION)
        assert said.startswith("error: ")


def test_a_client_may_not_read_the_whole_state(cluster: Cluster, tmp_path: Path) -> None:
    out = tmp_path / "state.backup"
    said = cluster.bft("backup", cluster.directory, "--out", out, "--as", "default", code=ExitCode.CONFIGURATION)
    assert "read by an administrator" in said


def test_a_replica_with_another_genesis_does_not_start(cluster: Cluster, tmp_path: Path) -> None:
    out = tmp_path / "state.backup"
    take(cluster, out)
    again = Cluster(tmp_path / "again")
    again.bft("restore", out, "--cluster", cluster.directory, "--out", again.directory, "-p", str(free_base_port(4)))
    genesis = again.replica(0) / "genesis"
    genesis.write_bytes(genesis.read_bytes()[:-9] + b"\0" * 9)
    said = again.bft("replica", "run", again.replica(0), code=ExitCode.DATA_DIRECTORY)
    assert "damaged" in said
