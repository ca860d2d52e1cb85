"""`bft cluster`: make, start, watch and stop the replicas of a cluster."""

import time
from pathlib import Path
from typing import Any, Final

import click

from bft.cli.output import examples
from bft.errors import ExitCode

_DIRECTORY = click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
_BASE_PORT: Final = 7100
_KEY_VALUE: Final = "bft.statemachine.kv:KeyValue"


@click.group(
    epilog=examples(
        "bft cluster init mycluster --replicas 4",
        "bft cluster up mycluster",
        "bft cluster status mycluster",
        "bft cluster down mycluster",
    )
)
def cluster() -> None:
    """Make a cluster, start, watch and stop it."""


@cluster.command(
    epilog=examples(
        "bft cluster init mycluster --replicas 4",
        "bft cluster init prod -n 4 --host 10.0.0.1 --host 10.0.0.2 --host 10.0.0.3 --host 10.0.0.4 --listen 0.0.0.0",
    )
)
@_DIRECTORY
@click.option(
    "--replicas", "-n", type=click.IntRange(4, 64), required=True, help="How many; n = 3f+1 withstand f faulty ones."
)
@click.option(
    "--base-port",
    "-p",
    type=click.IntRange(1, 65_000),
    default=_BASE_PORT,
    show_default=True,
    help="First port for replicas; clients use those 100 above, administrators those 200 above.",
)
@click.option("--name", help="Beginning of the cluster's id; default: the directory's name.")
@click.option(
    "--host",
    "hosts",
    multiple=True,
    help="Where others reach the replicas: once for all, or once each, in order. Default: 127.0.0.1.",
)
@click.option(
    "--listen", metavar="ADDRESS", help="Address to listen on, if it is another than --host, such as 0.0.0.0."
)
@click.option(
    "--listen-admin",
    metavar="ADDRESS",
    default="127.0.0.1",
    show_default=True,
    help="Address of health, metrics and status, which ask for no login.",
)
@click.option(
    "--service", metavar="MODULE:CLASS", default=_KEY_VALUE, show_default=True, help="The state machine to replicate."
)
def init(
    directory: Path,
    *,
    replicas: int,
    base_port: int,
    name: str | None,
    hosts: tuple[str, ...],
    listen: str | None,
    listen_admin: str,
    service: str,
) -> None:
    """Make a cluster's files in DIR: CA, keys, certificates, configuration.

    DIR must not exist or be empty. Each DIR/replica-N holds all that replica needs: copy it to the machine that
    runs it. DIR/ca/ca.key stays where it is.
    """
    from bft.cli.provision import Plan, create_cluster

    if len(hosts) not in (0, 1, replicas):
        raise click.UsageError(
            f"--host is given once, or once for each of the {replicas} replicas, not {len(hosts)} times"
        )
    plan = Plan(replicas, name, service, base_port, hosts or ("127.0.0.1",), listen, listen_admin)
    config = create_cluster(directory, plan)
    click.echo(
        f"cluster {config.cluster} in {directory}: {replicas} replicas, {(replicas - 1) // 3} of them may be faulty"
    )
    click.echo(f"start it with: bft cluster up {directory}")


@cluster.command(epilog=examples("bft cluster up mycluster", "bft cluster up mycluster --replica 2"))
@_DIRECTORY
@click.option("--replica", type=click.IntRange(0), help="Only this one.")
@click.option(
    "--timeout", type=click.FloatRange(0.1), default=30.0, show_default=True, help="Seconds to wait for an answer."
)
@click.option(
    "--behaviour",
    "behaviours",
    multiple=True,
    metavar="N=NAME",
    help="For tests: replica N misbehaves, as in 0=equivocate_split@signal; `bft sim --list-behaviours`.",
)
def up(directory: Path, replica: int | None, timeout: float, behaviours: tuple[str, ...]) -> None:
    """Start the replicas whose files are in DIR and wait until the cluster answers.

    Replicas that run already are left alone. Each is a process of its own that writes
    to DIR/replica-N/replica.log.
    """
    from bft.cli.fleet import NotReady, ReplicaStopped, bring_up, parse_behaviours
    from bft.cli.home import Home

    home = Home.open(directory)
    replicas = home.select(replica)
    try:
        bring_up(
            home, replicas, behaviours=parse_behaviours(behaviours, replicas), timeout_s=timeout, report=click.echo
        )
    except (ReplicaStopped, NotReady) as error:
        for line in error.log_tail:
            click.echo(f"  | {line}", err=True)
        raise
    click.echo(f"cluster {home.config.cluster} answers" if len(replicas) > 1 else f"replica {replicas[0]} answers")


