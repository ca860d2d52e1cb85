"""Latencies: recorded raw while the load runs, folded into HdrHistograms and a time line afterwards."""

import io
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self, TypeAlias

from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogWriter

INTERVAL_S: Final = 0.1
PERCENTILES: Final = (50.0, 90.0, 99.0, 99.9)
_HIGHEST_US: Final = 120_000_000  # above any time-out of a call
_DIGITS: Final = 3
_LOG_INTERVALS: Final = 10  # of ours in one of a .hlog

Samples: TypeAlias = dict[int, "array[int]"]  # interval -> latencies in microseconds


class Recorder:
    """What one worker saw, by kind of operation.  Recording costs an append; everything else waits until the end."""

    def __init__(self) -> None:
        self._kinds: defaultdict[str, defaultdict[int, array[int]]] = defaultdict(
            lambda: defaultdict(lambda: array("I"))
        )

    def record(self, kind: str, *, ended_s: float, latency_s: float) -> None:
        """An operation that ended `ended_s` after the beginning of the measurement."""
        self._kinds[kind][int(ended_s / INTERVAL_S)].append(min(max(1, round(latency_s * 1e6)), _HIGHEST_US))

    def document(self) -> dict[str, dict[str, list[int]]]:
        return {
            kind: {str(interval): list(values) for interval, values in samples.items()}
            for kind, samples in self._kinds.items()
        }


class Latencies:
    """What all workers saw."""

    def __init__(self) -> None:
        self.kinds: dict[str, Samples] = {}

    @classmethod
    def merged(cls, documents: Iterable[Mapping[str, Mapping[str, Iterable[int]]]]) -> Self:
        """Of what `Recorder.document` gave."""
        made = cls()
        for document in documents:
            for kind, samples in document.items():
                mine = made.kinds.setdefault(kind, {})
                for interval, values in samples.items():
                    mine.setdefault(int(interval), array("I")).extend(values)
        return made

    def histogram(self, *kinds: str) -> HdrHistogram:
        """Of these kinds of operation together, or of all."""
        return fold(values for kind in kinds or self.kinds for values in self.kinds.get(kind, {}).values())

    def timeline(self, seconds: float) -> list["Interval"]:
        """Each interval of the measurement, empty ones, too."""
        return [self._interval(number) for number in range(round(seconds / INTERVAL_S))]

    def _interval(self, number: int) -> "Interval":
        by_kind = {kind: samples[number] for kind, samples in self.kinds.items() if number in samples}
        values = sorted(value for samples in by_kind.values() for value in samples)
        operations = {kind: len(samples) for kind, samples in by_kind.items()}
        return Interval(
            round(number * INTERVAL_S, 3), operations, _rank(values, 50), _rank(values, 99), _rank(values, 100)
        )

    def hlog(self, kind: str) -> str:
        """The histogram log of one kind, one line a second, readable by every HdrHistogram tool."""
        stream = io.StringIO()
        writer = HistogramLogWriter(stream)
        writer.output_log_format_version()
        writer.output_comment("latencies in microseconds; timestamps from the beginning of the measurement")
        writer.output_legend()
        samples = self.kinds.get(kind, {})
        for first in range(0, max(samples, default=-1) + 1, _LOG_INTERVALS):
            histogram = fold(samples[i] for i in range(first, first + _LOG_INTERVALS) if i in samples)
            start_ms, end_ms = (round(i * INTERVAL_S * 1000) for i in (first, first + _LOG_INTERVALS))
            histogram.set_start_time_stamp(start_ms)
            histogram.set_end_time_stamp(end_ms)
            writer.output_interval_histogram(histogram, max_value_unit_ratio=1.0)
        return stream.getvalue()


@dataclass(frozen=True, slots=True)
class Interval:
    """100 ms of the measurement; latencies in microseconds, None when nothing ended in it."""

    begin_s: float
    operations: Mapping[str, int]  # by kind
    p50_us: int | None
    p99_us: int | None
    max_us: int | None

    @property
    def total(self) -> int:
        return sum(self.operations.values())


def fold(samples: Iterable["array[int]"]) -> HdrHistogram:
    """One histogram of all these latencies."""
    counts: Counter[int] = Counter()
    for values in samples:
        counts.update(values)
    histogram = HdrHistogram(1, _HIGHEST_US, _DIGITS)
    for value, count in counts.items():
        histogram.record_value(value, count)
    return histogram


def percentiles_ms(histogram: HdrHistogram) -> dict[str, float]:
    """What a report says of a histogram; empty for an empty one."""
    if not histogram.get_total_count():
        return {}
    named = {f"p{p:g}": histogram.get_value_at_percentile(p) / 1000 for p in PERCENTILES}
    return {"mean": round(histogram.get_mean_value() / 1000, 3), **named, "max": histogram.get_max_value() / 1000}


def curve(histogram: HdrHistogram) -> list[tuple[float, float]]:
    """(percentile, milliseconds) as far out as the number of operations carries."""
    total = histogram.get_total_count()
    points = [p for p in (0, 10, 25, 50, 75, 90, 95, 98, 99, 99.5, 99.8, 99.9, 99.95, 99.98, 99.99, 99.995, 99.999)
              if total * (100 - p) >= 100]  # fmt: skip
    return [(p, histogram.get_value_at_percentile(p) / 1000) for p in points]


def timeline_csv(
    timeline: Iterable[Interval], kinds: Iterable[str], marks: Iterable[tuple[str, float, float]] = ()
) -> str:
    """The time line as a table; `marks` are what went wrong, from when and until when."""
    wrong = list(marks)
    names = sorted(kinds)
    lines = [",".join(["begin_s", *(f"{name}_operations" for name in names), "p50_us", "p99_us", "max_us", "faults"])]
    for interval in timeline:
        cells: list[Any] = [interval.begin_s, *(interval.operations.get(name, 0) for name in names)]
        cells += ["" if value is None else value for value in (interval.p50_us, interval.p99_us, interval.max_us)]
        end_s = interval.begin_s + INTERVAL_S
        names_now = "; ".join(name for name, begin, end in wrong if begin < end_s and end > interval.begin_s)
        cells.append(f'"{names_now}"' if "," in names_now else names_now)
        lines.append(",".join(map(str, cells)))
    return "\n".join(lines) + "\n"


def _rank(values: list[int], percentile: int) -> int | None:
    """The nearest-rank percentile of sorted values."""
    return values[max(0, -(-len(values) * percentile // 100) - 1)] if values else None
