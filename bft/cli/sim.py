"""`bft sim`: seeds of the deterministic simulator, many at once or one with its full trace."""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field

import click

from bft.cli.output import examples, print_json, print_table
from bft.errors import ExitCode


@dataclass(frozen=True, slots=True)
class SeedResult:
    """What came of one seed."""

    seed: int
    n: int
    violation: str | None  # None: everything held
    events: int
    virtual_ms: int
    accepted: int
    view_changes: int
    accused: int
    families: tuple[str, ...]
    trace_hash: str
    options: str  # expanded; empty unless it failed
    coverage: dict[str, int] = field(default_factory=dict)  # buckets of bft.testing.coverage, how often each


@dataclass(frozen=True, slots=True)
class Summary:
    """What came of all of them."""

    results: tuple[SeedResult, ...]
    seconds: float

    @property
    def violations(self) -> list[SeedResult]:
        return [result for result in self.results if result.violation is not None]


def run_seed(task: tuple[int, int, tuple[str, ...]]) -> SeedResult:
    """Run one drawn seed: (seed, n, families)."""
    from bft.testing.options import Family, Options
    from bft.testing.simulation import simulate
    from bft.testing.violation import Violation

    seed, n, families = task
    options = Options.draw(seed, n, tuple(Family(family) for family in families))
    drawn = tuple(str(family) for family in options.families)
    try:
        run = simulate(options)
    except Violation as violation:
        virtual_ms = violation.now_ns // 1_000_000
        described = options.describe()
        return SeedResult(seed, n, str(violation), violation.event, virtual_ms, 0, 0, 0, drawn, "", described)
    return SeedResult(
        seed=seed,
        n=n,
        violation=None,
        events=run.events,
        virtual_ms=run.virtual_ns // 1_000_000,
        accepted=run.accepted,
        view_changes=run.view_changes,
        accused=len(run.accused),
        families=drawn,
        trace_hash=run.trace_hash,
        options="",
        coverage=run.coverage,
    )


def run_sim(
    seeds: Sequence[int], sizes: Sequence[int], *, jobs: int, families: tuple[str, ...]
) -> Iterator[SeedResult]:
    """Every seed with every cluster size, as they finish."""
    tasks = [(seed, n, families) for n in sizes for seed in seeds]
    if jobs == 1:
        yield from map(run_seed, tasks)
        return
    # spawned, not forked: a fresh interpreter a worker, whatever threads this one has
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap_unordered(run_seed, tasks, chunksize=4)


