"""`bft bench run` on a cluster of real processes: the numbers agree with each other, and nothing is left behind."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bft.errors import ExitCode
from tests.e2e.harness import ENVIRONMENT, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("bench")]


def start(tmp_path: Path, *arguments: str, command: str = "run") -> "subprocess.Popen[str]":
    """A run whose temporary files are in tmp_path/tmp."""
    (tmp_path / "tmp").mkdir()
    return subprocess.Popen(
        [sys.executable, "-m", "bft.cli.main", "bench", command, "--out", str(tmp_path / "out"), *arguments],
        env=ENVIRONMENT | {"TMPDIR": str(tmp_path / "tmp")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def processes_of(directory: Path) -> list[str]:
    """Command lines that name the directory, or a process of the load whose plan does."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                environment = (entry / "environ").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if str(directory / "tmp") in command + environment:
                found.append(command)
    return found


def result(tmp_path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((tmp_path / "out" / "result.json").read_text())
    return document


def test_a_run_with_an_equivocating_primary_is_measured_and_found_safe(tmp_path):
    process = start(
        tmp_path, "--duration", "3", "--warmup", "0.5", "--reads", "0.5", "--clients", "2", "--inflight", "8",
        "--keys", "200", "--shared", "0.2", "--behaviour", "0=equivocate_split@1s", "--json",
    )  # fmt: skip
    out, err = process.communicate()
    assert process.returncode == ExitCode.OK, err
    document = result(tmp_path)
    assert json.loads(out) == document
    assert document["schema"] == "bft-bench-run/2"
    assert document["verdict"]["safe"]
    assert [change["view"] for change in document["figures"]["view_changes"]] == [1]
    phases = document["figures"]["phases"]
    assert phases["operations"] == document["figures"]["operations"]
    assert phases["sum_ms"] == pytest.approx(phases["latency_ms"], rel=0.02)
    assert all(ms >= 0 for ms in phases["ms"].values()), phases["ms"]
    checks = {check["claim"]: check["found"] for check in document["verdict"]["checks"]}
    assert "competed for" in checks["the history of the shared keys is linearizable"]
    rows = [line.split(",") for line in (tmp_path / "out" / "timeline.csv").read_text().splitlines()[1:]]
    assert len(rows) == 30
    assert sum(int(row[1]) + int(row[2]) for row in rows) == document["figures"]["operations"] > 0
    assert (tmp_path / "out" / "report.html").read_text().count("<svg") == 4
    assert not re.search(r'(src|href)="http', (tmp_path / "out" / "report.html").read_text())
    assert processes_of(tmp_path) == []
    assert list((tmp_path / "tmp").iterdir()) == []


def test_crashes_pauses_and_partitions_are_in_every_output_and_lose_nothing(tmp_path):
    (tmp_path / "script.toml").write_text('faults = ["pause:3@1.6s..1.9s", "partition:0>1@2.2s..2.6s"]\n')
    process = start(
        tmp_path, "--duration", "4", "--warmup", "0.5", "--clients", "1", "--inflight", "8", "--keys", "100",
        "--behaviour", "0=delay(ms=20)@0.2s..0.6s", "--fault", "crash:2@1s..1.4s", "--network", "ms=1",
        "--script", str(tmp_path / "script.toml"),
    )  # fmt: skip
    _, err = process.communicate()
    assert process.returncode == ExitCode.OK, err
    document = result(tmp_path)
    marks = [mark["name"] for mark in document["marks"]]
    assert marks == ["replica 0: delay(ms=20)", "crash 2", "pause 3", "partition 0>1"]
    assert all(mark["begin_s"] < mark["end_s"] for mark in document["marks"])
    assert [found["after"] for found in document["figures"]["recovery"]] == marks
    assert document["options"]["network"] == "ms=1"
    for output in ("timeline.csv", "report.html"):
        text = (tmp_path / "out" / output).read_text()
        assert "crash 2" in text
        assert "pause 3" in text
    assert processes_of(tmp_path) == []
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize(
    "system",
    [
        "unreplicated",
        "pbft-unsigned",
        pytest.param("etcd", marks=pytest.mark.skipif(not shutil.which("etcd"), reason="etcd is not installed")),
    ],
)
def test_a_system_beside_ours_takes_the_same_load_and_leaves_nothing(tmp_path, system):
    process = start(
        tmp_path, "--system", system, "--duration", "1", "--warmup", "0", "--clients", "2", "--inflight", "2",
        "--workload", "ycsb-a", "--keys", "zipfian:50",
    )  # fmt: skip
    out, err = process.communicate()
    assert process.returncode == ExitCode.OK, err
    document = result(tmp_path)
    assert document["options"]["system"] == system
    assert document["options"]["guarantees"] == (system != "pbft-unsigned")
    assert ("no guarantee" in out) == (system == "pbft-unsigned")
    assert document["figures"]["operations"] > 0
    checks = {check["claim"]: check["found"] for check in document["verdict"]["checks"]}
    assert "competed for 50 keys" in checks["the history of the shared keys is linearizable"]
    assert processes_of(tmp_path) == []
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_ladder_has_a_row_for_every_rung_and_leaves_nothing(tmp_path):
    process = start(
        tmp_path, "--repeats", "1", "--duration", "1", "--warmup", "0", "--clients", "1", "--inflight", "4",
        "--keys", "50", "--json", command="ladder",
    )  # fmt: skip
    out, err = process.communicate()
    assert process.returncode == ExitCode.OK, err
    rows = json.loads(out)
    assert rows == json.loads((tmp_path / "out" / "ladder.json").read_text())["rows"]
    assert [row["rung"] for row in rows][::4] == ["no replication", "everything"]
    assert [row["guarantees"] for row in rows] == [True, True, False, True, True]
    assert rows[1]["safe"] == "yes" if shutil.which("etcd") else "etcd is not installed" in rows[1]["safe"]
    assert rows[2]["safe"] == "yes, no guarantee"
    assert processes_of(tmp_path) == []
    assert list((tmp_path / "tmp").iterdir()) == []


# Loaded by every Python process of the run, it makes a build whose replicas acknowledge some writes and forget them.
FORGETFUL = """
import sys
if "bft.node" in sys.orig_argv and sys.orig_argv[-1].endswith({replicas}):
    import msgpack
    from bft.statemachine.kv import KeyValue
    honest = KeyValue.apply
    def apply(self, ctx, operation):
        return msgpack.packb(ctx.revision) if ctx.revision % 10 == 0 else honest(self, ctx, operation)
    KeyValue.apply = apply
"""


@pytest.mark.parametrize(
    ("replicas", "broken"),
    [
        (("0", "1", "2", "3"), "no acknowledged write is lost"),
        (("0", "1"), "state roots are equal"),
    ],
    ids=["all replicas forget", "f+1 replicas forget"],
)
def test_an_unsafe_build_is_refused_a_figure(tmp_path, monkeypatch, replicas, broken):
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "sitecustomize.py").write_text(FORGETFUL.format(replicas=replicas))
    monkeypatch.setitem(ENVIRONMENT, "PYTHONPATH", str(tmp_path / "build"))
    process = start(
        tmp_path, "--duration", "1", "--warmup", "0", "--clients", "1", "--inflight", "2", "--keys", "30",
        "--rate", "40", "--shared", "0",
    )  # fmt: skip
    out, err = process.communicate()
    assert process.returncode == ExitCode.VERIFICATION, err
    document = result(tmp_path)
    assert document["figures"] is None
    assert broken in [check["claim"] for check in document["verdict"]["checks"] if not check["holds"]]
    assert "operations a second" not in out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["report.html", "result.json"]


