"""`bft bench attack`: every behaviour of the catalogue on a real replica, against runs without any fault."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from bench.faults import Fault
from bench.options import Options
from bft.testing.byzantine import NAMES

FAULT_FREE: Final = "no fault"
COLUMNS: Final = (
    "behaviour of the primary",
    "goodput#",
    "p99#",
    "view changes#",
    "longest pause s#",
    "convicted",
    "safe",
)
_EVERY: Final = 6  # behaviours between two runs without a fault: what disturbs the machine shows in those, too


def plan(base: Options, behaviours: Sequence[str]) -> list[tuple[str, Options]]:
    """(name, options) of every run, fault-free ones at the beginning, in between and at the end."""
    runs: list[tuple[str, Options]] = []
    for number, behaviour in enumerate(behaviours or NAMES):
        if number % _EVERY == 0:
            runs.append((FAULT_FREE, base))
        runs.append((behaviour, replace(base, faults=(Fault(0, behaviour, 0.0),))))
    return [*runs, (FAULT_FREE, base)]


def rows(documents: Sequence[tuple[str, Mapping[str, Any]]]) -> list[list[str]]:
    """The table: each behaviour in units of the median run without a fault."""
    usual = [d["figures"] for name, d in documents if name == FAULT_FREE and d["figures"] is not None]
    if not usual:
        return []
    goodput = statistics.median(f["operations_per_s"] for f in usual)
    p99 = statistics.median(f["latency_ms"]["all"]["p99"] for f in usual)
    first = [FAULT_FREE, f"{goodput:,.0f} op/s", f"{p99:,.1f} ms", "0", "", "", "yes"]
    return [first, *(_row(name, d, goodput, p99) for name, d in documents if name != FAULT_FREE)]


def _row(name: str, document: Mapping[str, Any], goodput: float, p99: float) -> list[str]:
    figures = document["figures"]
    if figures is None:
        return [name, *[""] * (len(COLUMNS) - 2), "NO"]
    accused = {accused for replica in figures["replicas"] for accused in replica.get("evidence", ())}
    latency = figures["latency_ms"]["all"].get("p99")
    return [
        name,
        f"{figures['operations_per_s'] / goodput:.2f}",
        "" if latency is None else f"{latency / p99:,.1f}",
        str(len(figures["view_changes"])),
        f"{figures['longest_pause_s']:g}",
        ", ".join(map(str, sorted(accused))),
        "yes",
    ]
