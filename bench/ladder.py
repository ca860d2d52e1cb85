"""`bft bench ladder`: one workload from no replication to everything, so that the price of each guarantee is seen."""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from bench.options import Options
from bench.systems import OWN, PBFT, UNSIGNED, find
from bft.errors import ConfigurationError

EVERYTHING: Final = "everything"
COLUMNS: Final = (
    "",
    "withstands",
    "op/s#",
    "least - most#",
    "p50 ms#",
    "p99 ms#",
    "CPU us/op#",
    "of everything#",
    "safe",
)


@dataclass(frozen=True, slots=True)
class Rung:
    """One system, or one of ours with less."""

    name: str
    withstands: str
    options: Options
    lacks: str | None = None  # what this machine needs first

    @property
    def guarantees(self) -> bool:
        return self.options.guarantees


def rungs(base: Options, more: Sequence[str] = ()) -> list[Rung]:
    """From the least to the most; `more` are adapters of other systems.  Raises ConfigurationError."""
    if base.system != PBFT or base.cluster is not None or base.faults or base.events or base.network is not None:
        raise ConfigurationError(
            "a ladder has its own systems and no faults: leave out --system, --cluster, --behaviour, --fault, --network"
        )
    faulty = f"{(base.replicas - 1) // 3} of {base.replicas} faulty"
    return [
        _other("no replication", "unreplicated", base),
        _other("crash-only: etcd", "etcd", base),
        *(_other(name, name, base) for name in more),
        Rung("PBFT without signatures", "nothing", replace(base, system=UNSIGNED)),
        Rung("PBFT without fsync", faulty, replace(base, durability="os")),
        Rung(EVERYTHING, f"{faulty}, power cut", base),
    ]


def _other(name: str, system: str, base: Options) -> Rung:
    if system in OWN:
        raise ConfigurationError(f"--beside {system} is a rung of every ladder: name the adapter of another system")
    adapter = find(system)
    return Rung(name, adapter.withstands, replace(base, system=system), adapter.lacks())


def runs(ladder: Sequence[Rung], repeats: int, out: Path) -> Iterator[tuple[Rung, Path]]:
    """(rung, directory) of every run that can be, interleaved: what disturbs the machine disturbs all rungs."""
    for repeat in range(1, repeats + 1):
        for number, rung in enumerate(ladder, 1):
            if rung.lacks is None:
                yield rung, out / f"{number}-{repeat}"


def rows(ladder: Sequence[Rung], documents: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[list[str]]:
    """The table: medians over the repeats of each rung.  No figure for a rung with an unsafe run."""
    whole = [d["figures"] for d in documents.get(EVERYTHING, ()) if d["figures"] is not None]
    cpu_us = statistics.median(_cpu_us(f) for f in whole) if whole else None
    return [_row(rung, documents.get(rung.name, ()), cpu_us) for rung in ladder]


def _row(rung: Rung, results: Sequence[Mapping[str, Any]], cpu_us: float | None) -> list[str]:
    if rung.lacks is not None or not results:
        return [rung.name, rung.withstands, *[""] * (len(COLUMNS) - 3), rung.lacks or "not run"]
    figures = [result["figures"] for result in results]
    if None in figures:
        return [rung.name, rung.withstands, *[""] * (len(COLUMNS) - 3), "NO"]

    def median(pick: Callable[[dict[str, Any]], float], digits: int) -> str:
        return f"{statistics.median(map(pick, figures)):,.{digits}f}"

    rates = [f["operations_per_s"] for f in figures]
    share = statistics.median(map(_cpu_us, figures)) / cpu_us if cpu_us else None
    return [
        rung.name,
        rung.withstands,
        median(lambda f: f["operations_per_s"], 0),
        f"{min(rates):,.0f} - {max(rates):,.0f}",
        median(lambda f: f["latency_ms"]["all"].get("p50", 0.0), 2),
        median(lambda f: f["latency_ms"]["all"].get("p99", 0.0), 2),
        median(_cpu_us, 0),
        "" if share is None else f"{share:.2f}",
        "yes" if rung.guarantees else "yes, no guarantee",
    ]


def _cpu_us(figures: Mapping[str, Any]) -> float:
    return float(figures["replicas_cpu_us_per_operation"])
