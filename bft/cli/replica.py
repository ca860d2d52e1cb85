"""`bft replica`: one replica in the foreground, for service managers and containers, and what to do about its data."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bft.cli.output import examples, print_json
from bft.errors import ExitCode

if TYPE_CHECKING:
    from bft.storage.repair import Finding


@click.group(epilog=examples("bft replica run mycluster/replica-0", "bft replica repair mycluster/replica-0"))
def replica() -> None:
    """Run one replica in the foreground, or repair its data."""


@replica.command(epilog=examples("bft replica run mycluster/replica-0"))
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
def run(directory: Path) -> int:
    """Run the replica whose files are in DIR, until SIGTERM or Ctrl-C.

    Log lines go to stderr: readable on a terminal, else one JSON object a line. Settings of DIR/replica.toml can be
    overridden by environment variables, as in BFT_LISTEN_PEER=0.0.0.0:7100.
    """
    from bft.node import run as run_replica

    # For the commands of clients BFT_CLUSTER names a cluster's directory; a replica must not take it for its own
    # setting "cluster".
    os.environ.pop("BFT_CLUSTER", None)
    return run_replica(directory)


@replica.command(epilog=examples("bft replica repair mycluster/replica-0"))
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--force", is_flag=True, help="Set the data aside although nothing is wrong with it, or although it is foreign."
)
@click.option("--delete", is_flag=True, help="Keep no copy of what is set aside.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document.")
def repair(directory: Path, force: bool, delete: bool, as_json: bool) -> int:
    """Say what is wrong with the data of the replica in DIR, which must not run, and set it aside if it is damaged.

    The replica then joins again like one that lost its disk: it takes the state from its peers and signs nothing until
    what it may have said before no longer matters. Until then it counts as faulty: repair no more than f replicas (1 of
    4) at a time, the next when this one takes part again. A sound directory is left as it is.
    """
    from bft.codec import Limits
    from bft.config import load_replica
    from bft.errors import ForeignDataError
    from bft.storage import repair as repairs
    from bft.storage.directory import Lock
    from bft.storage.logfile import Identity

    os.environ.pop("BFT_CLUSTER", None)
    config = load_replica(directory)
    cluster = config.cluster
    lock = Lock.acquire(config.data)
    try:
        if repairs.never_ran(config.data) or repairs.is_lost(config.data):
            return _report(as_json, [], None, "it holds nothing that could be damaged: start the replica")
        try:
            findings = repairs.examine(config.data, Identity(cluster.cluster, config.id), Limits.of(cluster.parameters))
        except ForeignDataError:
            if not force:
                raise
            findings = []
        if not force and all(finding.sound for finding in findings):
            return _report(as_json, findings, None, "nothing is damaged, and nothing was changed")
        aside = repairs.set_aside(config.data)
        if delete:
            repairs.discard(aside)
    finally:
        lock.release()
    kept = "was deleted" if delete else f"is in {aside}"
    conclusion = f"what was here {kept}; start the replica: it joins again from its peers"
    return _report(as_json, findings, None if delete else aside, conclusion)


def _report(as_json: bool, findings: "list[Finding]", aside: Path | None, conclusion: str) -> int:
    if as_json:
        parts = [finding._asdict() for finding in findings]
        print_json({"parts": parts, "aside": None if aside is None else str(aside), "conclusion": conclusion})
    else:
        for finding in findings:
            click.echo(f"{finding.part}: {'sound' if finding.sound else 'damaged'}: {finding.text}")
        click.echo(conclusion)
    return ExitCode.OK
