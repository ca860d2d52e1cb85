"""What a run leaves in its directory: result.json, time line, histogram logs, and a page that a person enjoys."""

import json
from collections.abc import Iterable, Sequence
from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from bench.latency import INTERVAL_S, timeline_csv
from bench.run import Outcome
from bench.shared import OPERATIONS_MAX
from bench.systems import OWN, PBFT
from bench.workloads import KV_PUT
from bft.errors import EnvironmentFailure

BUSY_CORES: Final = 0.25  # that other processes used: more, and the figures are too low to be quoted
STYLE: Final = """
:root { color-scheme: light }
body { font: 15px/1.5 system-ui, sans-serif; color: #1e293b; background: #f1f5f9; margin: 0 }
main { max-width: 1060px; margin: 0 auto; padding: 28px 20px 60px }
h1 { font-size: 25px; margin: 0 0 2px } h2 { font-size: 17px; margin: 0 0 8px }
.sub { color: #64748b; margin: 0 0 20px }
section { background: #fff; border: 1px solid #e2e8f0; border-radius: 10px; padding: 18px 20px; margin: 0 0 16px }
.tiles { display: flex; flex-wrap: wrap; gap: 12px; margin: 0 0 16px }
.tile { flex: 1 1 105px; background: #fff; border: 1px solid #e2e8f0; border-radius: 10px; padding: 12px 16px }
.tile b { display: block; font-size: 24px; font-variant-numeric: tabular-nums } .tile span { color: #64748b }
.safe { border-left: 5px solid #059669 } .unsafe { border-left: 5px solid #dc2626 }
.note { border-left: 5px solid #d97706 }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th { text-align: left; color: #64748b; font-weight: 500 }
th, td { padding: 4px 10px 4px 0; border-bottom: 1px solid #f1f5f9 }
.n { text-align: right } td:first-child { white-space: nowrap } svg { width: 100%; height: auto }
.wide { overflow-x: auto } code { background: #f1f5f9; padding: 1px 5px; border-radius: 4px }
"""


def prepare(directory: Path) -> None:
    """Make sure that the results can be written, before they are made.  Raises EnvironmentFailure or OSError."""
    if find_spec("matplotlib") is None:
        raise EnvironmentFailure("the report's pictures need matplotlib: pip install 'bft-service[bench]'")
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise EnvironmentFailure(f"{directory} exists and is never overwritten: name another directory with --out")
    directory.mkdir(parents=True, exist_ok=True)


def write(outcome: Outcome, directory: Path) -> None:
    """Write everything; an unsafe run's report holds its verdict and no figure.  Raises OSError."""
    document = outcome.document()
    (directory / "result.json").write_text(json.dumps(document, indent=2) + "\n")
    if outcome.figures is not None:
        (directory / "timeline.csv").write_text(_timeline(outcome))
        for kind in outcome.latencies.kinds:
            (directory / f"{kind}.hlog").write_text(outcome.latencies.hlog(kind))
    images: list[tuple[str, str]] = []
    if outcome.figures is not None and outcome.timeline:
        from bench import plots  # noqa: PLC0415 (matplotlib is slow to load, and not everybody has it)

        for title, figure in (
            ("Throughput and latency over time", plots.over_time(outcome)),
            ("Latency by percentile", plots.percentiles(outcome)),
            *([("Where the time goes", plots.phases(outcome.figures["phases"]))] if outcome.figures["phases"] else []),
            ("Processor use of the replicas", plots.resources(outcome)),
        ):
            images.append((title, plots.svg(figure)))
            (directory / f"{title.lower().replace(' ', '-')}.png").write_bytes(plots.png(figure))
    (directory / "report.html").write_text(page(document, images))


def _timeline(outcome: Outcome) -> str:
    end_s = max((interval.begin_s for interval in outcome.timeline), default=0.0) + INTERVAL_S
    # What took no time is in the interval in which it happened.
    marks = [(mark.name, mark.begin_s, max(mark.end_s or end_s, mark.begin_s + 1e-6)) for mark in outcome.marks]
    return timeline_csv(outcome.timeline, outcome.latencies.kinds, marks)


def warnings(document: dict[str, Any]) -> list[str]:
    """What a reader of the figures must know."""
    found = []
    figures = document["figures"]
    if not document["options"]["guarantees"]:
        found.append("measured without signatures: no guarantee of any kind; for comparison with signed runs alone")
    if document["interrupted"]:
        found.append("interrupted: the figures cover what was measured until then")
    if figures is None:
        return found
    if figures["load_is_bottleneck"]:
        found.append("a load generator used most of a core: it may be what limits this run; use more --clients")
    if (figures["others_cores"] or 0) > BUSY_CORES:
        found.append(f"other processes used {figures['others_cores']:g} cores meanwhile: the figures are too low")
    if figures["phases"] is not None and abs(figures["phases"]["sum_ms"] / figures["phases"]["latency_ms"] - 1) > 0.02:
        found.append(
            f"the {figures['phases']['operations']} operations whose phases were seen took "
            f"{figures['phases']['sum_ms']:g} ms on average, all together {figures['phases']['latency_ms']:g} ms"
        )
    if figures["history_full"]:
        found.append(
            f"a load generator recorded {OPERATIONS_MAX:,} operations on shared keys, the most that are judged, and "
            "took keys of its callers from then on: a shorter --duration keeps the workload what it is"
        )
    if figures["failed"]:
        found.append(f"{figures['failed']} operations failed: see errors in result.json")
    return found


