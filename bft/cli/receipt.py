"""`bft receipt`: checks what `bft kv ... --receipt FILE` and the SDK's `result.receipt` saved."""

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from bft.cli.output import examples
from bft.errors import VerificationFailed

if TYPE_CHECKING:
    from bft.receipt import Verified
    from bft.state_proof import Proven

_KEY_VALUE: Final = "bft.statemachine.kv:KeyValue"
_SHOWN_MAX: Final = 400
_DEPTH_MAX: Final = 8  # of arrays within arrays


@click.group(
    epilog=examples(
        "bft kv put greeting hello --receipt put.receipt --cluster mycluster",
        "bft receipt verify put.receipt --cluster mycluster/cluster.toml",
    )
)
def receipt() -> None:
    """Proofs of what the cluster did: verify."""


@receipt.command(epilog=examples("bft receipt verify put.receipt --cluster mycluster/cluster.toml"))
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
    """Check a receipt, or a proof of what is stored, without asking any replica.

    Only the public keys in cluster.toml count.

    Exits with 8 when FILE proves nothing.
    """
    from bft.cli.output import print_json
    from bft.receipt import Receipt, public_keys
    from bft.state_proof import StateProof, is_state_proof
    from bft.statemachine.results import Ok

    config = public_keys(cluster)
    try:
        if is_state_proof(file):
            _show_stored(StateProof.load(file).verify(config), config.service, as_json=as_json)
            return
        verified = Receipt.load(file).verify(config)
    except VerificationFailed as error:
        raise VerificationFailed(f"{file} proves nothing: {error}") from error
    if as_json:
        print_json({"valid": True} | document(verified))
        return
    result = verified.result
    said = _shown(result.value) if isinstance(result, Ok) else f"error {result.code}: {_plain(result.message)}"
    signers = ", ".join(map(str, verified.signers))
    asked = _asked(verified.operation) if config.service == _KEY_VALUE else _shown(verified.operation)
    click.echo(f"valid: replicas {signers} of {verified.cluster} signed this, at least one of them a correct one")
    click.echo(f"  client           {verified.client.hex()}")
    click.echo(f"  asked            {asked}")
    click.echo(f"  and was told     {said}")
    click.echo(f"  sequence number  {verified.seq}")


def _show_stored(proven: "Proven", service: str, *, as_json: bool) -> None:
    from datetime import UTC, datetime

    from bft.cli.output import print_json
    from bft.statemachine.kv import decode_entry, stored_key

    key, value = proven.key, proven.value
    if service == _KEY_VALUE and key.startswith(prefix := stored_key(b"")):
        key = key[len(prefix) :]
        try:
            value = None if value is None else decode_entry(value).value
        except ValueError as error:
            raise VerificationFailed("the value is no entry of the key-value service") from error
    if as_json:
        fields = {"cluster": proven.cluster, "epoch": proven.epoch, "seq": proven.seq, "time_ns": proven.time_ns}
        encoded = None if value is None else base64.b64encode(value).decode()
        held = {"key_base64": base64.b64encode(key).decode(), "value_base64": encoded}
        print_json({"valid": True} | fields | held | {"signers": list(proven.signers)})
        return
    moment = datetime.fromtimestamp(proven.time_ns // 10**9, UTC).isoformat()
    click.echo(f"valid: replicas {', '.join(map(str, proven.signers))} of {proven.cluster} signed this, a quorum")
    click.echo(f"  key         {_cut(_plain(key))}")
    click.echo(f"  held        {'nothing' if value is None else _cut(_plain(value))}")
    click.echo(f"  checkpoint  {proven.seq}, at {moment} by the cluster's clock")


def document(verified: "Verified") -> dict[str, Any]:
    """What a receipt proves, as JSON; bytes in base64."""
    from bft.statemachine.results import Ok

    result = verified.result
    return {
        "cluster": verified.cluster,
        "epoch": verified.epoch,
        "client": verified.client.hex(),
        "session": verified.session,
        "number": verified.number,
        "position": verified.position,
        "operation_base64": base64.b64encode(verified.operation).decode(),
        "result_base64": base64.b64encode(result.value).decode() if isinstance(result, Ok) else None,
        "error": None if isinstance(result, Ok) else {"code": result.code, "message": result.message},
        "seq": verified.seq,
        "signers": list(verified.signers),
    }


def _asked(operation: bytes) -> str:
    """An operation of the key-value service as one would type it."""
    from bft.statemachine.kv import Opcode

    match _unpacked(operation):
        case [int(opcode), *arguments] if opcode in {int(known) for known in Opcode}:
            words = [Opcode(opcode).name.lower(), *(_plain(argument) for argument in arguments)]
            return _cut(" ".join(words))
    return _shown(operation)


def _shown(data: bytes) -> str:
    """Bytes for people: what they encode if they are MessagePack, else their text."""
    value = _unpacked(data)
    return _cut(_plain(data if value is None else value))


def _unpacked(data: bytes) -> Any:
    """The array or number that the bytes encode; None for anything else."""
    import msgpack

    try:
        value = msgpack.unpackb(data, max_map_len=0)
    except (ValueError, TypeError, msgpack.UnpackException):
        return None
    # A text that happens to be MessagePack is a single character: more likely it is what it looks like.
    is_text = data.isascii() and data.decode("ascii").isprintable()
    return value if isinstance(value, list) or (type(value) is int and not is_text) else None


def _plain(value: Any, depth: int = 0) -> str:
    """No byte of a hostile file reaches a terminal as it is: `repr` escapes what does not print."""
    if isinstance(value, list):
        if depth == _DEPTH_MAX:
            return "[...]"
        return f"[{', '.join([_plain(item, depth + 1) for item in value])}]"
    if isinstance(value, bytes):
        try:
            return repr(value.decode())
        except UnicodeDecodeError:
            return repr(value)
    return repr(value)


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}... ({len(text)} characters; --json has all)"