def test_ctrl_c_gives_a_valid_partial_report_and_leaves_nothing(tmp_path):
    process = start(tmp_path, "--duration", "60", "--warmup", "0", "--clients", "1", "--keys", "100")
    assert process.stderr is not None
    while " of 60 s" not in process.stderr.readline():
        pass
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode == 130
    document = result(tmp_path)
    assert document["interrupted"]
    assert document["verdict"]["safe"]
    assert 0 < document["figures"]["seconds"] < 60
    assert (tmp_path / "out" / "report.html").exists()
    assert processes_of(tmp_path) == []
    assert list((tmp_path / "tmp").iterdir()) == []


def test_ctrl_c_before_the_measurement_leaves_nothing(tmp_path):
    process = start(tmp_path, "--duration", "60")
    scratch = tmp_path / "tmp"
    wait_until(lambda: any(scratch.glob("bft-bench-*/cluster/replica-0/replica.pid")))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130
    assert err.splitlines()[-1] == "error: interrupted"
    assert processes_of(tmp_path) == []
    assert list(scratch.iterdir()) == []


def test_ctrl_c_in_a_series_reports_the_runs_until_then_and_leaves_nothing(tmp_path):
    process = start(
        tmp_path, "--vary", "inflight=1,2", "--duration", "1", "--warmup", "0", "--clients", "1", "--keys", "50",
        command="sweep",
    )  # fmt: skip
    second = tmp_path / "out" / "2-1"
    wait_until(second.is_dir)
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode == 130
    page = (tmp_path / "out" / "index.html").read_text()
    assert "interrupted" in page
    assert "href='1-1/report.html'" in page
    assert not second.exists()
    assert len((tmp_path / "out" / "sweep.csv").read_text().splitlines()) == 2
    assert processes_of(tmp_path) == []
    assert list((tmp_path / "tmp").iterdir()) == []


