"""`make bench`: the figures that this project quotes, each measured several times, interleaved, as one table."""

import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from bench.faults import Fault
from bench.options import Options

_EQUIVOCATES_S: Final = 4.0

CASES: Final = {
    "one caller, one operation at a time": Options(
        clients=1, inflight=1, bundle=1, keys=200, duration_s=5.0, warmup_s=1.0
    ),
    "200 callers, each operation signed": Options(clients=2, inflight=100, bundle=1, duration_s=6.0, warmup_s=1.0),
    "bundles of 64, 16 in flight": Options(clients=2, inflight=8, bundle=64, duration_s=6.0, warmup_s=1.0),
    "64 callers, the primary equivocates": Options(
        clients=2,
        inflight=32,
        bundle=1,
        reads=0.5,
        duration_s=10.0,
        warmup_s=1.0,
        faults=(Fault(0, "equivocate_split", _EQUIVOCATES_S),),
    ),
}
COLUMNS: Final = (
    "",
    "op/s#",
    "least - most#",
    "p50 ms#",
    "p99 ms#",
    "max ms#",
    "CPU us/op#",
    "view change ms#",
    "safe",
)


def runs(repeats: int, out: Path) -> Iterator[tuple[str, Options, Path]]:
    """(case, options, directory) of every run, interleaved: what disturbs the machine disturbs all cases."""
    for repeat in range(1, repeats + 1):
        for number, (case, options) in enumerate(CASES.items(), 1):
            yield case, options, out / f"{number}-{repeat}"


def rows(documents: dict[str, list[dict[str, Any]]]) -> list[list[str]]:
    """The table: medians over the repeats of each case.  No figure for a case with an unsafe run."""
    return [_row(case, results) for case, results in documents.items() if results]


def _row(case: str, results: list[dict[str, Any]]) -> list[str]:
    if not all(result["verdict"]["safe"] for result in results):
        return [case, *[""] * (len(COLUMNS) - 2), "NO"]
    figures = [result["figures"] for result in results]

    def median(pick: Callable[[dict[str, Any]], float], digits: int) -> str:
        return f"{statistics.median(pick(f) for f in figures):,.{digits}f}"

    rates = [f["operations_per_s"] for f in figures]
    changes = [(s["end_s"] - s["begin_s"]) * 1000 for f in figures for s in f["view_changes"]]
    return [
        case,
        median(lambda f: f["operations_per_s"], 0),
        f"{min(rates):,.0f} - {max(rates):,.0f}",
        *(median(lambda f, key=key: f["latency_ms"]["all"].get(key, 0.0), 2) for key in ("p50", "p99", "max")),  # type: ignore[misc]
        median(lambda f: f["replicas_cpu_us_per_operation"], 0),
        f"{statistics.median(changes):,.0f}" if changes else "-",
        "yes",
    ]
