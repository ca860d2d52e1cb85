"""The pictures of a report, as SVG and PNG; matplotlib is loaded here and nowhere else."""

import io
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from bench.latency import INTERVAL_S, curve
from bench.run import Outcome

_BLUE, _ORANGE, _GREEN, _RED, _GREY = "#2563eb", "#d97706", "#059669", "#dc2626", "#94a3b8"
_REPLICAS: Final = (_BLUE, _ORANGE, _GREEN, "#7c3aed", "#0891b2", "#be185d", "#65a30d")
_OTHERS: Final = (_BLUE, _GREEN, "#7c3aed")  # kinds of operations after the first
_PAPER: Final = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1.0}  # behind words on lines
_INK: Final = "#334155"


def over_time(outcome: Outcome) -> Figure:
    """Throughput above latency, on one time axis, with faults and view changes."""
    figure, (top, bottom) = _figure(height=5.4, rows=2)
    timeline = outcome.timeline
    middles = [interval.begin_s + INTERVAL_S / 2 for interval in timeline]
    rates = [interval.total / INTERVAL_S for interval in timeline]
    top.fill_between(middles, rates, color=_BLUE, alpha=0.12, linewidth=0)
    top.plot(middles, rates, color=_BLUE, linewidth=0.7, alpha=0.6)
    top.plot(middles, _mean_of_a_second(rates), color=_BLUE, linewidth=2.0)
    top.set_ylim(bottom=0)
    top.set_ylabel("operations a second")
    top.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    for name, color, values in (
        ("p50", _GREEN, [interval.p50_us for interval in timeline]),
        ("p99", _ORANGE, [interval.p99_us for interval in timeline]),
        ("max", _GREY, [interval.max_us for interval in timeline]),
    ):
        numbers = [math.nan if value is None else value / 1000 for value in values]
        bottom.plot(middles, numbers, color=color, linewidth=1.2, marker=".", markersize=2.5, label=name,
                    zorder=1 if name == "max" else 2)  # fmt: skip
    bottom.set_yscale("log")
    bottom.set_ylabel("latency, ms")
    bottom.set_xlabel("seconds of the measurement (100 ms each point)")
    _plain_log(bottom)
    bottom.legend(loc="upper left", ncols=3, frameon=False)
    for axes in (top, bottom):
        _mark(axes, outcome, text=axes is top)
        axes.set_xlim(0, max(len(timeline) * INTERVAL_S, INTERVAL_S))
    return figure


def _mean_of_a_second(rates: Sequence[float]) -> list[float]:
    """Of the intervals half a second before and after each; of fewer at the ends."""
    reach = round(0.5 / INTERVAL_S)
    windows = [rates[max(0, at - reach) : at + reach + 1] for at in range(len(rates))]
    return [sum(window) / len(window) for window in windows]


def percentiles(outcome: Outcome) -> Figure:
    """Latency by percentile, the tail stretched: each grid line is a tenth of the operations before it."""
    figure, (axes,) = _figure(height=3.6)
    highest = 0.0
    for kind, color in zip(sorted(outcome.latencies.kinds), (_ORANGE, *_OTHERS), strict=False):
        points = curve(outcome.latencies.histogram(kind))
        if not points:
            continue
        highest = max(highest, points[-1][0])
        axes.plot(
            [_tail(p) for p, _ in points],
            [ms for _, ms in points],
            color=color,
            marker="o",
            markersize=3,
            linewidth=1.3,
            label={"put": "writes", "get": "reads"}.get(kind, kind),
        )
    ticks = [p for p in (0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999) if p <= highest]
    axes.set_xticks([_tail(p) for p in ticks], [f"{p:g} %" for p in ticks])
    axes.set_yscale("log")
    _plain_log(axes)
    axes.set_xlabel("share of the operations that were at least as quick")
    axes.set_ylabel("latency, ms")
    axes.legend(loc="upper left", frameon=False)
    return figure


def phases(told: Mapping[str, Any]) -> Figure:
    """The mean operation as a bar of its phases."""
    figure, (axes,) = _figure(height=1.7)
    left = 0.0
    for number, (name, ms) in enumerate(told["ms"].items()):
        axes.barh([0], [ms], left=left, color=_REPLICAS[number % len(_REPLICAS)], label=f"{name} {ms:.2f} ms")
        left += ms
    axes.set_yticks([])
    axes.set_xlim(0, left or 1.0)
    axes.set_xlabel(f"milliseconds, mean of {told['operations']:,} operations")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False, fontsize=8.5)
    return figure


