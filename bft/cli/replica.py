"""`bft replica`: one replica in the foreground, for service managers and containers."""

import os
from pathlib import Path

import click

from bft.cli.output import examples


@click.group(epilog=examples("bft replica run mycluster/replica-0"))
def replica() -> None:
    """Run one replica in the foreground."""


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
