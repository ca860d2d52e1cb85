"""The report of a run that was not safe gives no figure; pages hold no foreign markup."""

import json
from datetime import UTC, datetime

import pytest

from bench import overview, report
from bench.faults import Fault
from bench.latency import Latencies
from bench.limits import Limits
from bench.options import Options
from bench.run import Outcome
from bench.suite import COLUMNS, rows
from bench.verdict import Check, Verdict


@pytest.fixture
def unsafe() -> Outcome:
    options = Options(faults=(Fault(0, "<b>evil</b>", None),))
    outcome = Outcome(
        options=options,
        machine={"commit": None, "cpu": "c", "cores": 2, "memory_mb": 1, "kernel": "k", "load_average": [1.0],
                 "python": "3", "packages": {}},
        floor={"sign_us": 1.0, "verify_us": 2.0, "sha256_4k_us": 3.0},
        began=datetime(2026, 1, 1, tzinfo=UTC),
    )  # fmt: skip
    outcome.latencies = Latencies.merged([{"put": {"0": [1, 2, 3]}}])
    outcome.timeline = outcome.latencies.timeline(0.1)
    outcome.verdict = Verdict((Check("no acknowledged write is lost", holds=False, found="write 3 is lost"),))
    return outcome


def test_an_unsafe_run_leaves_no_figure_in_any_file(unsafe, tmp_path):
    report.write(unsafe, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "result.json"]
    document = json.loads((tmp_path / "result.json").read_text())
    assert document["figures"] is None
    assert document["verdict"]["safe"] is False
    page = (tmp_path / "report.html").read_text()
    assert "NOT SAFE" in page
    assert "operations a second" not in page


def test_what_comes_from_outside_is_escaped(unsafe, tmp_path):
    report.write(unsafe, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "<b>evil" not in page
    assert "&lt;b&gt;evil" in page


def test_the_suites_table_gives_no_figure_for_a_case_with_an_unsafe_run(unsafe):
    (row,) = rows({"case": [unsafe.document()]})
    assert row == ["case", *[""] * (len(COLUMNS) - 2), "NO"]


def test_the_overview_links_every_run_and_names_the_unsafe_ones(unsafe, tmp_path):
    (tmp_path / "1").mkdir()
    report.write(unsafe, tmp_path / "1")
    page = overview.write(
        tmp_path, "series", ("", "op/s#"), [["a <case>", "-"]], [("a <case>", tmp_path / "1", unsafe.document())]
    ).read_text()
    assert "href='1/report.html'" in page
    assert "NOT SAFE: a &lt;case&gt;" in page
    assert "<case>" not in page


def test_a_line_says_what_was_measured():
    assert report.headline(Options().document()) == (
        "4 replicas, 4 clients with 16 in flight, bundles: auto, kv-put with 0% reads, 2000 keys, values of 100 bytes, "
        "durability fsync"
    )
    other = Options(system="etcd", workload="ycsb-a", limits=Limits(0.5, 256 << 20))
    assert report.headline(other.document()) == (
        "etcd, 4 clients with 16 in flight, ycsb-a, 2000 zipfian keys, values of 100 bytes, durability fsync, "
        "0.5 cores each, 256 MB each"
    )


def test_the_overview_says_that_the_machine_was_busy(unsafe, tmp_path):
    busy = unsafe.document() | {
        "verdict": {"safe": True},
        "figures": {"operations_per_s": 1.0, "latency_ms": {"all": {}}, "others_cores": 0.9},
    }
    page = overview.write(tmp_path, "series", ("",), [], [("a", tmp_path / "1", busy)]).read_text()
    assert "other processes used up to 0.9 cores during 1 of 1 runs" in page
