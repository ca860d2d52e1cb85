"""From what was recorded to what is reported; pure functions."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bench.cluster import Usage, ViewEvent
from bench.floor import share
from bench.injector import Mark
from bench.latency import INTERVAL_S, Interval, Latencies, percentiles_ms
from bench.phases import Breakdown

_RECOVERED: Final = 0.95
_WINDOW: Final = 10  # intervals: throughput is judged by the second
_BUSY: Final = 0.85  # of a core: a load generator above that may be what limits the run


@dataclass(frozen=True, slots=True)
class Edge:
    """A replica at one end of the measurement."""

    status: Mapping[str, Any] | None
    usage: Usage | None


@dataclass(frozen=True, slots=True)
class Span:
    """A view change, in seconds of the measurement: from the first replica that left to the quorum in the next view."""

    begin_s: float
    end_s: float
    view: int


def view_changes(events: Sequence[ViewEvent], correct: int, *, epoch_s: float, until_s: float) -> list[Span]:
    """View changes of which all `correct` replicas' events are given; `epoch_s`: when the measurement began."""
    spans: list[Span] = []
    begin_s: float | None = None
    entered: dict[int, set[int]] = {}
    for event in events:
        at_s = event.at_s - epoch_s
        if not event.entered:
            begin_s = at_s if begin_s is None else begin_s
        elif begin_s is not None:
            entered.setdefault(event.view, set()).add(event.replica)
            if len(entered[event.view]) == correct:
                spans.append(Span(begin_s, at_s, event.view))
                begin_s = None
    if begin_s is not None:
        spans.append(Span(begin_s, until_s, max((event.view for event in events), default=0)))
    return [span for span in spans if span.end_s > 0 and span.begin_s < until_s]


def longest_pause_s(timeline: Sequence[Interval]) -> float:
    """The longest time without any operation, in steps of the time line."""
    longest = current = 0
    for interval in timeline:
        current = 0 if interval.total else current + 1
        longest = max(longest, current)
    return round(longest * INTERVAL_S, 3)


def first_commit_s(timeline: Sequence[Interval], fault_s: float) -> float | None:
    """From a fault to the end of the pause that follows it within a second, 0.0 if none does; None: never."""
    fault = int(fault_s / INTERVAL_S)
    totals = [interval.total for interval in timeline]
    gap = next((i for i in range(fault, min(fault + 1 + _WINDOW, len(totals))) if not totals[i]), None)
    if gap is None:
        return 0.0
    first = next((i for i in range(gap, len(totals)) if totals[i]), None)
    return None if first is None else round(max(0.0, first * INTERVAL_S - fault_s), 3)


def recovery_s(timeline: Sequence[Interval], fault_s: float) -> float | None:
    """From a fault to the first second with 95 % of the throughput before it; None: never, or not to be told."""
    fault = int(fault_s / INTERVAL_S)
    before = [interval.total for interval in timeline[:fault]]
    if len(before) < _WINDOW:
        return None
    wanted = sum(before) / len(before) * _WINDOW * _RECOVERED
    totals = [interval.total for interval in timeline]
    # The second in which it happens may still hold a full second's work: look from the first dip on.
    dip = next((i for i in range(fault, len(totals)) if totals[i] < 0.5 * wanted / _WINDOW), None)
    if dip is None:
        return 0.0
    for first in range(dip + 1, len(totals) - _WINDOW + 1):
        if totals[first] and sum(totals[first : first + _WINDOW]) >= wanted:
            return round(first * INTERVAL_S - fault_s, 3)
    return None


