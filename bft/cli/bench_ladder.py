"""`bft bench ladder`: the price of each guarantee."""

import json
import sys
from pathlib import Path
from typing import Any

import click

from bft.cli.bench_run import INTERRUPTED, attempt, console, default_out, exit_code, load_options, options_of
from bft.cli.output import examples, print_json
from bft.errors import ExitCode


@click.command(
    epilog=examples(
        "bft bench ladder",
        "bft bench ladder --clients 2 --inflight 100 --bundle 1 --duration 5 --repeats 1",
        "bft bench ladder --beside your.module:Adapter",
    )
)
@click.option("--repeats", type=click.IntRange(1, 50), default=3, show_default=True, help="Of each rung, interleaved.")
@click.option(
    "--beside", "more", multiple=True, metavar="MODULE:CLASS", help="One more system, by its adapter; may be repeated."
)
@load_options
@click.option(
    "--out", metavar="DIR", type=click.Path(path_type=Path), help="For the results.  [default: bench-results/TIME]"
)
@click.option("--json", "as_json", is_flag=True, help="Print the table as JSON.")
def ladder(*, repeats: int, more: tuple[str, ...], out: Path | None, as_json: bool, **load: Any) -> int:
    """Show what each guarantee costs: one workload, from no replication to everything.

    Our service in one process; etcd, which survives crashes; PBFT without signatures, which guarantees nothing; without
    fsync; and with everything. Medians of the repeats. What is not installed here is named in its row. Exits
    with 8 when any run was not safe.
    """
    from bench import ladder as ladders
    from bench import overview, report, show

    steps = ladders.rungs(options_of(**load), more)
    out = out or default_out()
    report.prepare(out)
    documents: dict[str, list[dict[str, Any]]] = {}
    runs: list[tuple[str, Path, dict[str, Any]]] = []
    code: int = ExitCode.OK
    for rung, directory in ladders.runs(steps, repeats, out):
        outcome = attempt(rung.options, directory, title=f"{rung.name}: ")
        if outcome is None:
            code = INTERRUPTED
            break
        code = code or exit_code(outcome)
        runs.append((f"{directory.name}: {rung.name}", directory, outcome.document()))
        if outcome.interrupted:
            code = INTERRUPTED
            break
        documents.setdefault(rung.name, []).append(outcome.document())
    rows = ladders.rows(steps, documents)
    names = ["rung", *(column.rstrip("#") for column in ladders.COLUMNS[1:])]
    table = [
        dict(zip(names, row, strict=True)) | {"guarantees": step.guarantees}
        for step, row in zip(steps, rows, strict=True)
    ]
    (out / "ladder.json").write_text(json.dumps({"schema": "bft-bench-ladder/1", "rows": table}, indent=2) + "\n")
    page = overview.write(out, "bft bench ladder", ladders.COLUMNS, rows, runs, interrupted=code == INTERRUPTED)
    if as_json:
        print_json(table)
    else:
        terminal = console(sys.stdout)
        show.print_table(terminal, ladders.COLUMNS, rows)
        terminal.print(f"report  {page}", markup=False, soft_wrap=True)
    return code
