"""What the commands of `bft bench` share: the options of a run, and carrying one out."""

import asyncio
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from bft.errors import ExitCode

if TYPE_CHECKING:
    from rich.console import Console

    from bench.options import Options
    from bench.run import Outcome

F = TypeVar("F", bound=Callable[..., Any])

INTERRUPTED: Final = 130
_KEYS: Final = 2000
_KEYS_MAX: Final = 1_000_000
_DURABILITY: Final = ("fsync", "os", "memory")

_LOAD: Final = (
    click.option(
        "--system",
        metavar="NAME",
        default="pbft",
        show_default=True,
        help="What is measured: pbft, etcd, unreplicated, pbft-unsigned (guarantees nothing), or module:Class.",
    ),
    click.option(
        "--replicas", "-n", type=click.IntRange(4, 16), help="Of a throw-away cluster on this machine.  [default: 4]"
    ),
    click.option(
        "--cluster",
        metavar="DIR",
        type=click.Path(path_type=Path),
        help="Instead: a cluster that runs on this machine.",
    ),
    click.option(
        "--worker",
        "workers",
        multiple=True,
        metavar="COMMAND",
        help="With --cluster: a load generator elsewhere, as in 'ssh load1 bft bench worker DIR'; may be repeated.",
    ),
    click.option("--clients", type=click.IntRange(1, 64), default=4, show_default=True, help="Sessions."),
    click.option(
        "--inflight",
        type=click.IntRange(1),
        default=16,
        show_default=True,
        help="Bundles under way of each client; with --bundle auto: operations.",
    ),
    click.option(
        "--bundle",
        metavar="auto|N",
        default="auto",
        show_default=True,
        help="Operations under one signature; auto: what the SDK gathers meanwhile.",
    ),
    click.option("--value-size", type=click.IntRange(1, 1_000_000), default=100, show_default=True, help="Bytes."),
    click.option(
        "--reads",
        type=click.FloatRange(0, 1),
        default=0.0,
        show_default=True,
        help="Share of the operations of kv-put.",
    ),
    click.option(
        "--workload",
        metavar="NAME",
        default="kv-put",
        show_default=True,
        help="kv-put (with --reads), ycsb-a to ycsb-f, null (operations that do nothing), or module:Class.",
    ),
    click.option(
        "--keys",
        metavar="[zipfian:|uniform:]N",
        default=str(_KEYS),
        help=f"How many there are, and whether some are far more popular.  [default: {_KEYS}, with YCSB zipfian]",
    ),
    click.option(
        "--shared",
        type=click.FloatRange(0, 1),
        default=0.02,
        show_default=True,
        help="Share of the operations on keys that all write; their history is checked for linearizability.",
    ),
    click.option(
        "--duration", type=click.FloatRange(1, 3600), default=10.0, show_default=True, help="Seconds measured."
    ),
    click.option(
        "--warmup", type=click.FloatRange(0, 600), default=2.0, show_default=True, help="Seconds before that."
    ),
    click.option(
        "--rate",
        metavar="R|ramp:R..R",
        help="Open loop: operations a second, begun by a schedule; latency counts from it.",
    ),
    click.option(
        "--cpus", type=click.FloatRange(0.01, 1024), help="Cores that each replica may use at most.  [default: all]"
    ),
    click.option("--memory", metavar="SIZE", help="Memory of each replica at most, as in 512M.  [default: all]"),
    click.option("--durability", type=click.Choice(_DURABILITY), help="Of the throw-away cluster.  [default: fsync]"),
    click.option(
        "--behaviour",
        "behaviours",
        multiple=True,
        metavar="N=NAME[@Ts[..Ts]]",
        help="Replica N misbehaves, from T seconds after the measurement began on, or only until then.",
    ),
    click.option(
        "--fault",
        "events",
        multiple=True,
        metavar="KIND:WHO@Ts[..Ts]",
        help="crash:2@5s, crash:2@5s..8s (and back), restart:2@5s, pause:1@3s..6s, partition:0|1,2,3@3s..6s, "
        "partition:0>1@3s..6s, network:wan@3s..6s.",
    ),
    click.option(
        "--network",
        metavar="PROFILE",
        help="Links between replicas: lan, wan, ms=20 or ms=20,mbit=50, each way.  [default: none of ours between]",
    ),
    click.option(
        "--script",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="A TOML file with more of these: behaviours = [...], faults = [...].",
    ),
)


