"""`bft evidence`: proofs that a replica contradicted itself, which anybody can check with the public keys alone.

A file of evidence is the EVIDENCE frame of docs/protocol.md, byte for byte.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bft.cli.output import examples
from bft.errors import ConfigurationError, InvalidMessage, VerificationFailed

if TYPE_CHECKING:
    from bft.config import ClusterConfig
    from bft.core.messages import Evidence


@click.group(
    epilog=examples(
        "bft evidence list mycluster --save proofs", "bft evidence verify proofs/replica-0.evidence --cluster mycluster"
    )
)
def evidence() -> None:
    """Proofs of misbehaviour: list, save, audit, verify."""


@evidence.command("list", epilog=examples("bft evidence list mycluster", "bft evidence list mycluster --save proofs"))
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--save", metavar="TO", type=click.Path(path_type=Path), help="Write each proof to a file in this directory."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_evidence(directory: Path, save: Path | None, as_json: bool) -> None:
    """List what the replicas of the cluster in DIR hold against each other.

    Each proof is verified here before it is shown; what a replica only claims is not.
    """
    from bft.cli.home import Home
    from bft.cli.observe import observe
    from bft.cli.output import print_json, print_table, short
    from bft.errors import NoQuorum

    home = Home.open(directory)
    observations = observe(home)
    if not any(o.reachable for o in observations):
        raise NoQuorum(f"no replica of {home.config.cluster} answers: start them with `bft cluster up {directory}`")
    proofs: dict[int, tuple[Evidence, list[int]]] = {}
    recorded: dict[int, int] = {}  # the same everywhere; a replica that is behind does not know yet
    for observation in observations:
        recorded |= {int(accused): seq for accused, seq in (observation.get("convictions") or {}).items()}
        for held in observation.get("evidence") or []:
            try:
                proof = open_body(bytes.fromhex(held["frame"]), home.config)
            except (VerificationFailed, ValueError) as error:
                click.echo(f"replica {observation.id} shows evidence that proves nothing: {error}", err=True)
                continue
            proofs.setdefault(proof.accused, (proof, []))[1].append(observation.id)
    rows = [
        describe(proof) | {"held_by": holders, "recorded_at": recorded.get(accused)}
        for accused, (proof, holders) in sorted(proofs.items())
    ]
    if save is not None:
        _save([proofs[accused][0] for accused in sorted(proofs)], rows, save)
    if as_json:
        print_json(rows)
    elif rows:
        columns = (
            "accused#",
            "statements",
            "view#",
            "seq#",
            "one says",
            "the other says",
            "held by",
            "recorded#",
            "file",
        )
        print_table(columns, [_cells(row, short) for row in rows])
    else:
        click.echo("no replica holds evidence")


@evidence.command(
    epilog=examples(
        "bft evidence audit mycluster/replica-*",
        "bft evidence audit from-alice/replica-0 from-bob/replica-2 --save proofs",
    )
)
@click.argument("directories", metavar="DIR...", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--save", metavar="TO", type=click.Path(path_type=Path), help="Write each proof to a file there.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def audit(directories: tuple[Path, ...], save: Path | None, as_json: bool) -> None:
    """Compare what several replicas wrote down, and prove who contradicts itself.

    Each DIR is a replica's directory, or a copy; nothing in it is changed, no replica has to run. When two replicas
    executed different batches, this names at least f + 1 culprits (2 of 4), and never a correct replica.
    """
    from bft.auth import Authenticator
    from bft.cli.output import print_json, print_table, short
    from bft.codec import Limits
    from bft.config import load_replica
    from bft.core.audit import audit as find_culprits
    from bft.storage.logfile import Identity
    from bft.storage.records import decode_record
    from bft.storage.segments import read

    os.environ.pop("BFT_CLUSTER", None)
    configs = [load_replica(directory) for directory in directories]
    cluster = configs[0].cluster
    if any(config.cluster.domain != cluster.domain for config in configs):
        raise ConfigurationError("these replicas belong to different clusters: audit one cluster at a time")
    limits = Limits.of(cluster.parameters)
    authenticator = Authenticator(cluster.domain, cluster.replica_keys, limits)
    logs = [
        [decode_record(entry, limits) for entry in read(config.data, Identity(cluster.cluster, config.id))[1]]
        for config in configs
    ]
    proofs = find_culprits(logs, genuine=authenticator.is_genuine)
    rows = [describe(proof) | {"held_by": [config.id for config in configs], "recorded_at": None} for proof in proofs]
    if save is not None:
        _save(proofs, rows, save)
    if as_json:
        print_json(rows)
    elif rows:
        columns = (
            "accused#",
            "statements",
            "view#",
            "seq#",
            "one says",
            "the other says",
            "compared",
            "recorded#",
            "file",
        )
        print_table(columns, [_cells(row, short) for row in rows])
    else:
        click.echo("nobody contradicts itself in these logs")


def _save(proofs: "list[Evidence]", rows: list[dict[str, Any]], directory: Path) -> None:
    from bft.codec import encode_frame

    directory.mkdir(parents=True, exist_ok=True)
    for row, proof in zip(rows, proofs, strict=True):
        file = directory / f"replica-{proof.accused}.evidence"
        file.write_bytes(encode_frame(proof))
        row["file"] = str(file)


@evidence.command(epilog=examples("bft evidence verify proofs/replica-0.evidence --cluster mycluster"))
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--cluster",
    metavar="PATH",
    type=click.Path(path_type=Path),
    envvar="BFT_CLUSTER",
    required=True,
    help="cluster.toml, or a directory that holds it.  [env: BFT_CLUSTER]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def verify(file: Path, cluster: Path, as_json: bool) -> None:
    """Check a proof without asking any replica: only the public keys in cluster.toml count.

    Exits with 8 when FILE proves nothing.
    """
    from bft.cli.output import print_json
    from bft.config import load_cluster

    config = load_cluster(cluster)
    try:
        proof = open_body(_frame_body(file.read_bytes(), config), config)
    except VerificationFailed as error:
        raise VerificationFailed(f"{file} proves nothing: {error}") from error
    found = describe(proof)
    if as_json:
        print_json({"valid": True, "cluster": config.cluster} | found)
        return
    at = f"view {found['view']}" + ("" if found["seq"] is None else f", sequence number {found['seq']}")
    click.echo(f"valid: replica {proof.accused} of {config.cluster} signed {_what(proof)} for {at}")
    click.echo(f"  one says       {found['first']}")
    click.echo(f"  the other says {found['second']}")


def open_body(body: bytes, config: "ClusterConfig") -> "Evidence":
    """The evidence in a frame's body, both signatures and the conflict verified.  Raises VerificationFailed."""
    from bft.auth import Authenticator
    from bft.codec import Limits, MessageType
    from bft.core.evidence import conflict

    authenticator = Authenticator(config.domain, config.replica_keys, Limits.of(config.parameters))
    try:
        proof: Any = authenticator.open_peer(0, MessageType.EVIDENCE, body)
    except InvalidMessage as error:
        raise VerificationFailed(str(error)) from error
    # The gate lets evidence of no conflict pass no more than a forged one; asked again, since a verdict hangs on it.
    if not conflict(proof.first.message, proof.second.message):
        raise VerificationFailed("evidence of no conflict")
    opened: Evidence = proof
    return opened


