"""`bft kv`: the built-in key-value service from the shell.

Keys and values are given as text (UTF-8). What comes back is printed as it is; with --json as text, or in base64 where
it is not UTF-8.
"""

import base64
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from bft.cli.output import examples, print_json
from bft.errors import BftError, EnvironmentFailure, ExitCode

if TYPE_CHECKING:
    from bft.client import Entry, KeyValueClient

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--cluster",
        metavar="PATH",
        type=click.Path(path_type=Path),
        envvar="BFT_CLUSTER",
        required=True,
        help="The cluster's directory, or cluster.toml.  [env: BFT_CLUSTER]",
    ),
    click.option("--identity", metavar="NAME", default="default", show_default=True, help="Who asks: clients/NAME."),
    click.option("--timeout", type=click.FloatRange(0.01), default=30.0, show_default=True, help="Seconds."),
    click.option(
        "--receipt",
        metavar="FILE",
        type=click.Path(dir_okay=False, path_type=Path),
        help="Save a proof of what was asked and answered, for `bft receipt verify`.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print JSON."),
)


def _common(command: F) -> F:
    """The options that every command of this group takes."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.group(
    epilog=examples(
        "export BFT_CLUSTER=mycluster", "bft kv put greeting hello", "bft kv get greeting", "bft kv range greet --json"
    )
)
def kv() -> None:
    """Read and write the key-value service.

    All commands are ordered by the cluster, reads included, and therefore linearizable.
    """


@kv.command(
    epilog=examples(
        "bft kv put greeting hello --cluster mycluster",
        "bft kv put image - < image.png",
        "bft kv put x 1 --receipt x.receipt",
    )
)
@click.argument("key")
@click.argument("value")
@_common
def put(key: str, value: str, *, as_json: bool, **where: Any) -> None:
    """Write VALUE under KEY; with - as VALUE, what stdin gives."""
    data = sys.stdin.buffer.read() if value == "-" else _bytes(value)
    with _asked(where, lambda client: client.put(_bytes(key), data)) as revision:
        if as_json:
            print_json({"key": key, "revision": revision})
        else:
            click.echo(f"revision {revision}")


@kv.command(epilog=examples("bft kv get greeting --cluster mycluster", "bft kv get greeting --json"))
@click.argument("key")
@_common
def get(key: str, *, as_json: bool, **where: Any) -> int:
    """Print the value of KEY; exits with 1 if there is none."""
    with _asked(where, lambda client: client.get(_bytes(key))) as entry:
        if as_json:
            print_json(None if entry is None else _entry(_bytes(key), entry))
        elif entry is not None:
            click.echo(entry.value)
        else:
            click.echo(f"error: there is no key {key}", err=True)
        return ExitCode.OK if entry is not None else ExitCode.FAILED


@kv.command("del", epilog=examples("bft kv del greeting --cluster mycluster"))
@click.argument("key")
@_common
def delete(key: str, *, as_json: bool, **where: Any) -> int:
    """Remove KEY; exits with 1 if there is none."""
    with _asked(where, lambda client: client.delete(_bytes(key))) as result:
        if as_json:
            print_json({"key": key, "deleted": result.deleted, "revision": result.revision})
        elif result.deleted:
            click.echo(f"deleted, revision {result.revision}")
        else:
            click.echo(f"error: there is no key {key}", err=True)
        return ExitCode.OK if result.deleted else ExitCode.FAILED


@kv.command("range", epilog=examples("bft kv range --cluster mycluster", "bft kv range user/ user0 --limit 10 --json"))
@click.argument("start", default="")
@click.argument("end", required=False)
@click.option("--limit", type=click.IntRange(1, 1000), default=1000, show_default=True, help="Entries at most.")
@_common
def range_(start: str, end: str | None, *, limit: int, as_json: bool, **where: Any) -> None:
    """List the entries from START up to but without END, in key order; without END, to the last key."""
    last = None if end is None else _bytes(end)
    with _asked(where, lambda client: client.range(_bytes(start), last, limit=limit)) as result:
        if as_json:
            items = [_entry(key, entry) for key, entry in result.items]
            following = {} if result.next is None else _field("next", result.next)
            print_json({"items": items, "more": result.more, **following, "revision": result.revision})
            return
        for key, entry in result.items:
            click.echo(key + b"\t" + entry.value)
        if result.more:
            click.echo("there is more: go on from the last key", err=True)


@kv.command(
    epilog=examples(
        "bft kv cas lock --expect-absent --new alice --cluster mycluster",
        "bft kv cas lock --expect alice --new bob",
        "bft kv cas lock --expect bob --delete",
    )
)
@click.argument("key")
@click.option("--expect", metavar="VALUE", help="The value that KEY must have.")
@click.option("--expect-absent", is_flag=True, help="KEY must not exist.")
@click.option("--new", metavar="VALUE", help="What to write then.")
@click.option("--delete", "delete_", is_flag=True, help="Remove KEY then.")
@_common
def cas(
    key: str,
    *,
    expect: str | None,
    expect_absent: bool,
    new: str | None,
    delete_: bool,
    as_json: bool,
    **where: Any,
) -> int:
    """Write only if KEY holds what is expected, in one step; exits with 1 if it does not."""
    if (expect is None) != expect_absent:
        raise click.UsageError("give one of --expect VALUE and --expect-absent")
    if (new is None) != delete_:
        raise click.UsageError("give one of --new VALUE and --delete")
    expected = None if expect is None else _bytes(expect)
    replacement = None if new is None else _bytes(new)
    with _asked(where, lambda client: client.cas(_bytes(key), expected, replacement)) as result:
        if as_json:
            before = None if result.previous is None else _entry(_bytes(key), result.previous)
            print_json({"key": key, "swapped": result.swapped, "revision": result.revision, "previous": before})
        elif result.swapped:
            click.echo(f"swapped, revision {result.revision}")
        else:
            held = "does not exist" if result.previous is None else f"holds {_text(result.previous.value)}"
            click.echo(f"error: {key} {held}", err=True)
        return ExitCode.OK if result.swapped else ExitCode.FAILED


@contextmanager
def _asked(where: dict[str, Any], question: "Callable[[KeyValueClient], Awaitable[T]]") -> Iterator[T]:
    """Connect, ask, close; gives the answer.  A receipt that cannot be had or saved is an error after that."""
    answer, failure = _ask(where, question)
    yield answer
    if failure is not None:
        raise failure


def _ask(
    where: dict[str, Any], question: "Callable[[KeyValueClient], Awaitable[T]]"
) -> tuple[T, BftError | OSError | None]:
    import asyncio

    from bft.cli.recording import RecordingClient
    from bft.client import NoReceipt, connect

    receipt: Path | None = where["receipt"]
    if receipt is not None and not receipt.parent.is_dir():  # better now than after the operation was carried out
        raise EnvironmentFailure(f"{receipt.parent}: no such directory")

    async def ask() -> tuple[T, BftError | OSError | None]:
        path, identity, timeout = where["cluster"], where["identity"], where["timeout"]
        async with connect(path, identity=identity, timeout=timeout) as client:
            recording = RecordingClient(client)
            answer = await question(recording)
            if receipt is not None:
                try:
                    await recording.save_receipt(receipt)
                except (NoReceipt, OSError) as error:
                    return answer, error
            return answer, None

    return asyncio.run(ask())


def _bytes(text: str) -> bytes:
    """What the shell gave, byte for byte."""
    return text.encode("utf-8", "surrogateescape")


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")


def _field(name: str, value: bytes) -> dict[str, str]:
    try:
        return {name: value.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(value).decode()}


def _entry(key: bytes, entry: "Entry") -> dict[str, Any]:
    return {
        **_field("key", key),
        **_field("value", entry.value),
        "mod_revision": entry.mod_revision,
        "create_revision": entry.create_revision,
        "version": entry.version,
    }