def load_options(command: F) -> F:
    """Give a command the options of a run; `options_of` reads them."""
    for option in reversed(_LOAD):
        command = option(command)
    return command


def options_of(
    *,
    system: str,
    replicas: int | None,
    cluster: Path | None,
    workers: tuple[str, ...],
    clients: int,
    inflight: int,
    bundle: str,
    value_size: int,
    workload: str,
    reads: float,
    keys: str,
    shared: float,
    duration: float,
    warmup: float,
    rate: str | None,
    cpus: float | None,
    memory: str | None,
    durability: str | None,
    behaviours: tuple[str, ...],
    events: tuple[str, ...],
    network: str | None,
    script: Path | None,
) -> "Options":
    """The run that the options say.  Raises click.UsageError or ConfigurationError."""
    from bench.faults import Event, Fault, read_script
    from bench.limits import Limits
    from bench.links import Profile
    from bench.options import Options
    from bench.rate import Rate
    from bft.config import load_cluster

    if cluster is not None and (replicas is not None or durability is not None):
        raise click.UsageError("--cluster names a cluster that runs already: leave out --replicas and --durability")
    number, zipfian = _keys(keys)
    scripted = ((), ()) if script is None else read_script(script)
    return Options(
        system=system,
        replicas=len(load_cluster(cluster).replicas) if cluster is not None else replicas or 4,
        cluster=cluster,
        workers=workers,
        clients=clients,
        inflight=inflight,
        bundle=_bundle(bundle),
        value_size=value_size,
        workload=workload,
        reads=reads,
        keys=number,
        zipfian=zipfian,
        shared=shared,
        duration_s=duration,
        warmup_s=warmup,
        rate=None if rate is None else Rate.parse(rate),
        durability=durability or "fsync",
        faults=(*(Fault.parse(text) for text in behaviours), *scripted[0]),
        events=(*(Event.parse(text) for text in events), *scripted[1]),
        limits=Limits.of(cpus, memory),
        network=None if network is None else Profile.parse(network),
    )


def _bundle(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdecimal() or not 1 <= int(text) <= 1024:
        raise click.BadParameter(f"{text!r} is neither auto nor a number from 1 to 1024", param_hint="--bundle")
    return int(text)


def _keys(text: str) -> tuple[int, bool | None]:
    """How many, and whether they are zipfian; None: as the workload says."""
    kind, colon, number = text.rpartition(":") if ":" in text or text.isdecimal() else (text, ":", str(_KEYS))
    if kind not in ("", "zipfian", "uniform") or bool(kind) != bool(colon) or not number.isdecimal():
        raise click.BadParameter(f"{text!r}: write 2000, zipfian, or zipfian:5000", param_hint="--keys")
    if not 1 <= int(number) <= _KEYS_MAX:
        raise click.BadParameter(f"{number} is not from 1 to {_KEYS_MAX}", param_hint="--keys")
    return int(number), None if not kind else kind == "zipfian"


def carry_out(options: "Options", out: Path, *, title: str = "") -> "Outcome":
    """Run, show progress on standard error, write the report."""
    from bench import report, show
    from bench.run import run as measure

    with show.Terminal(console(sys.stderr), options.duration_s, prefix=title) as terminal:
        try:
            outcome = asyncio.run(measure(options, terminal))
        except asyncio.CancelledError:
            raise click.Abort from None
    report.write(outcome, out)
    return outcome


def attempt(options: "Options", out: Path, *, title: str) -> "Outcome | None":
    """A run of a series, in a directory of its own; None when interrupted before there was anything to report."""
    from bench import report

    report.prepare(out)
    try:
        return carry_out(options, out, title=title)
    except click.Abort:
        out.rmdir()
        return None


def exit_code(outcome: "Outcome") -> int:
    """What a script learns of a run."""
    if not outcome.verdict.safe:
        return ExitCode.VERIFICATION
    return INTERRUPTED if outcome.interrupted else ExitCode.OK


def default_out() -> Path:
    """Where results go that nobody gave a place."""
    return Path("bench-results") / datetime.now(UTC).strftime("%Y-%m-%d-%H%M%S")


def console(stream: "object") -> "Console":
    """For a person: as wide as the terminal, or 120 columns."""
    from rich.console import Console

    terminal = bool(getattr(stream, "isatty", bool)())
    return Console(file=stream, highlight=False, width=None if terminal else 120)  # type: ignore[arg-type]