def test_ctrl_c_in_a_comparison_reports_the_runs_until_then_and_leaves_nothing(tmp_path):
    root = str(Path(__file__).parents[2])
    process = start(
        tmp_path, root, root, "--duration", "2", "--warmup", "0", "--clients", "1", "--keys", "50", "--inflight", "1",
        command="compare",
    )  # fmt: skip
    scratch = tmp_path / "tmp"
    wait_until((tmp_path / "out" / "1-A" / "result.json").is_file)
    wait_until(lambda: any(scratch.glob("bft-bench-*/cluster/replica-0/replica.pid")))
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 130, err
    assert "nothing can be said of fewer than 6" in out
    document = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert (document["interrupted"], document["pairs"], document["metrics"]) == (True, 0, {})
    assert "href='1-A/report.html'" in (tmp_path / "out" / "index.html").read_text()
    assert processes_of(tmp_path) == []
    assert list(scratch.iterdir()) == []


def test_load_generators_elsewhere_are_started_by_a_command_and_end_with_the_run(tmp_path, running):
    command = shlex.join([sys.executable, "-m", "bft.cli.main", "bench", "worker", str(running.directory)])
    process = start(
        tmp_path, "--cluster", str(running.directory), "--worker", command, "--worker", command, "--duration", "1",
        "--warmup", "0", "--clients", "2", "--inflight", "2", "--keys", "zipfian:50",
    )  # fmt: skip
    _, err = process.communicate()
    assert process.returncode == ExitCode.OK, err
    document = result(tmp_path)
    assert document["options"]["workers"] == [command, command]
    assert len(document["figures"]["load_cores"]) == 2
    assert document["figures"]["phases"]["sum_ms"] == pytest.approx(
        document["figures"]["latency_ms"]["all"]["mean"], rel=0.02
    )
    assert [process for process in processes_of(tmp_path) if "worker" in process] == []


def test_a_command_that_starts_no_load_generator_is_told(tmp_path, running):
    for command, says in (("/nonexistent here", "/nonexistent here: No such file"), ("echo hello", "hello")):
        process = start(tmp_path, "--cluster", str(running.directory), "--worker", command, "--clients", "1")
        _, err = process.communicate()
        assert process.returncode == ExitCode.FAILED
        assert says in err.splitlines()[-1]
        shutil.rmtree(tmp_path / "tmp")
        shutil.rmtree(tmp_path / "out")
