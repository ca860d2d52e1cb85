"""What the demo shows: steps, progress, the final table; plain lines where there is no terminal."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final, Protocol

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from deploy.load import Load

_REFRESH_S: Final = 0.25
_PLAIN_EVERY_S: Final = 2.0


class Outcome(Protocol):
    """What the final table is made of."""

    checks: list[tuple[str, bool]]
    evidence: dict[str, Any]
    executed: int
    checkpoint: int
    roots: dict[int, str]
    view: int
    view_changes: int
    view_change_s: float

    @property
    def verdict(self) -> bool: ...


class Show:
    """Prints, with the time since the start in front of each step."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began_s = time.monotonic()

    def step(self, text: str) -> None:
        elapsed = time.monotonic() - self._began_s
        self._console.print(f"[bold cyan]{elapsed:5.1f} s[/]  {text}")

    def line(self, text: str) -> None:
        self._console.print(f"         {text}", markup=False)

    def failed(self, text: str) -> None:
        self._console.print("[bold red]the demo failed:[/]", end=" ")
        self._console.print(text, markup=False)

    async def watch(self, load: Load, seconds: float) -> None:
        """Show the load for so long."""
        if self._console.is_terminal:
            await self._watch_bar(load, seconds)
        else:
            await self._watch_lines(load, seconds)

    async def _watch_bar(self, load: Load, seconds: float) -> None:
        columns = (
            TextColumn("        "),
            BarColumn(bar_width=40),
            TextColumn("{task.fields[operations]:>8,} operations  {task.fields[rate]:>8,.0f}/s"),
            TimeRemainingColumn(),
        )
        end = time.monotonic() + seconds
        with Progress(*columns, console=self._console, transient=True) as progress:
            task = progress.add_task("load", total=seconds, operations=0, rate=0.0)
            while (left := end - time.monotonic()) > 0:
                phase = load.phase
                progress.update(task, completed=seconds - left, operations=load.operations, rate=phase.throughput)
                await asyncio.sleep(min(_REFRESH_S, left))
        self.line(_summary(load))

    async def _watch_lines(self, load: Load, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            await asyncio.sleep(min(_PLAIN_EVERY_S, left))
            self.line(_summary(load))

    def result(self, load: Load, outcome: Outcome) -> None:
        """The numbers, each claim, the verdict."""
        numbers = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for heading in ("phase", "seconds", "operations", "per second", "p50", "p99", "longest"):
            numbers.add_column(heading, justify="left" if heading == "phase" else "right")
        for phase in load.phases:
            latencies = [f"{phase.percentile_ms(p):.1f} ms" for p in (50, 99, 100)]
            cells = (f"{phase.seconds:.1f}", f"{phase.operations:,}", f"{phase.throughput:,.0f}")
            numbers.add_row(_PHASES.get(phase.name, phase.name), *cells, *latencies)
        self._console.print(numbers)
        facts = Table(box=None, show_header=False, pad_edge=False)
        for name, value in _facts(load, outcome).items():
            facts.add_row(name, value)
        for claim, holds in outcome.checks:
            facts.add_row(claim, "[green]yes[/]" if holds else "[bold red]NO[/]")
        facts.add_row("[bold]verdict[/]", "[bold green]held[/]" if outcome.verdict else "[bold red]BROKEN[/]")
        self._console.print(facts)


_PHASES: Final = {"before": "correct primary", "attack": "equivocation", "after": "new primary"}


def _facts(load: Load, outcome: Outcome) -> Mapping[str, str]:
    roots = sorted(set(outcome.roots.values()))
    return {
        "operations": f"{load.operations:,}",
        "view changes": f"{outcome.view_changes} (now in view {outcome.view})",
        "longest time without a completion": f"{load.longest_pause_s * 1000:.0f} ms",
        f"state root after sequence number {outcome.executed}": ", ".join(root[:16] or "-" for root in roots)
        + f" on replicas {', '.join(map(str, sorted(outcome.roots)))}",
        "stable checkpoint": str(outcome.checkpoint),
    }


def _summary(load: Load) -> str:
    phase = load.phase
    return (
        f"{load.operations:>8,} operations  {phase.throughput:>7,.0f}/s  "
        f"p50 {phase.percentile_ms(50):.1f} ms  p99 {phase.percentile_ms(99):.1f} ms"
    )
