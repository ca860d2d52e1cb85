"""`bft bench compare A B`: two builds, run in turn on this machine with the same options; what differs, if anything."""

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from bench.ratios import Ratio, ratio
from bft.errors import ConfigurationError

Figures = Mapping[str, Any]  # of a result.json

_BUSY_CORES: Final = 0.25  # that other processes used: more, and the figures say little

METRICS: Final = {
    "operations a second": ("operations_per_s",),
    "p50": ("latency_ms", "all", "p50"),
    "p99": ("latency_ms", "all", "p99"),
    "CPU an operation": ("replicas_cpu_us_per_operation",),
}


@dataclass(frozen=True, slots=True)
class Build:
    """A checkout of this project, with the interpreter that runs it."""

    directory: Path
    python: Path

    @classmethod
    def at(cls, directory: Path) -> Self:
        """Raises ConfigurationError when there is none."""
        if not (directory / "bft" / "cli" / "main.py").is_file():
            raise ConfigurationError(f"{directory} is no checkout of this project: name the directory that holds bft/")
        own = directory / ".venv" / "bin" / "python"
        return cls(directory.resolve(), own.absolute() if own.exists() else Path(sys.executable))


class Turns:
    """Runs of builds, each a process of its own that handles its own end; Ctrl-C is passed on to the one that runs.

    The first ends that run's measurement and lets it report, as it would alone; no further one is begun.
    """

    def __init__(self) -> None:
        self.interrupted = False
        self._running: subprocess.Popen[bytes] | None = None

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def run(self, build: Build, directory: Path, options: Sequence[str]) -> int:
        """The exit code of `bft bench run --out directory`."""
        command = [str(build.python), "-m", "bft.cli.main", "bench", "run", "--out", str(directory), *options]
        with subprocess.Popen(command, cwd=build.directory, stdout=subprocess.DEVNULL, start_new_session=True) as child:
            self._running = child
            if self.interrupted:  # before there was anybody to pass it on to
                child.send_signal(signal.SIGINT)
            code = child.wait()
            self._running = None
        return code

    def _on_signal(self, *_: object) -> None:
        self.interrupted = True
        if self._running is not None:
            self._running.send_signal(signal.SIGINT)


def turns(pairs: int) -> Iterator[tuple[int, str]]:
    """(pair, which build) of every run: A B, B A, A B and so on, so that a drift of the machine favours neither."""
    for pair in range(pairs):
        for name in ("AB", "BA")[pair % 2]:
            yield pair, name


def compare(a: Sequence[Figures], b: Sequence[Figures]) -> dict[str, Ratio]:
    """B in units of A for each metric; `a[i]` and `b[i]` ran next to each other, and what has no partner is left out.

    Raises ConfigurationError.
    """
    try:
        return {
            metric: ratio([(_pick(first, path), _pick(second, path)) for first, second in zip(a, b, strict=False)])
            for metric, path in METRICS.items()
        }
    except ValueError as error:
        raise ConfigurationError(f"nothing can be compared: {error}") from error


def alarms(runs: Sequence[Figures], ratios: Mapping[str, Ratio]) -> list[str]:
    """What makes these figures doubtful."""
    found = []
    if busy := sum((figures["others_cores"] or 0) > _BUSY_CORES for figures in runs):
        found.append(f"other processes used more than {_BUSY_CORES:g} cores during {busy} of {len(runs)} runs")
    if noisy := [metric for metric, result in ratios.items() if result.noisy]:
        found.append(
            f"the pairs differ much among themselves in {', '.join(noisy)}: more --pairs, or a quieter machine"
        )
    return found


def document(
    ratios: Mapping[str, Ratio], runs: Mapping[str, Sequence[Figures]], *, interrupted: bool = False
) -> dict[str, Any]:
    """compare.json; without metrics if there were too few pairs."""
    return {
        "schema": "bft-bench-compare/1",
        "interrupted": interrupted,
        "pairs": min(len(figures) for figures in runs.values()),
        "metrics": {
            metric: {
                "ratio": round(result.estimate, 4),
                "low": round(result.low, 4),
                "high": round(result.high, 4),
                "differs": result.differs,
                "noise": round(result.noise, 4),
                "a": [_pick(figures, METRICS[metric]) for figures in runs["A"]],
                "b": [_pick(figures, METRICS[metric]) for figures in runs["B"]],
            }
            for metric, result in ratios.items()
        },
        "alarms": alarms([*runs["A"], *runs["B"]], ratios),
    }


def read_result(directory: Path) -> dict[str, Any]:
    """result.json of a run's directory."""
    document: dict[str, Any] = json.loads((directory / "result.json").read_text())
    return document


def read_figures(directory: Path) -> Figures:
    """Of a run's directory.  Raises ConfigurationError when the run was not safe, and so has none."""
    figures: Figures | None = read_result(directory)["figures"]
    if figures is None:
        raise ConfigurationError(f"{directory}: this run was not safe and has no figures; see report.html there")
    return figures


def _pick(figures: Figures, path: Sequence[str]) -> float:
    value: Any = figures
    for name in path:
        value = value.get(name)
        if value is None:
            return 0.0
    return float(value)
