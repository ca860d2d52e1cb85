"""`bft bench sweep`, `saturate`, `attack` and `compare`: what many runs tell that one does not."""

import json
import sys
from pathlib import Path
from typing import Any, Final

import click

from bft.cli.bench_run import INTERRUPTED, attempt, console, default_out, exit_code, load_options, options_of
from bft.cli.output import examples, print_json
from bft.errors import ExitCode

_OUT: Final = click.option(
    "--out", metavar="DIR", type=click.Path(path_type=Path), help="For the results.  [default: bench-results/TIME]"
)


@click.command(
    epilog=examples(
        "bft bench sweep --vary inflight=1,4,16,64 --vary bundle=1,64 --duration 5",
        "bft bench sweep --vary rate=500,1000,2000 --clients 2 --inflight 100 --repeats 3",
    )
)
@click.option("--vary", "axes", multiple=True, required=True, metavar="OPTION=V,V", help="An axis; may be repeated.")
@click.option("--repeats", type=click.IntRange(1, 50), default=1, show_default=True, help="Of the grid, interleaved.")
@load_options
@_OUT
def sweep(axes: tuple[str, ...], repeats: int, out: Path | None, **load: Any) -> int:
    """Run every combination of some options; medians in one table, and as sweep.csv.

    Exits with 8 when any run was not safe; such a point shows no figures.
    """
    from bench import overview, report, show
    from bench import sweep as sweeping

    varied = [sweeping.Vary.parse(text) for text in axes]
    points = sweeping.grid(options_of(**load), varied)
    out = out or default_out()
    report.prepare(out)
    documents: list[list[dict[str, Any]]] = [[] for _ in points]
    runs: list[tuple[str, Path, dict[str, Any]]] = []
    code: int = ExitCode.OK
    for repeat in range(1, repeats + 1):
        for number, point in enumerate(points):
            directory = out / f"{number + 1}-{repeat}"
            outcome = attempt(point.options, directory, title=f"{', '.join(point.values)}: ")
            if outcome is None:
                code = INTERRUPTED
                break
            code = code or exit_code(outcome)
            label = ", ".join(f"{axis.option} {value}" for axis, value in zip(varied, point.values, strict=True))
            runs.append((label, directory, outcome.document()))
            if outcome.interrupted:
                code = INTERRUPTED
                break
            documents[number].append(outcome.document())
        if code == INTERRUPTED:
            break
    names = [axis.option for axis in varied]
    rows = [[*point.values, *sweeping.row(of)] for point, of in zip(points, documents, strict=True) if of]
    (out / "sweep.csv").write_text(sweeping.table_csv(names, rows))
    terminal = console(sys.stdout)
    columns = [*(f"{name}#" for name in names), *sweeping.COLUMNS]
    show.print_table(terminal, columns, rows)
    page = overview.write(out, "bft bench sweep", columns, rows, runs, interrupted=code == INTERRUPTED)
    terminal.print(f"report  {page}", markup=False, soft_wrap=True)
    terminal.print(f"table   {out / 'sweep.csv'}", markup=False, soft_wrap=True)
    return code


@click.command(epilog=examples("bft bench saturate --bundle 1 --clients 2 --duration 5"))
@load_options
@_OUT
def saturate(out: Path | None, **load: Any) -> int:
    """Double the callers until more load brings no more throughput; where to operate.

    The knee is the point with the most throughput for its latency: below it the cluster idles, above it
    operations queue.
    """
    from bench import overview, plots, report, show
    from bench import sweep as sweeping

    out = out or default_out()
    report.prepare(out)
    code: int = ExitCode.OK
    rows: list[list[str]] = []
    points: list[tuple[float, float]] = []
    runs: list[tuple[str, Path, dict[str, Any]]] = []
    for options in sweeping.loads(options_of(**load)):
        directory = out / f"callers-{options.callers}"
        outcome = attempt(options, directory, title=f"{options.callers} callers: ")
        if outcome is None:
            code = INTERRUPTED
            break
        code = code or exit_code(outcome)
        document = outcome.document()
        runs.append((f"{options.callers} callers", directory, document))
        if code:
            break
        rows.append([str(options.callers), *sweeping.row([document])])
        points.append((document["figures"]["operations_per_s"], document["figures"]["latency_ms"]["all"]["p50"]))
        if sweeping.saturated([throughput for throughput, _ in points]):
            break
    terminal = console(sys.stdout)
    overview.write(
        out, "bft bench saturate", ["callers#", *sweeping.COLUMNS], rows, runs, interrupted=code == INTERRUPTED
    )
    if points:
        at = sweeping.knee(points)
        (out / "saturate.csv").write_text(sweeping.table_csv(["callers"], rows))
        (out / "saturation.png").write_bytes(plots.png(plots.saturation([row[0] for row in rows], points, at)))
        show.print_table(terminal, ["callers#", *sweeping.COLUMNS], rows)
        rate, p50 = points[at]
        terminal.print(f"knee    {rows[at][0]} callers: {rate:,.0f} operations a second, p50 {p50:,.2f} ms")
        terminal.print(f"picture {out / 'saturation.png'}", markup=False, soft_wrap=True)
    return code


