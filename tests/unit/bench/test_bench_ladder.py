"""The ladder: which rungs there are, what their rows say, and that no figure of an unsafe run is among them."""

from pathlib import Path
from typing import Any

import pytest

from bench import ladder, systems
from bench.options import Options
from bench.systems.etcd import Etcd
from bft.errors import ConfigurationError


def document(cpu_us: float | None) -> dict[str, Any]:
    if cpu_us is None:
        return {"figures": None}
    latency = {"all": {"p50": 1.0, "p99": 2.0}}
    return {
        "figures": {"operations_per_s": 100.0, "latency_ms": latency, "replicas_cpu_us_per_operation": cpu_us},
    }


def test_the_rungs_go_from_no_replication_to_everything():
    rungs = ladder.rungs(Options())
    assert [(rung.options.system, rung.options.durability) for rung in rungs] == [
        ("unreplicated", "fsync"),
        ("etcd", "fsync"),
        ("pbft-unsigned", "fsync"),
        ("pbft", "os"),
        ("pbft", "fsync"),
    ]
    assert [rung.guarantees for rung in rungs] == [True, True, False, True, True]


def test_what_is_not_installed_is_named_and_not_run(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    rungs = ladder.rungs(Options())
    assert "etcd" not in [rung.options.system for rung, _ in ladder.runs(rungs, 1, Path())]
    rows = ladder.rows(rungs, {rung.name: [document(10.0)] for rung in rungs if rung.lacks is None})
    assert rows[1][-1] == "etcd is not installed: apt install etcd-server"
    assert [row[-1] for row in rows] == ["yes", rows[1][-1], "yes, no guarantee", "yes", "yes"]


def test_a_rung_is_told_in_units_of_everything():
    rungs = ladder.rungs(Options())
    rows = ladder.rows(rungs, {"no replication": [document(10.0)], "everything": [document(30.0), document(50.0)]})
    column = ladder.COLUMNS.index("of everything#")
    assert (rows[0][column], rows[-1][column]) == ("0.25", "1.00")
    assert rows[2][-1] == "not run"


def test_a_rung_with_an_unsafe_run_has_no_figures():
    rungs = ladder.rungs(Options())
    row = ladder.rows(rungs, {"everything": [document(30.0), document(None)]})[-1]
    assert row[2:] == ["", "", "", "", "", "", "NO"]


def test_a_ladder_has_no_faults_and_no_system_of_its_own():
    with pytest.raises(ConfigurationError, match="leave out"):
        ladder.rungs(Options(system="etcd"))
    with pytest.raises(ConfigurationError, match="a rung of every ladder"):
        ladder.rungs(Options(), ("pbft",))


def test_a_system_is_found_by_its_name_or_its_class():
    assert systems.find("etcd") is Etcd
    assert systems.find("bench.systems.etcd:Etcd") is Etcd
    with pytest.raises(ConfigurationError, match="no subclass"):
        systems.find("bench.options:Options")