def _what(proof: "Evidence") -> str:
    first, second = type(proof.first.message).__name__, type(proof.second.message).__name__
    return f"two conflicting {first}s" if first == second else f"a {second} that hides its {first}"


def _frame_body(frame: bytes, config: "ClusterConfig") -> bytes:
    from bft.codec import FrameSplitter, Limits, MessageType

    splitter = FrameSplitter(Limits.of(config.parameters).peer)
    try:
        frames = splitter.feed(frame)
    except InvalidMessage as error:
        raise VerificationFailed(f"not a frame: {error}") from error
    if len(frames) != 1 or splitter.buffered or frames[0][0] != MessageType.EVIDENCE:
        raise VerificationFailed("not one whole EVIDENCE frame")
    return frames[0][1]


def describe(proof: "Evidence") -> dict[str, Any]:
    """What the two statements are about, as JSON."""
    from bft.core.messages import Checkpoint, ViewChange

    first, second = proof.first.message, proof.second.message

    def claim(statement: Any, digest: bytes) -> str:
        if isinstance(statement, ViewChange):
            return digest.hex()
        return (statement.root if isinstance(statement, Checkpoint) else statement.digest).hex()

    return {
        "accused": proof.accused,
        "statements": " ".join(dict.fromkeys((type(first).__name__, type(second).__name__))),
        "view": getattr(first, "view", None),
        "seq": getattr(first, "seq", None),
        "first": claim(first, proof.first.digest),
        "second": claim(second, proof.second.digest),
    }


def _cells(row: dict[str, Any], short: Any) -> list[str]:
    numbers = ["-" if row[key] is None else str(row[key]) for key in ("view", "seq")]
    held = ", ".join(map(str, row["held_by"]))
    digests = [short(row["first"]), short(row["second"])]
    recorded = "-" if row["recorded_at"] is None else str(row["recorded_at"])
    return [str(row["accused"]), row["statements"], *numbers, *digests, held, recorded, row.get("file", "")]
