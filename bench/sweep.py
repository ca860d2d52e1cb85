"""`bft bench sweep` and `saturate`: many runs over a grid of options, and where more load brings no more throughput."""

import csv
import io
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product
from typing import Any, Final, Self

from bench.options import Options
from bench.rate import Rate
from bft.errors import ConfigurationError

# Options that can vary, and how each is read.
_READ: Final[dict[str, tuple[str, type | None]]] = {
    "system": ("system", str),
    "workload": ("workload", str),
    "replicas": ("replicas", int),
    "clients": ("clients", int),
    "inflight": ("inflight", int),
    "bundle": ("bundle", None),
    "value-size": ("value_size", int),
    "reads": ("reads", float),
    "keys": ("keys", int),
    "shared": ("shared", float),
    "durability": ("durability", str),
    "rate": ("rate", None),
}
COLUMNS: Final = ("op/s#", "p50 ms#", "p99 ms#", "CPU us/op#", "ops/batch#", "safe")
_GAIN: Final = 1.05  # less than that for a doubled load, twice: saturated


@dataclass(frozen=True, slots=True)
class Vary:
    """One axis of the grid."""

    option: str
    values: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """`inflight=1,4,16`.  Raises ConfigurationError."""
        option, equals, values = text.partition("=")
        if option not in _READ or not equals or not values:
            raise ConfigurationError(f'--vary "{text}": write OPTION=VALUE,VALUE with one of {", ".join(_READ)}')
        return cls(option, tuple(values.split(",")))


@dataclass(frozen=True, slots=True)
class Point:
    """One place of the grid."""

    values: tuple[str, ...]  # of the axes, in their order
    options: Options


def grid(base: Options, axes: Sequence[Vary]) -> list[Point]:
    """Every combination.  Raises ConfigurationError when one makes no sense."""
    points = []
    for values in product(*(axis.values for axis in axes)):
        changes = dict(_read(axis.option, value) for axis, value in zip(axes, values, strict=True))
        points.append(Point(values, replace(base, **changes)))
    return points


def _read(option: str, value: str) -> tuple[str, Any]:
    field, kind = _READ[option]
    try:
        if option == "bundle":
            return field, None if value == "auto" else int(value)
        if option == "rate":
            return field, Rate.parse(value)
        return field, kind(value) if kind is not None else value
    except ValueError:
        raise ConfigurationError(f"--vary {option}: {value!r} is no value for it") from None


def row(documents: Sequence[Mapping[str, Any]]) -> list[str]:
    """Medians of one point's runs; no figure if any of them was not safe."""
    if not all(document["verdict"]["safe"] for document in documents):
        return [*[""] * (len(COLUMNS) - 1), "NO"]
    figures = [document["figures"] for document in documents]
    batches = [r["operations_per_batch"] for f in figures for r in f["replicas"] if r.get("operations_per_batch")]
    return [
        f"{statistics.median(f['operations_per_s'] for f in figures):,.0f}",
        *(f"{statistics.median(f['latency_ms']['all'].get(p, 0.0) for f in figures):,.2f}" for p in ("p50", "p99")),
        f"{statistics.median(f['replicas_cpu_us_per_operation'] for f in figures):,.0f}",
        f"{statistics.median(batches):,.1f}" if batches else "",
        "yes",
    ]


def table_csv(axes: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The table for programs: no thousands' separators, plain headings."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*axes, *(column.rstrip("#") for column in COLUMNS)])
    writer.writerows([[cell.replace(",", "") for cell in cells] for cells in rows])
    return stream.getvalue()


def loads(base: Options) -> Iterator[Options]:
    """Twice the callers each time, by operations in flight first, then by clients."""
    options = replace(base, inflight=1)
    while True:
        yield options
        try:
            options = replace(options, inflight=2 * options.inflight, keys=max(options.keys, 2 * options.callers))
        except ConfigurationError:
            options = replace(options, clients=2 * options.clients, keys=max(options.keys, 2 * options.callers))


def saturated(throughputs: Sequence[float]) -> bool:
    """The last two doublings brought next to nothing."""
    steps = list(pairwise(throughputs))
    return len(steps) >= 2 and all(after < _GAIN * before for before, after in steps[-2:])


def knee(points: Sequence[tuple[float, float]]) -> int:
    """Which of (throughput, latency) has the most power, their quotient (Kleinrock 1979): beyond it, queues grow."""
    powers = [throughput / latency if latency else 0.0 for throughput, latency in points]
    return powers.index(max(powers))