@click.command(
    epilog=examples("bft bench attack --duration 5", "bft bench attack --only silent --only equivocate_split")
)
@click.option("--only", "behaviours_only", multiple=True, metavar="NAME", help="This behaviour alone; may be repeated.")
@load_options
@_OUT
@click.option("--json", "as_json", is_flag=True, help="Print the table as JSON.")
def attack(behaviours_only: tuple[str, ...], out: Path | None, *, as_json: bool, **load: Any) -> int:
    """Let the primary misbehave in every way of the catalogue, against runs without a fault.

    Goodput and p99 are in units of the median run without one. Exits with 8 when any run was not safe.
    """
    from bench import attack as attacks
    from bench import overview, report, show

    out = out or default_out()
    report.prepare(out)
    documents: list[tuple[str, dict[str, Any]]] = []
    runs: list[tuple[str, Path, dict[str, Any]]] = []
    code: int = ExitCode.OK
    for number, (name, options) in enumerate(attacks.plan(options_of(**load), behaviours_only), 1):
        directory = out / f"{number:02}"
        outcome = attempt(options, directory, title=f"{name}: ")
        if outcome is None:
            code = INTERRUPTED
            break
        code = code or exit_code(outcome)
        runs.append((name, directory, outcome.document()))
        if outcome.interrupted:
            code = INTERRUPTED
            break
        documents.append((name, outcome.document()))
    rows = attacks.rows(documents)
    names = [column.rstrip("#") for column in attacks.COLUMNS]
    table = [dict(zip(names, row, strict=True)) for row in rows]
    (out / "attack.json").write_text(json.dumps({"schema": "bft-bench-attack/1", "rows": table}, indent=2) + "\n")
    page = overview.write(out, "bft bench attack", attacks.COLUMNS, rows, runs, interrupted=code == INTERRUPTED)
    if as_json:
        print_json(table)
    else:
        terminal = console(sys.stdout)
        show.print_table(terminal, attacks.COLUMNS, rows)
        terminal.print(f"report  {page}", markup=False, soft_wrap=True)
    return code


@click.command(
    context_settings={"ignore_unknown_options": True},
    epilog=examples("bft bench compare ../before . --pairs 8 --clients 2 --inflight 100 --bundle 1 --duration 5"),
)
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option("--pairs", type=click.IntRange(6, 100), default=8, show_default=True, help="Of runs, A and B in turn.")
@_OUT
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON.")
@click.argument("run_options", nargs=-1, type=click.UNPROCESSED)
def compare(a: Path, b: Path, pairs: int, out: Path | None, run_options: tuple[str, ...], *, as_json: bool) -> int:
    """Run two builds in turn, with the options of `bft bench run`, and say what differs.

    A and B are checkouts of this project, each run by its own .venv if it has one. Each metric of B is given in units
    of A with a 95 % interval; "no difference" means that the interval holds 1.
    """
    from bench import compare as comparing
    from bench import overview, report, show
    from bench.ratios import PAIRS_MIN

    builds = {"A": comparing.Build.at(a), "B": comparing.Build.at(b)}
    out = out or default_out()
    report.prepare(out)
    terminal = console(sys.stderr)
    figures: dict[str, list[Any]] = {"A": [], "B": []}
    runs: list[tuple[str, Path, dict[str, Any]]] = []
    turns = comparing.Turns()
    code: int = ExitCode.OK
    with turns.watched():
        for pair, name in comparing.turns(pairs):
            directory = out / f"{pair + 1}-{name}"
            terminal.print(
                f"pair {pair + 1} of {pairs}: {name}, {builds[name].directory}", markup=False, soft_wrap=True
            )
            code = turns.run(builds[name], directory.absolute(), run_options)
            code = INTERRUPTED if turns.interrupted else code
            if (directory / "result.json").is_file():
                runs.append((f"{directory.name}: {name}", directory, comparing.read_result(directory)))
            if code:
                break
            figures[name].append(comparing.read_figures(directory))
    if code not in (ExitCode.OK, INTERRUPTED):
        terminal.print(f"the last run exited with {code}: there is no comparison", markup=False)
        return code
    told = code == ExitCode.OK or min(map(len, figures.values())) >= PAIRS_MIN
    ratios = comparing.compare(figures["A"], figures["B"]) if told else {}
    document = comparing.document(ratios, figures, interrupted=code == INTERRUPTED)
    (out / "compare.json").write_text(json.dumps(document, indent=2) + "\n")
    columns, rows = ("", "B compared with A"), [(metric, str(result)) for metric, result in ratios.items()]
    page = overview.write(out, "bft bench compare", columns, rows, runs, interrupted=code == INTERRUPTED)
    if as_json:
        print_json(document)
        return code
    terminal = console(sys.stdout)
    if not told:
        terminal.print(
            f"interrupted: {document['pairs']} whole pairs, and nothing can be said of fewer than {PAIRS_MIN}"
        )
    show.print_table(terminal, columns, rows)
    for alarm in document["alarms"]:
        terminal.print(f"[yellow]note    {alarm}[/]")
    terminal.print(f"report  {page}", markup=False, soft_wrap=True)
    return code