def page(document: dict[str, Any], images: Sequence[tuple[str, str]]) -> str:
    """The self-contained page; `images` are titles and SVG elements."""
    figures, verdict = document["figures"], document["verdict"]
    head = headline(document["options"])
    parts = [f"<h1>bft bench run</h1><p class=sub>{escape(head)}<br>{escape(document['began'])}</p>"]
    parts += [f"<section class=note>{escape(text)}</section>" for text in warnings(document)]
    if figures is not None:
        parts.append(_tiles(figures))
    parts.append(_verdict(verdict))
    if figures is not None:
        parts.append(_recovery(figures, document["marks"]))
    parts += [f"<section><h2>{escape(title)}</h2>{image}{_explained(title)}</section>" for title, image in images]
    if figures is not None:
        parts += [_latencies(figures), _replicas(figures)]
    parts.append(machine_section(document))
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>bft bench run</title><style>{STYLE}</style><main>{''.join(parts)}</main></html>\n"
    )


def headline(options: dict[str, Any]) -> str:
    """What was measured, in a line."""
    own = options["system"] in OWN
    words = [
        options["system"] if options["system"] != PBFT else "",
        f"{options['replicas']} replicas" if own else "",
        f"{options['clients']} clients with {options['inflight']} in flight",
        f"bundles: {options['bundle']}" if own else "",
        options["workload"] + (f" with {options['reads']:.0%} reads" if options["workload"] == KV_PUT else ""),
        f"{options['keys']} {'zipfian ' if options['zipfian'] else ''}keys",
        f"values of {options['value_size']} bytes",
        f"durability {options['durability']}",
        f"links {options['network']}" if options["network"] else "",
        f"{options['limits']['cpus']:g} cores each" if options["limits"]["cpus"] else "",
        f"{options['limits']['memory_bytes'] >> 20} MB each" if options["limits"]["memory_bytes"] else "",
    ]
    faults = ", ".join([*options["behaviours"], *options["faults"]])
    return ", ".join(filter(None, words)) + (f"; faults: {faults}" if faults else "")


_EXPLAINED: Final = {
    "Throughput and latency over time": "Thin: each 100 ms. Thick: the mean of a second. Dashed red: a fault begins. "
    "Red: a view change, from the first replica that left its view to the quorum in the next.",
    "Where the time goes": "Until pre-prepared: the request travels, waits and is proposed. Until prepared: a quorum "
    "agrees on its place in this view. Until committed: a quorum knows it. Until executed and replied: at the replica "
    "whose answer was the last that the client needed. Until answered: the answer travels and is checked.",
}


def _explained(title: str) -> str:
    return f"<p class=sub>{_EXPLAINED[title]}</p>" if title in _EXPLAINED else ""


def _tiles(figures: dict[str, Any]) -> str:
    latency = figures["latency_ms"]["all"]
    tiles = [
        (f"{figures['operations_per_s']:,.0f}", "operations a second"),
        (_ms(latency.get("p50")), "p50 latency"),
        (_ms(latency.get("p99")), "p99 latency"),
        (f"{figures['replicas_cpu_us_per_operation']:,.0f} µs", "CPU of all replicas an operation"),
        (f"{figures['longest_pause_s']:g} s", "longest pause"),
        (str(len(figures["view_changes"])), "view changes"),
    ]
    return (
        "<div class=tiles>" + "".join(f"<div class=tile><b>{v}</b><span>{t}</span></div>" for v, t in tiles) + "</div>"
    )


def _verdict(verdict: dict[str, Any]) -> str:
    title = "Safe: everything that was promised held" if verdict["safe"] else "NOT SAFE: this run has no figures"
    rows = [["✓" if c["holds"] else "✗", c["claim"], c["found"]] for c in verdict["checks"]]
    kind = "safe" if verdict["safe"] else "unsafe"
    return f"<section class={kind}><h2>{title}</h2>{table(('', 'claim', 'found'), rows)}</section>"


def _latencies(figures: dict[str, Any]) -> str:
    names = {"all": "all", "put": "writes", "get": "reads"}
    columns = ("", "mean#", "p50#", "p90#", "p99#", "p99.9#", "max#")
    rows = [
        [names.get(kind, kind), *(_ms(values.get(column.rstrip("#"))) for column in columns[1:])]
        for kind, values in figures["latency_ms"].items()
    ]
    return f"<section><h2>Latency</h2>{table(columns, rows)}</section>"


