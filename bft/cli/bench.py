"""`bft bench`: throughput and latency, also while replicas misbehave, and a verdict on safety from the same run."""

import sys
from pathlib import Path
from typing import Any

import click

from bft.cli.bench_ladder import ladder
from bft.cli.bench_run import INTERRUPTED, attempt, console, default_out, exit_code, load_options, options_of
from bft.cli.bench_series import attack, compare, saturate, sweep
from bft.cli.output import examples, print_json
from bft.errors import ExitCode


@click.group(
    epilog=examples(
        "bft bench run --clients 4 --inflight 16",
        "bft bench run --bundle 64 --behaviour 0=equivocate_split@4s",
        "bft bench suite",
        "bft bench attack",
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
@load_options
@click.option(
    "--out", metavar="DIR", type=click.Path(path_type=Path), help="For the results.  [default: bench-results/TIME]"
)
@click.option("--json", "as_json", is_flag=True, help="Print result.json instead of a summary.")
def run(*, out: Path | None, as_json: bool, **load: Any) -> int:
    """Put load on a cluster and measure it; check that nothing was lost.

    Closed loop: each caller has one operation under way. With --rate, open loop: operations begin by a
    schedule, whether or not earlier ones were answered. A run that was not safe gives no
    figures and exits with 8. Ctrl-C ends the measurement early, and what was measured is reported.
    """
    from bench import show

    options = options_of(**load)
    out = out or default_out()
    outcome = attempt(options, out, title="")
    if outcome is None:
        raise click.Abort
    if as_json:
        print_json(outcome.document())
    else:
        terminal = console(sys.stdout)
        show.summary(terminal, outcome)
        terminal.print(f"report  {out / 'report.html'}", markup=False, soft_wrap=True)
    return exit_code(outcome)


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
    from bench import overview, report, show
    from bench import suite as cases

    out = out or default_out()
    report.prepare(out)
    documents: dict[str, list[dict[str, object]]] = {case: [] for case in cases.CASES}
    runs: list[tuple[str, Path, dict[str, Any]]] = []
    code: int = ExitCode.OK
    for case, options, directory in cases.runs(repeats, out):
        outcome = attempt(options, directory, title=f"{directory.name} ({case}): ")
        if outcome is None:
            code = INTERRUPTED
            break
        runs.append((f"{directory.name}: {case}", directory, outcome.document()))
        if outcome.interrupted:
            code = INTERRUPTED
            break
        documents[case].append(outcome.document())
        code = code or exit_code(outcome)
    terminal = console(sys.stdout)
    if any(documents.values()):
        show.print_table(terminal, cases.COLUMNS, cases.rows(documents))
    page = overview.write(
        out, "bft bench suite", cases.COLUMNS, cases.rows(documents), runs, interrupted=code == INTERRUPTED
    )
    terminal.print(f"report  {page}", markup=False, soft_wrap=True)
    return code


@bench.command(
    epilog=examples(
        "bft bench run --cluster mycluster --worker 'ssh load1 bft bench worker mycluster'",
        "bft bench run --cluster mycluster --worker 'kubectl exec -i job/load -- bft bench worker /etc/bft'",
    )
)
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
def worker(directory: Path) -> int:
    """Be a load generator for `bft bench run --worker`, on this machine.

    DIR holds what a client needs of the cluster: cluster.toml, the CA's certificate, an identity in
    clients/. It takes its orders from standard input, and ends with it.
    """
    from bench.worker import main

    return main(str(directory))


for _command in (sweep, saturate, attack, ladder, compare):
    bench.add_command(_command)
