"""The status as Prometheus metrics, made when they are asked for: the hot path pays nothing."""

from collections.abc import Callable, Iterator
from typing import Any, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_GAUGES: Final = {
    "view": "View the replica is in",
    "primary": "Primary of that view",
    "last_executed": "Last executed sequence number",
    "uptime_s": "Seconds since the start",
    "clients": "Open client connections",
}
_COUNTERS: Final = {
    "executed_operations": "Operations executed for the first time",
    "executed_requests": "Requests in executed batches",
    "executed_batches": "Executed batches",
    "queries": "Queries answered",
    "view_changes": "Views left",
    "rounds": "Rounds of the core",
    "frames": "Frames that were authenticated or refused",
    "redundant_votes": "Votes that came when the quorum was complete, and were not verified",
}
_BY_LABEL: Final = {
    "rejections": ("reason", "Messages that the protocol rejected"),
    "invalid_frames": ("type", "Frames that were malformed or forged"),
    "received_frames": ("type", "Frames received"),
    "closed_links": ("port", "Links closed for what came on them"),
}


class StatusCollector(Collector):
    """Turns `status()` into metrics."""

    def __init__(self, status: Callable[[], dict[str, Any]]) -> None:
        self._status = status

    def describe(self) -> Iterator[Metric]:
        """Nothing: registering must not ask for the status."""
        yield from ()

    def collect(self) -> Iterator[Metric]:
        """One family a number of the status."""
        status = self._status()
        for name, text in _GAUGES.items():
            yield GaugeMetricFamily(f"bft_{name}", text, value=status[name])
        yield GaugeMetricFamily("bft_active", "1 in normal operation, 0 in a view change", value=int(status["active"]))
        stable = status["stable_checkpoint"]["seq"]
        yield GaugeMetricFamily("bft_stable_checkpoint", "Sequence number of the stable checkpoint", value=stable)
        yield GaugeMetricFamily("bft_evidence", "Replicas proven faulty", value=len(status["evidence"]))
        queues = GaugeMetricFamily("bft_queue", "What waits, by queue", labels=["queue"])
        for name, size in status["queues"].items():
            queues.add_metric([name], size)
        yield queues
        for name, text in _COUNTERS.items():
            yield CounterMetricFamily(f"bft_{name}", text, value=status[name])
        for name, (label, text) in _BY_LABEL.items():
            family = CounterMetricFamily(f"bft_{name}", text, labels=[label])
            for value, count in status[name].items():
                family.add_metric([value], count)
            yield family
        connected = GaugeMetricFamily("bft_peer_connected", "1 if linked both ways", labels=["peer"])
        dropped = CounterMetricFamily("bft_peer_dropped_frames", "Frames given up", labels=["peer"])
        for peer in status["peers"]:
            connected.add_metric([str(peer["id"])], int(peer["connected"]))
            dropped.add_metric([str(peer["id"])], peer["dropped_frames"])
        yield connected
        yield dropped
        yield CounterMetricFamily("bft_log_syncs", "Group commits of the log", value=status["log"]["syncs"])
        yield CounterMetricFamily("bft_log_sync_seconds", "Time that they took", value=status["log"]["sync_s"])
        yield CounterMetricFamily("bft_log_bytes", "Bytes written to the log", value=status["log"]["bytes"])
