"""`bft bench`: throughput and latency, also while replicas misbehave, and a verdict on safety from the same run."""

import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from bft.cli.output import examples, print_json
from bft.errors import ExitCode

if TYPE_CHECKING:
    from rich.console import Console

    from bench.options import Options
    from bench.run import Outcome

_INTERRUPTED: Final = 130
_DURABILITY: Final = ("fsync", "os", "memory")


@click.group(
    epilog=examples(
        "bft bench run --clients 4 --inflight 16",
        "bft bench run --bundle 64 --behaviour 0=equivocate_split@4s",
        "bft bench suite",
    )
)
def bench() -> None:
    """Measure throughput and latency, also while replicas misbehave."""


@bench.command(
    epilog=examples(
        "bft bench run --clients 1 --inflight 1",
        "bft bench run --clients 2 --inflight 100 --bundle 1 --reads 0.5 --duration 20",
        "bft bench run --behaviour 0=equivocate_split@8s --duration 20 --out equivocation",
    )
)
@click.option(
    "--replicas", "-n", type=click.IntRange(4, 16), help="Of a throw-away cluster on this machine.  [default: 4]"
)
@click.option(
    "--cluster",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Instead: a cluster that runs on this machine.",
)
@click.option("--clients", type=click.IntRange(1, 64), default=4, show_default=True, help="Sessions.")
@click.option(
    "--inflight",
    type=click.IntRange(1),
    default=16,
    show_default=True,
    help="Bundles under way of each client; with --bundle auto: operations.",
)
@click.option(
    "--bundle",
    metavar="auto|N",
    default="auto",
    show_default=True,
    help="Operations under one signature; auto: what the SDK gathers meanwhile.",
)
@click.option("--value-size", type=click.IntRange(1, 1_000_000), default=100, show_default=True, help="Bytes.")
@click.option("--reads", type=click.FloatRange(0, 1), default=0.0, show_default=True, help="Share of the operations.")
@click.option("--keys", type=click.IntRange(1, 1_000_000), default=2000, show_default=True, help="How many there are.")
@click.option("--duration", type=click.FloatRange(1, 3600), default=10.0, show_default=True, help="Seconds measured.")
@click.option("--warmup", type=click.FloatRange(0, 600), default=2.0, show_default=True, help="Seconds before that.")
@click.option("--durability", type=click.Choice(_DURABILITY), help="Of the throw-away cluster.  [default: fsync]")
@click.option(
    "--behaviour",
    "behaviours",
    multiple=True,
    metavar="N=NAME[@Ts]",
    help="Replica N misbehaves, T seconds after the measurement began.",
)
@click.option(
    "--out", metavar="DIR", type=click.Path(path_type=Path), help="For the results.  [default: bench-results/TIME]"
)
@click.option("--json", "as_json", is_flag=True, help="Print result.json instead of a summary.")
def run(
    *,
    replicas: int | None,
    cluster: Path | None,
    clients: int,
    inflight: int,
    bundle: str,
    value_size: int,
    reads: float,
    keys: int,
    duration: float,
    warmup: float,
    durability: str | None,
    behaviours: tuple[str, ...],
    out: Path | None,
    as_json: bool,
) -> int:
    """Put load on a cluster and measure it; check that nothing was lost.

    Closed loop: each caller has one operation under way. A run that was not safe gives no
    figures and exits with 8. Ctrl-C ends the measurement early, and what was measured is reported.
    """
    from bench import report, show
    from bench.options import Fault, Options
    from bft.config import load_cluster

    if cluster is not None and (replicas is not None or durability is not None):
        raise click.UsageError("--cluster names a cluster that runs already: leave out --replicas and --durability")
    options = Options(
        replicas=len(load_cluster(cluster).replicas) if cluster is not None else replicas or 4,
        cluster=cluster,
        clients=clients,
        inflight=inflight,
        bundle=_bundle(bundle),
        value_size=value_size,
        reads=reads,
        keys=keys,
        duration_s=duration,
        warmup_s=warmup,
        durability=durability or "fsync",
        faults=tuple(Fault.parse(text) for text in behaviours),
    )
    out = out or _default_out()
    report.prepare(out)
    outcome = _carry_out(options, out)
    if as_json:
        print_json(outcome.document())
    else:
        console = _console(sys.stdout)
        show.summary(console, outcome)
        console.print(f"report  {out / 'report.html'}", markup=False, soft_wrap=True)
    return _exit_code(outcome)


@bench.command(epilog=examples("bft bench suite", "bft bench suite --repeats 1 --out bench-results/quick"))
@click.option("--repeats", type=click.IntRange(1, 50), default=3, show_default=True, help="Of each case, interleaved.")
@click.option(
    "--out", metavar="DIR", type=click.Path(path_type=Path), help="For the results.  [default: bench-results/TIME]"
)
def suite(repeats: int, out: Path | None) -> int:
    """Measure the standard cases on this machine, as one table.

    One caller, 200 callers, bundles of 64, and an equivocating primary: medians of the repeats.
    Exits with 8 when any run was not safe.
    """
    from bench import report, show
    from bench import suite as cases

    out = out or _default_out()
    report.prepare(out)
    documents: dict[str, list[dict[str, object]]] = {case: [] for case in cases.CASES}
    code: int = ExitCode.OK
    for case, options, directory in cases.runs(repeats, out):
        report.prepare(directory)
        outcome = _carry_out(options, directory, title=f"{directory.name} ({case}): ")
        if outcome.interrupted:
            code = _INTERRUPTED
            break
        documents[case].append(outcome.document())
        code = code or _exit_code(outcome)
    console = _console(sys.stdout)
    if any(documents.values()):
        show.print_table(console, cases.COLUMNS, cases.rows(documents))
    console.print(f"reports: {out}/*/report.html", markup=False, soft_wrap=True)
    return code


def _carry_out(options: "Options", out: Path, *, title: str = "") -> "Outcome":
    from bench import report, show
    from bench.run import run as measure

    with show.Terminal(_console(sys.stderr), options.duration_s, prefix=title) as terminal:
        try:
            outcome = asyncio.run(measure(options, terminal))
        except asyncio.CancelledError:
            raise click.Abort from None
    report.write(outcome, out)
    return outcome


def _exit_code(outcome: "Outcome") -> int:
    if not outcome.verdict.safe:
        return ExitCode.VERIFICATION
    return _INTERRUPTED if outcome.interrupted else ExitCode.OK


def _bundle(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdecimal() or not 1 <= int(text) <= 1024:
        raise click.BadParameter(f"{text!r} is neither auto nor a number from 1 to 1024", param_hint="--bundle")
    return int(text)


def _default_out() -> Path:
    return Path("bench-results") / datetime.now(UTC).strftime("%Y-%m-%d-%H%M%S")


def _console(stream: "object") -> "Console":
    from rich.console import Console

    terminal = bool(getattr(stream, "isatty", bool)())
    return Console(file=stream, highlight=False, width=None if terminal else 120)  # type: ignore[arg-type]