def _recovery(figures: dict[str, Any], marks: Sequence[dict[str, Any]]) -> str:
    if not marks:
        return ""
    told = {(r["after"], r["at_s"]): r for r in figures["recovery"]}
    rows = []
    for mark in marks:
        found = told.get((mark["name"], mark["begin_s"]), {})
        times = [
            f"{mark['begin_s']:g} s",
            "the end" if mark["end_s"] is None else f"{mark['end_s']:g} s",
            *("–" if found.get(k) is None else f"{found[k]:g} s" for k in ("first_commit_s", "recovered_s")),
        ]
        rows.append([mark["name"], *times])
    columns = ("", "from#", "to#", "operations again after#", "95 % of the throughput after#")
    return f"<section><h2>What went wrong</h2>{table(columns, rows)}<p>{escape(_answer(figures))}</p></section>"


def _answer(figures: dict[str, Any]) -> str:
    """What the cluster did about it."""
    changes = [
        f"left for view {change['view']} at {change['begin_s']:.1f} s and were in it "
        f"{(change['end_s'] - change['begin_s']) * 1000:,.0f} ms later"
        for change in figures["view_changes"]
    ]
    convicted = sorted({accused for replica in figures["replicas"] for accused in replica.get("evidence", ())})
    told = f"The correct replicas {'; '.join(changes)}." if changes else "No view change was needed."
    if convicted:
        told += f" They hold a proof that replica {', '.join(map(str, convicted))} lied; anybody can verify it."
    return told


def _replicas(figures: dict[str, Any]) -> str:
    columns = {
        "cores#": "cores",
        "CPU µs/op#": "cpu_us_per_operation",
        "RSS MB#": "rss_mb",
        "ops/batch#": "operations_per_batch",
        "syncs/op#": "log_syncs_per_operation",
        "ms/sync#": "sync_ms",
        "bytes sent/op#": "peer_bytes_sent_per_operation",
        "signed/op#": "signatures_made_per_operation",
        "verified/op#": "signatures_verified_per_operation",
        "log bytes/op#": "log_bytes_per_operation",
        "view#": "view",
        "view changes#": "view_changes",
    }
    rows = [
        [
            f"{r['id']}{' (faulty)' if r['faulty'] else ' (restarted)' if r['restarted'] else ''}",
            *("–" if r.get(k) is None else _short(r[k]) for k in columns.values()),
        ]
        for r in figures["replicas"]
    ]
    load = (
        f"The load used {', '.join(f'{cores:g}' for cores in figures['load_cores'])} cores, "
        f"other processes {figures['others_cores']:g}. All replicas together spend on an operation what "
        f"{figures['verifications_worth']:g} Ed25519 verifications cost."
    )
    if (crypto := figures["crypto"])["ratio"] is not None:
        load += (
            f" Of that, {crypto['signatures_us']:g} µs are signatures and {crypto['tls_us']:g} µs encryption, as fast "
            f"as this machine can do them: the whole is {crypto['ratio']:g} times as much."
        )
    return (
        f"<section><h2>Replicas</h2><div class=wide>{table(('replica', *columns), rows)}</div><p>{load}</p></section>"
    )


def machine_section(document: dict[str, Any]) -> str:
    """What the figures of a result.json were measured on."""
    machine, floor = document["machine"], document["crypto_floor"]
    rows = [
        ["commit", machine["commit"]],
        ["processor", f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_mb']} MB"],
        ["kernel", machine["kernel"]],
        ["load average before the run", " ".join(map(str, machine["load_average"]))],
        ["Python", machine["python"]],
        ["packages", ", ".join(f"{name} {version}" for name, version in machine["packages"].items())],
        ["Ed25519 sign, verify", f"{floor['sign_us']} µs, {floor['verify_us']} µs"],
        ["SHA-256 of 4 KiB", f"{floor['sha256_4k_us']} µs"],
        ["TLS 1.3, both ends: handshake, record of 1 KiB", _tls(floor)],
    ]
    return f"<section><h2>Machine</h2>{table(('', ''), rows)}</section>"


def _tls(floor: dict[str, Any]) -> str:
    """Results of earlier versions, which `compare` meets, have none."""
    if "tls_handshake_us" not in floor:
        return "–"
    return f"{floor['tls_handshake_us']} µs, {floor['tls_record_1k_us']} µs"


def table(columns: Iterable[str], rows: Iterable[Sequence[Any]]) -> str:
    """Columns whose heading ends in `#` are aligned right."""
    names = list(columns)
    align = [" class=n" if name.endswith("#") else "" for name in names]
    head = "".join(f"<th{a}>{escape(n.rstrip('#'))}</th>" for n, a in zip(names, align, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{a}>{escape(str(cell))}</td>" for cell, a in zip(row, align, strict=True)) + "</tr>"
        for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _short(value: float) -> str:
    """Three digits that count, and no fewer than there are before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:,.2f} ms" if value < 100 else f"{value:,.0f} ms"