@cluster.command(epilog=examples("bft cluster down mycluster"))
@_DIRECTORY
@click.option("--replica", type=click.IntRange(0), help="Only this one.")
@click.option(
    "--grace", type=click.FloatRange(0), default=10.0, show_default=True, help="Seconds until a replica is killed."
)
def down(directory: Path, replica: int | None, grace: float) -> None:
    """Stop the replicas that `up` started in DIR; harmless when none runs."""
    from bft.cli.home import Home
    from deploy import launcher

    home = Home.open(directory)
    homes = {home.replica(number): number for number in home.select(replica)}
    stopped = launcher.stop(list(homes), grace_s=grace)
    for path, killed in stopped.items():
        click.echo(f"replica {homes[path]} {'had to be killed' if killed else 'stopped'}")
    if not stopped:
        click.echo("nothing runs")


@cluster.command(epilog=examples("bft cluster status mycluster", "bft cluster status mycluster --json"))
@_DIRECTORY
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(directory: Path, as_json: bool) -> int:
    """Show each replica, and whether the cluster makes progress.

    Exits with 7 when it makes none.
    """
    from bft.cli.home import Home
    from bft.cli.observe import judge, observe
    from bft.cli.output import print_json, print_table
    from bft.core.quorum import Quorums

    home = Home.open(directory)
    quorums = Quorums.of(len(home.config.replicas))
    observations = observe(home)
    verdict = judge(observations, quorums)
    rows = [observation.row() for observation in observations]
    if as_json:
        print_json(
            {
                "cluster": home.config.cluster,
                "n": quorums.n,
                "quorum": quorums.quorum,
                "reachable": sum(row["reachable"] for row in rows),
                "progress": verdict.progress,
                "summary": verdict.summary,
                "findings": verdict.findings,
                "replicas": rows,
            }
        )
    else:
        columns = ("replica#", "address", "pid#", "view#", "primary#", "executed#", "stable#", "state root", "")
        print_table(columns, [_cells(row) for row in rows])
        click.echo(f"cluster {home.config.cluster} {verdict.summary}")
        for finding in verdict.findings:
            click.echo(f"  {finding}")
    return ExitCode.OK if verdict.progress else ExitCode.UNAVAILABLE


def _cells(row: dict[str, Any]) -> list[str]:
    from bft.cli.output import short, shown

    numbers = [shown(row[key]) for key in ("pid", "view", "primary", "last_executed", "stable_checkpoint")]
    if not row["reachable"]:
        note = row["trouble"]
    elif row["silence"]:
        note = "rejoining"
    elif not row["active"]:
        note = "in a view change"
    else:
        note = "primary" if row["primary"] == row["id"] else ""
    return [str(row["id"]), row["address"], *numbers, short(row["state_root"]), note]


@cluster.command(epilog=examples("bft cluster logs mycluster --replica 0", "bft cluster logs mycluster --follow"))
@_DIRECTORY
@click.option("--replica", type=click.IntRange(0), help="Only this one.")
@click.option(
    "--lines", "-n", type=click.IntRange(0), default=20, show_default=True, help="Lines of each to begin with."
)
@click.option("--follow", "-f", is_flag=True, help="Go on with what is written, until Ctrl-C.")
def logs(directory: Path, replica: int | None, lines: int, follow: bool) -> None:
    """Print what the replicas in DIR wrote."""
    from bft.cli.home import Home
    from deploy import launcher

    home = Home.open(directory)
    paths = {number: home.replica(number) / launcher.LOG_FILE for number in home.select(replica)}
    ends = {}
    for number, path in paths.items():
        ends[number] = path.stat().st_size if path.exists() else 0
        for line in launcher.tail(path, lines):
            click.echo(f"{number} | {line}")
    while follow:
        time.sleep(0.2)
        for number, path in paths.items():
            if path.exists() and path.stat().st_size > ends[number]:
                with path.open("rb") as file:
                    file.seek(ends[number])
                    text = file.read()
                whole, _, _ = text.rpartition(b"\n")
                if whole:
                    ends[number] += len(whole) + 1
                    for line in whole.decode(errors="replace").splitlines():
                        click.echo(f"{number} | {line}")
