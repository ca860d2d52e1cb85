"""Histograms and time line: nothing that was recorded is lost or counted twice."""

import pytest
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader

from bench.latency import Latencies, Recorder, curve, percentiles_ms, timeline_csv


def recorded(operations: int, *, kind: str = "put") -> Recorder:
    recorder = Recorder()
    for number in range(operations):
        recorder.record(kind, ended_s=number * 0.01, latency_s=(number + 1) * 1e-3)
    return recorder


def test_the_histogram_of_all_workers_counts_every_operation_once():
    merged = Latencies.merged([recorded(100).document(), recorded(50, kind="get").document(), recorded(7).document()])
    assert merged.histogram().get_total_count() == 157
    assert merged.histogram("put").get_total_count() == 107
    assert merged.histogram("get").get_total_count() == 50


def test_the_time_line_counts_every_operation_once_and_shows_empty_intervals():
    timeline = Latencies.merged([recorded(25).document()]).timeline(0.5)
    assert [interval.total for interval in timeline] == [10, 10, 5, 0, 0]
    assert timeline[3].p50_us is None


def test_the_time_line_gives_percentiles_of_its_own_interval():
    first = Latencies.merged([recorded(20).document()]).timeline(0.2)[1]
    assert (first.p50_us, first.p99_us, first.max_us) == (15_000, 20_000, 20_000)


def test_a_histogram_log_reads_back_with_every_operation(tmp_path):
    latencies = Latencies.merged([recorded(300).document()])
    file = tmp_path / "put.hlog"
    file.write_text(latencies.hlog("put"))
    reader, total = HistogramLogReader(str(file), HdrHistogram(1, 120_000_000, 3)), 0
    while (interval := reader.get_next_interval_histogram()) is not None:
        total += interval.get_total_count()
    reader.close()
    assert total == 300


def test_percentiles_are_in_milliseconds():
    values = percentiles_ms(Latencies.merged([recorded(1000).document()]).histogram())
    assert values["p50"] == pytest.approx(500, rel=0.01)
    assert values["max"] == pytest.approx(1000, rel=0.01)


def test_nothing_measured_gives_no_percentiles():
    latencies = Latencies.merged([])
    assert percentiles_ms(latencies.histogram()) == {}
    assert curve(latencies.histogram()) == []


def test_the_csv_has_a_row_for_each_interval():
    latencies = Latencies.merged([recorded(10).document()])
    assert timeline_csv(latencies.timeline(0.2), ["put"]).splitlines() == [
        "begin_s,put_operations,p50_us,p99_us,max_us,faults",
        "0.0,10,5000,10000,10000,",
        "0.1,0,,,,",
    ]


def test_the_csv_names_what_was_wrong_in_each_interval():
    latencies = Latencies.merged([{"put": {"0": [1], "2": [1]}}])
    marks = [("crash 1", 0.05, 0.15), ("partition 0|1,2,3", 0.1, 0.1001)]
    told = [line.split(",", 5)[5] for line in timeline_csv(latencies.timeline(0.3), ["put"], marks).splitlines()[1:]]
    assert told == ["crash 1", '"crash 1; partition 0|1,2,3"', ""]
