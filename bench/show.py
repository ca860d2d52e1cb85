"""What a person sees of a run: steps and live progress on the terminal's error stream, a table at the end."""

import time
from collections.abc import Sequence
from typing import Any, Final, Self

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table

from bench.report import warnings
from bench.run import Outcome

_PLAIN_EVERY_S: Final = 2.0


class Terminal:
    """Steps with the time since the start; a bar where there is a terminal, else a line every two seconds."""

    def __init__(self, console: Console, seconds: float, *, prefix: str = "") -> None:
        self._console = console
        self._seconds = seconds
        self._prefix = prefix
        self._began_s = time.monotonic()
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._next_line_s = 0.0
        self._last: tuple[float, int] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end_bar()

    def step(self, text: str) -> None:
        self._end_bar()
        elapsed = time.monotonic() - self._began_s
        self._console.print(f"[bold cyan]{elapsed:5.1f} s[/]  {self._prefix}", end="")
        self._console.print(text, markup=False)

    def progress(self, at_s: float, operations: int, errors: int) -> None:
        rate = 0.0
        if self._last is not None and at_s > self._last[0]:
            rate = (operations - self._last[1]) / (at_s - self._last[0])
        self._last = (at_s, operations)
        phase = "warm-up" if at_s < 0 else f"{at_s:4.1f} of {self._seconds:g} s"
        text = f"{phase}  {rate:>9,.0f} op/s" + (f"  {errors} errors" if errors else "")
        if self._console.is_terminal:
            if self._bar is None:
                self._bar = Progress(TextColumn("        "), BarColumn(), TextColumn("{task.description}"),
                                     console=self._console, transient=True)  # fmt: skip
                self._task = self._bar.add_task(text, total=self._seconds)
                self._bar.start()
            self._bar.update(self._task, description=text, completed=max(0.0, at_s))
        elif time.monotonic() >= self._next_line_s:
            self._next_line_s = time.monotonic() + _PLAIN_EVERY_S
            self._console.print(f"         {text}", markup=False)

    def _end_bar(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def summary(console: Console, outcome: Outcome) -> None:
    """The verdict, and the figures if there are any."""
    table = Table(box=None, show_header=False, pad_edge=False)
    for check in outcome.verdict.checks:
        mark = "[green]yes[/]" if check.holds else "[bold red]NO[/]"
        table.add_row(mark, check.claim, f"[dim]{check.found}[/]")
    console.print(table)
    if (figures := outcome.figures) is None:
        console.print("[bold red]this run was not safe: no figures of it are given[/]")
        return
    console.print()
    console.print(f"[bold]{figures['operations_per_s']:,.0f} operations a second[/]", end="")
    console.print(f" ({figures['operations']:,} in {figures['seconds']:g} s, {figures['failed']} failed)")
    for kind, values in figures["latency_ms"].items():
        numbers = "  ".join(f"{name} {value:,.2f}" for name, value in values.items())
        console.print(f"{ {'put': 'writes', 'get': 'reads'}.get(kind, kind):7} {numbers} ms")
    if figures["latency_from_send_ms"]:
        numbers = "  ".join(f"{name} {value:,.2f}" for name, value in figures["latency_from_send_ms"].items())
        console.print(f"[dim]from the sending, not from the schedule, as a closed loop sees it: {numbers} ms[/]")
    if figures["phases"] is not None:
        numbers = "  ".join(f"{name} {ms:,.2f}" for name, ms in figures["phases"]["ms"].items())
        console.print(f"phases  {numbers} ms")
    cores = ", ".join("-" if r["cores"] is None else f"{r['cores']:g}" for r in figures["replicas"])
    console.print(f"CPU     {figures['replicas_cpu_us_per_operation']:,.0f} us an operation over all replicas "
                  f"({cores} cores), load {', '.join(map(str, figures['load_cores']))} cores")  # fmt: skip
    for change in figures["view_changes"]:
        took_ms = (change["end_s"] - change["begin_s"]) * 1000
        console.print(f"view    {change['view']} entered after {took_ms:,.0f} ms, at {change['begin_s']:g} s")
    for found in figures["recovery"]:
        told = ["never" if found[k] is None else f"{found[k]:g} s" for k in ("first_commit_s", "recovered_s")]
        console.print(f"fault   {found['after']} at {found['at_s']:g} s: operations again after {told[0]}, "
                      f"95 % of the throughput after {told[1]}", markup=False)  # fmt: skip
    for text in warnings(outcome.document()):
        console.print(f"[yellow]note    {text}[/]")


def print_table(console: Console, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Columns whose heading ends in `#` are aligned right."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column.removesuffix("#"), justify="right" if column.endswith("#") else "left")
    for row in rows:
        table.add_row(*map(str, row))
    console.print(table)