def resources(outcome: Outcome) -> Figure:
    """The cores that each replica used, over time."""
    figure, (axes,) = _figure(height=3.0)
    samples = outcome.samples
    for replica in sorted(samples[0].cpu_s) if samples else []:
        both = [
            (a, b)
            for a, b in pairwise(samples)
            if replica in a.cpu_s and replica in b.cpu_s and b.cpu_s[replica] >= a.cpu_s[replica]  # not restarted
        ]
        axes.plot(
            [(a.at_s + b.at_s) / 2 for a, b in both],
            [(b.cpu_s[replica] - a.cpu_s[replica]) / (b.at_s - a.at_s) for a, b in both],
            color=_REPLICAS[replica % len(_REPLICAS)],
            linewidth=1.3,
            linestyle="--" if replica in outcome.options.faulty else "-",
            label=f"replica {replica}" + (" (faulty)" if replica in outcome.options.faulty else ""),
        )
    _mark(axes, outcome, text=False)
    axes.set_ylim(bottom=0)
    axes.set_xlim(0, max(len(outcome.timeline) * INTERVAL_S, INTERVAL_S))
    axes.set_ylabel("cores")
    axes.set_xlabel("seconds of the measurement")
    axes.legend(loc="lower left", ncols=4, frameon=False)
    return figure


def svg(figure: Figure) -> str:
    """The element, for a page: without the prologue of a file."""
    stream = io.StringIO()
    FigureCanvasSVG(figure).print_svg(stream, metadata={"Date": None})  # type: ignore[no-untyped-call]
    text = stream.getvalue()
    return text[text.index("<svg") :]


def png(figure: Figure) -> bytes:
    """The picture as a file."""
    stream = io.BytesIO()
    FigureCanvasAgg(figure).print_png(stream)  # type: ignore[no-untyped-call]
    return stream.getvalue()


def saturation(callers: Sequence[str], points: Sequence[tuple[float, float]], knee: int) -> Figure:
    """Latency over throughput while the callers double; the knee is marked."""
    figure, (axes,) = _figure(height=4.0)
    xs, ys = zip(*points, strict=True)
    axes.plot(xs, ys, color=_BLUE, linewidth=1.3, marker="o", markersize=4)
    axes.plot([xs[knee]], [ys[knee]], color=_RED, marker="o", markersize=10, fillstyle="none", linestyle="none")
    for label, x, y in zip(callers, xs, ys, strict=True):
        axes.annotate(label, (x, y), textcoords="offset points", xytext=(6, 4), fontsize=8, color=_INK)
    axes.set_xlabel("operations a second; the numbers are callers, the circle is the knee")
    axes.set_ylabel("p50 latency, ms")
    axes.set_xlim(left=0)
    axes.set_yscale("log")
    _plain_log(axes)
    return figure


def _figure(*, height: float, rows: int = 1) -> tuple[Figure, Sequence[Axes]]:
    figure = Figure(figsize=(10, height), dpi=110, layout="constrained")
    made: Any = figure.subplots(rows, 1, sharex=True, squeeze=False)
    axes: list[Axes] = list(made[:, 0])
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
        each.spines[["left", "bottom"]].set_color(_GREY)
        each.tick_params(colors=_INK, which="both")
        each.grid(visible=True, color="#e2e8f0", linewidth=0.8)
        each.set_axisbelow(True)
        each.xaxis.label.set_color(_INK)
        each.yaxis.label.set_color(_INK)
    return figure, axes


def _mark(axes: Axes, outcome: Outcome, *, text: bool) -> None:
    """Shade view changes, draw the faults."""
    for span in outcome.changes:
        # A view change of milliseconds is still to be seen.
        axes.axvspan(span.begin_s, max(span.end_s, span.begin_s + INTERVAL_S / 2), color=_RED, alpha=0.18, linewidth=0)
        if text:
            label = f"view {span.view}\n{(span.end_s - span.begin_s) * 1000:,.0f} ms"
            axes.annotate(label, (span.end_s, 0.04), xycoords=("data", "axes fraction"), color=_RED, fontsize=8,
                          xytext=(5, 0), textcoords="offset points", bbox=_PAPER)  # fmt: skip
    for number, mark in enumerate(outcome.marks):
        if mark.begin_s > 0:
            axes.axvline(mark.begin_s, color=_RED, linewidth=1.2, linestyle="--")
        if mark.end_s is not None:
            axes.axvspan(mark.begin_s, mark.end_s, facecolor="none", edgecolor=_RED, alpha=0.25, hatch="//")
        if text:
            late = mark.begin_s > 0.5 * len(outcome.timeline) * INTERVAL_S
            axes.annotate(mark.name, (mark.begin_s, 0.96 - 0.09 * (number % 4)), ha="right" if late else "left",
                          va="top", xycoords=("data", "axes fraction"), color=_RED, fontsize=8.5,
                          xytext=(-4 if late else 4, 0), textcoords="offset points", bbox=_PAPER)  # fmt: skip


def _tail(percentile: float) -> float:
    return -math.log10(1 - percentile / 100)


def _plain_log(axes: Axes) -> None:
    """Numbers as people write them on a logarithmic axis, few or many decades."""
    low, high = axes.get_ylim()
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    few = high / low < 30
    minor = FuncFormatter(lambda value, _: f"{value:g}" if few and f"{value:.0e}"[0] in "235" else "")
    axes.yaxis.set_minor_formatter(minor)
