"""`index.html` of a series of runs: one table, and each run's picture with a link to its report."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

from bench.report import BUSY_CORES, STYLE, machine_section, table

_PICTURE: Final = "throughput-and-latency-over-time.png"
_CARDS: Final = """
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(310px, 1fr)); gap: 14px }
.card { display: block; color: inherit; text-decoration: none; padding: 10px }
.card { border: 1px solid #e2e8f0; border-radius: 10px }
.card:hover { border-color: #2563eb } .card img { width: 100% } .card b { display: block } .card span { color: #64748b }
"""


def write(
    directory: Path,
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    runs: Sequence[tuple[str, Path, dict[str, Any]]],
    *,
    interrupted: bool = False,
) -> Path:
    """The page, made of the runs that there are: (name, directory within this one, result.json).  Raises OSError."""
    parts = [f"<h1>{escape(title)}</h1>"]
    if runs:
        parts.append(f"<p class=sub>{escape(runs[0][2]['began'])}</p>")
    if interrupted:
        parts.append("<section class=note>interrupted: the runs until then</section>")
    if unsafe := [name for name, _, document in runs if not document["verdict"]["safe"]]:
        parts.append(
            f"<section class=unsafe><h2>NOT SAFE: {escape(', '.join(unsafe))}</h2>No figures of these.</section>"
        )
    elif runs:
        parts.append(f"<section class=safe>All {len(runs)} runs were safe: what was promised held.</section>")
    if busy := [cores for _, _, document in runs if (cores := _others(document)) > BUSY_CORES]:
        parts.append(
            f"<section class=note>other processes used up to {max(busy):g} cores during {len(busy)} of {len(runs)} "
            "runs: the figures are too low</section>"
        )
    parts.append(f"<section><div class=wide>{table(columns, rows)}</div></section>")
    cards = "".join(_card(directory, *run) for run in runs)
    parts.append(f"<section><h2>Runs</h2><div class=cards>{cards}</div></section>")
    if runs:
        parts.append(machine_section(runs[0][2]))
    page = directory / "index.html"
    page.write_text(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{escape(title)}</title><style>{STYLE}{_CARDS}</style><main>{''.join(parts)}</main></html>\n"
    )
    return page


def _others(document: dict[str, Any]) -> float:
    return (document["figures"] or {}).get("others_cores") or 0.0


def _card(base: Path, name: str, directory: Path, document: dict[str, Any]) -> str:
    place = escape(directory.relative_to(base).as_posix())
    figures = document["figures"]
    if figures is None:
        text, picture = "not safe: no figures", ""
    else:
        latency = figures["latency_ms"]["all"]
        text = f"{figures['operations_per_s']:,.0f} op/s, p99 {latency.get('p99', 0.0):,.1f} ms"
        picture = f"<img src='{place}/{_PICTURE}' alt='' loading=lazy>" if (directory / _PICTURE).exists() else ""
    return f"<a class=card href='{place}/report.html'><b>{escape(name)}</b><span>{text}</span>{picture}</a>"