def figures(
    latencies: Latencies,
    timeline: Sequence[Interval],
    from_send: Latencies,
    *,
    seconds: float,
    failed: int,
    edges: Mapping[int, tuple[Edge, Edge]],
    workers_cpu_s: Sequence[float],
    busy_s: float,
    floor: Mapping[str, float],
    faulty: Collection[int],
    marks: Sequence[Mark],
    changes: Sequence[Span],
    phases: Breakdown | None = None,
    signed: bool = True,
    load_here: bool = True,
    history_full: bool = False,
) -> dict[str, Any]:
    """Everything that is told of a safe run."""
    total = latencies.histogram().get_total_count()
    replicas = [_replica(i, ends, total, seconds, faulty=i in faulty) for i, ends in sorted(edges.items())]
    cpu_us = sum(r["cpu_us_per_operation"] or 0 for r in replicas)
    load = sum(workers_cpu_s)
    others = max(0.0, busy_s - (load if load_here else 0.0) - sum(r["cpu_s"] or 0 for r in replicas))
    return {
        "operations": total,
        "failed": failed,
        "seconds": round(seconds, 3),
        "operations_per_s": round(total / seconds, 1) if seconds else 0.0,
        "latency_ms": {
            "all": percentiles_ms(latencies.histogram()),
            **{kind: percentiles_ms(latencies.histogram(kind)) for kind in sorted(latencies.kinds)},
        },
        "latency_from_send_ms": percentiles_ms(from_send.histogram()),
        "phases": None if phases is None else phases.document(_mean_ms(latencies, from_send)),
        "longest_pause_s": longest_pause_s(timeline),
        "recovery": [
            {
                "after": mark.name,
                "at_s": mark.begin_s,
                "first_commit_s": first_commit_s(timeline, mark.begin_s),
                "recovered_s": recovery_s(timeline, mark.begin_s),
            }
            for mark in marks
            if mark.begin_s > 0
        ],
        "view_changes": [{"begin_s": round(s.begin_s, 3), "end_s": round(s.end_s, 3), "view": s.view} for s in changes],
        "replicas": replicas,
        "replicas_cpu_us_per_operation": round(cpu_us, 1),
        "verifications_worth": round(cpu_us / floor["verify_us"], 2),
        "crypto": share(floor, replicas if signed else (), cpu_us),
        "load_cpu_us_per_operation": round(load * 1e6 / total, 1) if total else None,
        "load_cores": [round(cpu / seconds, 2) for cpu in workers_cpu_s] if seconds else [],
        "others_cores": round(others / seconds, 2) if seconds else None,
        "history_full": history_full,  # a load generator could record no more, and left the shared keys alone
        "load_is_bottleneck": bool(seconds) and any(cpu / seconds > _BUSY for cpu in workers_cpu_s),
    }


def _mean_ms(latencies: Latencies, from_send: Latencies) -> float:
    """Of what was measured from the sending on, as phases are."""
    histogram = (from_send if from_send.kinds else latencies).histogram()
    return float(histogram.get_mean_value()) / 1000 if histogram.get_total_count() else 0.0


def _replica(replica: int, ends: tuple[Edge, Edge], total: int, seconds: float, *, faulty: bool) -> dict[str, Any]:
    """One replica during the measurement; null where it did not answer."""
    first, last = ends
    row: dict[str, Any] = {"id": replica, "faulty": faulty}
    row["restarted"] = None not in (first.status, last.status) and first.status["pid"] != last.status["pid"]  # type: ignore[index]
    known = first.usage is not None and last.usage is not None and not row["restarted"]
    cpu_s = last.usage.cpu_s - first.usage.cpu_s if known else None  # type: ignore[union-attr]
    row["cpu_s"] = None if cpu_s is None else round(cpu_s, 2)
    row["cores"] = None if cpu_s is None or not seconds else round(cpu_s / seconds, 2)
    row["cpu_us_per_operation"] = None if cpu_s is None or not total else round(cpu_s * 1e6 / total, 1)
    row["rss_mb"] = None if last.usage is None else round(last.usage.rss_bytes / 2**20, 1)
    if first.status is None or last.status is None or row["restarted"]:
        return row
    operations, requests, batches = (
        last.status[name] - first.status[name]
        for name in ("executed_operations", "executed_requests", "executed_batches")
    )
    log, log_before = last.status["log"], first.status["log"]
    syncs = log["syncs"] - log_before["syncs"]
    return row | {
        "operations": operations,
        "requests": requests,
        "batches": batches,
        "operations_per_batch": round(operations / batches, 1) if batches else None,
        "log_syncs": syncs,
        "log_syncs_per_operation": round(syncs / operations, 4) if operations else None,
        "log_bytes_per_operation": round((log["bytes"] - log_before["bytes"]) / operations, 1) if operations else None,
        "sync_ms": round((log["sync_s"] - log_before["sync_s"]) / syncs * 1000, 3) if syncs else None,
        **_counted(first.status, last.status, operations),
        "view": last.status["view"],
        "view_changes": last.status["view_changes"] - first.status["view_changes"],
        "evidence": [proof["accused"] for proof in last.status["evidence"]],
    }


def _counted(first: Mapping[str, Any], last: Mapping[str, Any], operations: int) -> dict[str, float | None]:
    """What else an operation cost this replica."""
    totals = {
        "peer_bytes_sent": last["traffic"]["peer"]["sent"] - first["traffic"]["peer"]["sent"],
        "client_bytes_sent": last["traffic"]["client"]["sent"] - first["traffic"]["client"]["sent"],
        "signatures_made": last["signatures"]["made"] - first["signatures"]["made"],
        "signatures_verified": last["signatures"]["verified"] - first["signatures"]["verified"],
    }
    return {f"{name}_per_operation": round(n / operations, 3) if operations else None for name, n in totals.items()}
