"""Limits of replicas become control groups of either version, and where none can be made, one line says what to do."""

import os

import pytest

from bench.limits import Groups, Limits
from bft.errors import ConfigurationError, EnvironmentFailure

HALF = Limits(0.5, 256 << 20)


def version_2(root, *, handed_on: str, within: str = ""):
    """A hierarchy whose root, or a group in it, hands these controllers on."""
    (root / "cgroup.controllers").touch()
    (root / within).mkdir(parents=True, exist_ok=True)
    (root / within / "cgroup.subtree_control").write_text(handed_on)


def files(directory) -> dict[str, str]:
    return {path.name: path.read_text() for path in directory.iterdir()}


def test_version_2_gets_one_group_for_each_replica(tmp_path):
    version_2(tmp_path, handed_on="cpu memory pids")
    groups = Groups(HALF, tmp_path, "0::/\n")
    groups.confine(2, 4711)
    assert files(tmp_path / f"bft-bench-{os.getpid()}-2") == {
        "cpu.max": "50000 100000",
        "memory.max": "268435456",
        "cgroup.procs": "4711",
    }


def test_the_nearest_ancestor_that_hands_the_controllers_on_is_taken(tmp_path):
    version_2(tmp_path, handed_on="cpu")
    version_2(tmp_path, handed_on="cpu memory", within="user/one")
    (tmp_path / "user/one/scope").mkdir()
    Groups(HALF, tmp_path, "1:cpu:/elsewhere\n0::/user/one/scope\n").confine(0, 1)
    assert (tmp_path / "user/one" / f"bft-bench-{os.getpid()}-0").is_dir()


def test_version_1_has_a_group_for_each_controller(tmp_path):
    for controller in ("cpu", "memory"):
        (tmp_path / controller).mkdir()
        (tmp_path / controller / "cgroup.procs").touch()
    Groups(HALF, tmp_path, "").confine(0, 7)
    name = f"bft-bench-{os.getpid()}-0"
    assert files(tmp_path / "cpu" / name) == {"cpu.cfs_quota_us": "50000", "cgroup.procs": "7"}
    assert files(tmp_path / "memory" / name) == {"memory.limit_in_bytes": "268435456", "cgroup.procs": "7"}


def test_a_replica_that_came_back_joins_its_group_again(tmp_path):
    version_2(tmp_path, handed_on="cpu memory")
    groups = Groups(HALF, tmp_path, "0::/\n")
    groups.confine(0, 7)
    groups.confine(0, 8)
    assert (tmp_path / f"bft-bench-{os.getpid()}-0" / "cgroup.procs").read_text() == "8"


def test_where_no_group_can_be_made_one_line_says_what_to_do(tmp_path):
    with pytest.raises(EnvironmentFailure, match="run as root, as `systemd-run --user"):
        Groups(HALF, tmp_path, "0::/\n")


@pytest.mark.parametrize("memory", ["512", "512MB", "M", "63M", "-1G"])
def test_a_size_that_is_none_is_explained(memory):
    with pytest.raises(ConfigurationError, match="write it as 512M"):
        Limits.of(None, memory)