@click.command(
    epilog=examples("bft sim --seeds 200", "bft sim --seed 123 -n 4", "bft sim -n 7 --family partition --family crash"),
)
@click.option("--seeds", default=200, show_default=True, type=click.IntRange(1), help="How many seeds.")
@click.option("--start", default=0, show_default=True, type=click.IntRange(0), help="The first seed.")
@click.option("--seed", type=click.IntRange(0), help="One seed only, with its whole trace.")
@click.option(
    "-n", "--replicas", "sizes", multiple=True, type=click.IntRange(1, 31), help="Cluster size; may be repeated. [4, 7]"
)
@click.option("--family", "families", multiple=True, help="Only these kinds of faults; may be repeated.")
@click.option("--budget", type=click.FloatRange(0), help="Seconds after which no more results are waited for.")
@click.option("--shrink", is_flag=True, help="With --seed: make a failing run small, and show what is left of it.")
@click.option("--show-options", is_flag=True, help="Print what the seeds draw; run nothing.")
@click.option("--jobs", default=0, type=click.IntRange(0), help="Processes; one a core by default.")
@click.option("--quiet", is_flag=True, help="With --seed: no trace.")
@click.option("--list-behaviours", is_flag=True, help="Print the catalogue of Byzantine behaviours and end.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
def sim(  # noqa: PLR0917 - click passes them by name
    seeds: int,
    start: int,
    seed: int | None,
    sizes: tuple[int, ...],
    families: tuple[str, ...],
    budget: float | None,
    shrink: bool,
    show_options: bool,
    jobs: int,
    quiet: bool,
    list_behaviours: bool,
    as_json: bool,
) -> None:
    r"""Run whole clusters in the deterministic simulator, under faults that each seed draws.

    Every safety property is checked after every event; after the faults end, every request has to complete while the
    Byzantine replicas go on.  What the clients were told has to be linearizable.

    \b
    Exit codes: 0  everything held
                1  some property did not hold: the command that shows it again is printed
                2  the command line makes no sense
    """
    if list_behaviours:
        _print_behaviours(as_json=as_json)
        return
    chosen = _checked_families(families)
    if show_options:
        _show_options([seed] if seed is not None else range(start, start + seeds), sizes or (4,), chosen)
        return
    if seed is not None:
        if shrink:
            _shrink_one(seed, (sizes or (4,))[0], chosen, seconds=60.0 if budget is None else budget)
        else:
            _show_one(seed, (sizes or (4,))[0], chosen, quiet=quiet)
        return
    if shrink:
        raise click.UsageError("--shrink needs --seed: which run?")
    started = time.monotonic()
    tasks = range(start, start + seeds)
    clusters = sizes or (4, 7)
    results = tuple(
        _with_progress(
            _within(
                budget, run_sim(tasks, clusters, jobs=jobs or multiprocessing.cpu_count(), families=chosen), started
            ),
            len(clusters) * seeds,
        )
    )
    summary = Summary(results, time.monotonic() - started)
    if as_json:
        print_json(_as_json(summary))
    else:
        _print_summary(summary)
    if summary.violations:
        sys.exit(ExitCode.FAILED)


def _print_behaviours(*, as_json: bool) -> None:
    from bft.testing.behaviours.grammar import COMBINATORS
    from bft.testing.byzantine import CATALOGUE

    if as_json:
        print_json(
            [
                {"name": e.name, "settings": e.defaults, "role": e.role, "does": e.does, "must_hold": e.must}
                for e in CATALOGUE
            ]
        )
        return
    rows = [(entry.usage, entry.role, entry.does, entry.must) for entry in CATALOGUE]
    print_table(("behaviour", "as", "does", "must hold, besides safety"), rows)
    click.echo(f"composed as A + B, {', '.join(COMBINATORS.values())}, and at the end A@signal, A@8s or A@8s..12s")


def _checked_families(families: tuple[str, ...]) -> tuple[str, ...]:
    from bft.testing.options import Family

    known = [str(family) for family in Family]
    for family in families:
        if family not in known:
            raise click.BadParameter(f"{family!r} is none of {', '.join(known)}", param_hint="--family")
    return families or tuple(known)


def _within(budget: float | None, results: Iterator[SeedResult], started: float) -> Iterator[SeedResult]:
    """The results that come in time; an abandoned generator ends its processes."""
    for result in results:
        yield result
        if budget is not None and time.monotonic() - started >= budget:
            return


def _as_json(summary: Summary) -> dict[str, object]:
    results = [{key: value for key, value in asdict(r).items() if key != "coverage"} for r in summary.results]
    from bft.testing.coverage import rare_last

    buckets, fresh = rare_last([result.coverage for result in summary.results])
    return {
        "seconds": summary.seconds,
        "coverage": {
            "buckets": buckets,
            "new_in_last_tenth": fresh,
            "counts": dict(sorted(_coverage(summary).items())),
        },
        "results": results,
    }


def _coverage(summary: Summary) -> Counter[str]:
    counts: Counter[str] = Counter()
    for result in summary.results:
        counts.update(result.coverage)
    return counts


def _show_options(seeds: Sequence[int], sizes: Sequence[int], families: tuple[str, ...]) -> None:
    from bft.testing.options import Family, Options

    for n in sizes:
        for seed in seeds:
            click.echo(Options.draw(seed, n, tuple(Family(family) for family in families)).describe())


def _shrink_one(seed: int, n: int, families: tuple[str, ...], *, seconds: float) -> None:
    from bft.testing.options import Family, Options
    from bft.testing.shrinking import attempt, shrink, tell

    failure = attempt(Options.draw(seed, n, tuple(Family(family) for family in families)))
    if failure is None:
        click.echo(f"seed {seed} of {n} replicas holds: there is nothing to shrink")
        return
    click.echo(f"VIOLATION {failure.violation.what} (event {failure.violation.event})")
    small = shrink(
        failure,
        seconds=seconds,
        progress=lambda found: click.echo(f"  still, at event {found.violation.event}", err=True),
    )
    story = tell(small)
    click.echo(f"\nSMALLER {small.violation.what} (event {small.violation.event})")
    click.echo("\nfaults, in order:" if story.script else "\nno faults")
    for line in story.script:
        click.echo(f"  {line}")
    click.echo("\nhow it ended:")
    for line in story.tail:
        click.echo(f"  {line}")
    click.echo(f"\nreplay: {small.options.replay}")
    sys.exit(ExitCode.FAILED)


def _show_one(seed: int, n: int, families: tuple[str, ...], *, quiet: bool) -> None:
    from bft.testing.options import Family, Options
    from bft.testing.simulation import simulate
    from bft.testing.violation import Violation

    options = Options.draw(seed, n, tuple(Family(family) for family in families))
    click.echo(options.describe())
    try:
        run = simulate(options, None if quiet else click.echo)
    except Violation as violation:
        click.echo(f"VIOLATION {violation}")
        sys.exit(ExitCode.FAILED)
    click.echo(
        f"held: {run.events} events, {run.accepted} requests, {run.view_changes} view changes, "
        f"{run.virtual_ns / 1e9:.1f} s of virtual time, accused {list(run.accused)}, trace {run.trace_hash}"
    )


def _with_progress(results: Iterator[SeedResult], total: int) -> Iterator[SeedResult]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("seeds"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[bad]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        bar = progress.add_task("", total=total, bad="", rate="")
        bad = events = 0
        started = time.monotonic()
        for result in results:
            bad += result.violation is not None
            events += result.events
            rate = f"{events / max(time.monotonic() - started, 1e-9):,.0f} events a second"
            progress.update(bar, advance=1, bad=f"{bad} violations" if bad else "", rate=rate)
            yield result


def _print_summary(summary: Summary) -> None:
    rows = []
    for n in sorted({result.n for result in summary.results}):
        of_size = [result for result in summary.results if result.n == n]
        rows.append(
            (
                str(n),
                str(len(of_size)),
                f"{sum(result.events for result in of_size):,}",
                f"{sum(result.accepted for result in of_size):,}",
                f"{sum(result.view_changes for result in of_size):,}",
                str(sum(result.accused for result in of_size)),
                str(sum(result.violation is not None for result in of_size)),
            )
        )
    print_table(("replicas#", "seeds#", "events#", "requests#", "view changes#", "convicted#", "violations#"), rows)
    drawn = Counter(family for result in summary.results for family in result.families)
    click.echo("seeds with " + ", ".join(f"{family} {count}" for family, count in drawn.most_common()))
    _print_coverage(summary)
    rate = sum(result.events for result in summary.results) / max(summary.seconds, 1e-9)
    click.echo(f"{len(summary.results)} runs in {summary.seconds:.1f} s, {rate:,.0f} events a second")
    for result in sorted(summary.violations, key=lambda r: (r.n, r.seed))[:10]:
        click.echo(f"\nVIOLATION {result.violation}")


def _print_coverage(summary: Summary) -> None:
    """Few lines: how much of what can happen did, and whether further seeds still find more; --json has it all."""
    from bft.testing.coverage import rare_last

    counts = _coverage(summary)
    remarkable = ("view change: ", "convicted by ", "state transfer")
    rows = sorted((name, f"{count:,}") for name, count in counts.items() if name.startswith(remarkable))
    if rows:
        print_table(("what occurred", "times#"), rows)
    rejections = sum(name.startswith("rejected ") for name in counts)
    behaviours = {name.split(" as ")[0] for name in counts if " as " in name}
    buckets, fresh = rare_last([result.coverage for result in summary.results])
    click.echo(
        f"{buckets} buckets of what occurred in which phase under which faults, {fresh} of them only in the last tenth"
        f" of the seeds; {rejections} kinds of rejection, {len(behaviours)} Byzantine behaviours"
    )


if __name__ == "__main__":
    sim()
