"""`bft backup` and `bft restore`: the certified state in a file, and a new cluster that begins with it."""

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import click

from bft.cli.output import examples
from bft.errors import ConfigurationError, EnvironmentFailure

_FILE = click.argument("file", type=click.Path(path_type=Path))
_CLUSTER = click.option(
    "--cluster",
    metavar="PATH",
    type=click.Path(path_type=Path),
    envvar="BFT_CLUSTER",
    required=True,
    help="cluster.toml of the cluster that was backed up, or a directory that holds it.  [env: BFT_CLUSTER]",
)


class _TakeByDefault(click.Group):
    """`bft backup CLUSTER` is `bft backup take CLUSTER`."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in self.commands:
            args = ["take", *args]
        return super().resolve_command(ctx, args)


@click.group(
    cls=_TakeByDefault,
    epilog=examples(
        "bft backup mycluster --out state.backup", "bft backup verify state.backup --cluster mycluster/cluster.toml"
    ),
)
def backup() -> None:
    """Copy the certified state of a running cluster to a file (CLUSTER --out FILE), verify such a file."""


@backup.command(epilog=examples("bft backup mycluster --out state.backup"))
@click.argument("cluster", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The file to make; never overwritten.")
@click.option("--as", "identity", default="admin", show_default=True, help="An administrator's name, or its directory.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def take(cluster: Path, out: Path, identity: str, as_json: bool) -> None:
    """Copy the state at the latest stable checkpoint of CLUSTER to a file.

    Read from one replica at a time and proven by a quorum's certificate, whatever any of them sends.
    """
    from bft.cli.output import print_json
    from bft.client.identity import identity_directory, load_identity
    from bft.client.state_reader import StateReader
    from bft.config import load_cluster
    from bft.storage import backup as files
    from crypto.certificates import Role

    config = load_cluster(cluster)
    who = load_identity(identity_directory(cluster, identity), config)
    if who.subject.role is not Role.ADMIN:
        raise ConfigurationError(
            f"{identity} is a client: a backup is read by an administrator, as made by `bft ca issue`"
        )
    if out.exists():
        raise EnvironmentFailure(f"{out} exists and is never overwritten: name another file")
    began = time.monotonic()
    reader = StateReader(config, who, files.open_certificate, _told)
    certificate, state = asyncio.run(reader.read())
    proven = files.open_certificate(certificate, config)
    size = files.write(out, certificate, state.items())
    found = {"file": str(out), "cluster": config.cluster, "seq": proven.seq, "root": proven.root.hex(), "bytes": size}
    if as_json:
        print_json(found | {"seconds": round(time.monotonic() - began, 3)})
        return
    click.echo(
        f"{out}: state of {config.cluster} at checkpoint {proven.seq}, root {proven.root.hex()[:16]}, {size} bytes"
    )


def _told(replica: int, received: int, missing: int, read: int) -> None:
    if sys.stderr.isatty():
        text = f"\rreplica {replica}: {received} nodes, at least {missing} to go, {read >> 10} KiB "
        click.echo(text, nl=False, err=True)


@backup.command(epilog=examples("bft backup verify state.backup --cluster mycluster"))
@_FILE
@_CLUSTER
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def verify(file: Path, cluster: Path, as_json: bool) -> None:
    """Check a backup without asking any replica: only the public keys in cluster.toml count.

    Exits with 8 when FILE is not what a quorum certified.
    """
    from bft.cli.output import print_json
    from bft.config import load_cluster
    from bft.storage import backup as files

    config = load_cluster(cluster)
    found = files.verify(file, config)
    certificate = found.certificate
    signers = [vote.message.replica for vote in certificate.checkpoints]
    if as_json:
        print_json(
            {"valid": True, "cluster": config.cluster, "seq": certificate.seq, "root": certificate.root.hex()}
            | {"signers": signers, "items": sum(1 for _ in found.state.items())}
        )
        return
    told = ", ".join(map(str, signers))
    click.echo(f"valid: the state of {config.cluster} at checkpoint {certificate.seq}, certified by replicas {told}")


@click.command(
    epilog=examples("bft restore state.backup --cluster old/cluster.toml --out new", "bft cluster up new"),
)
@_FILE
@_CLUSTER
@click.option("--out", "directory", type=click.Path(path_type=Path), required=True, help="The new cluster's directory.")
@click.option("--replicas", "-n", type=click.IntRange(4, 64), help="How many; default: as many as there were.")
@click.option("--base-port", "-p", type=click.IntRange(1, 65_000), default=7100, show_default=True, help="First port.")
@click.option("--name", help="Beginning of the cluster's id; default: the directory's name.")
@click.option("--host", "hosts", multiple=True, help="As of `bft cluster init`.")
@click.option("--listen", metavar="ADDRESS", help="As of `bft cluster init`.")
def restore(
    file: Path,
    *,
    cluster: Path,
    directory: Path,
    replicas: int | None,
    base_port: int,
    name: str | None,
    hosts: tuple[str, ...],
    listen: str | None,
) -> None:
    """Make a new cluster in DIR that begins with the state in FILE: new CA, new keys, new id.

    All keys and values, the agreed time and the service's count of operations are kept. Sessions are not: clients open
    new ones, with new certificates.
    """
    from bft.cli.provision import Genesis, Plan, create_cluster
    from bft.config import load_cluster
    from bft.statemachine.replicated import genesis_content
    from bft.statemachine.trie import MerkleTrie
    from bft.storage import backup as files

    config = load_cluster(cluster)
    found = files.verify(file, config)
    content = genesis_content(found.state.items())
    root = MerkleTrie().update(content).root
    count = replicas or len(config.replicas)
    plan = Plan(count, name, config.service, base_port, hosts or ("127.0.0.1",), listen, "127.0.0.1")
    made = create_cluster(directory, plan, Genesis(root, content, config.service_options, config.parameters))
    click.echo(
        f"cluster {made.cluster} in {directory}: {count} replicas that begin with the state of {config.cluster} at "
        f"checkpoint {found.certificate.seq}, genesis root {root.hex()[:16]}"
    )
    click.echo(f"start it with: bft cluster up {directory}")
