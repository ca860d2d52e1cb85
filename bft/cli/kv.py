"""`bft kv`: the built-in key-value service from the shell.

Keys and values are given as text (UTF-8). What comes back is printed as it is; with --json as text, or in base64 where
it is not UTF-8.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from bft.cli.asking import Seconds, as_bytes, as_line, as_text, asked, common, entry_document, field
from bft.cli.kv_txn import txn
from bft.cli.kv_watch import watch
from bft.cli.output import examples, print_json, print_table
from bft.errors import ExitCode

if TYPE_CHECKING:
    from bft.cli.recording import RecordingClient
    from bft.client import Consistency, Entry

_TTL: Final = click.option("--ttl", type=Seconds(1e-9, 1e9), help="Remove it after so many seconds.")


@click.group(
    epilog=examples(
        "export BFT_CLUSTER=mycluster", "bft kv put greeting hello", "bft kv get greeting", "bft kv range greet --json"
    )
)
def kv() -> None:
    """Read and write the key-value service.

    The cluster orders what is asked, reads included, so that it is linearizable, but for watch and for get when its
    --consistency says otherwise.
    """


@kv.command(
    epilog=examples(
        "bft kv put greeting hello --cluster mycluster",
        "bft kv put image - < image.png",
        "bft kv put lease worker-7 --ttl 30",
        "bft kv put x 1 --receipt x.receipt",
    )
)
@click.argument("key")
@click.argument("value")
@_TTL
@common
def put(key: str, value: str, *, ttl: float | None, as_json: bool, **where: Any) -> None:
    """Write VALUE under KEY; with - as VALUE, what stdin gives."""
    data = sys.stdin.buffer.read() if value == "-" else as_bytes(value)
    with asked(where, lambda client: client.put(as_bytes(key), data, ttl=ttl)) as revision:
        if as_json:
            print_json({"key": key, "revision": revision})
        else:
            click.echo(f"revision {revision}")


@kv.command(
    epilog=examples(
        "bft kv get greeting --cluster mycluster",
        "bft kv get greeting --json",
        "bft kv get greeting --consistency stale --proof greeting.proof",
    )
)
@click.argument("key")
@click.option(
    "--consistency",
    type=click.Choice(["ordered", "linearizable", "stale"]),
    default="ordered",
    show_default=True,
    help="linearizable: not ordered if the cluster has fast_reads; stale: one replica, verified, of a checkpoint.",
)
@click.option("--max-age", type=Seconds(0), metavar="SECONDS", help="How old a stale read may be.")
@click.option(
    "--proof",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Save the proof of a stale read, for `bft receipt verify`.",
)
@common
def get(
    key: str,
    *,
    consistency: "Consistency",
    max_age: float | None,
    proof: Path | None,
    as_json: bool,
    **where: Any,
) -> int:
    """Print the value of KEY; exits with 1 if there is none.

    stderr tells where a read that was not ordered comes from.
    """
    if consistency != "stale" and (max_age is not None or proof is not None):
        raise click.UsageError("--max-age and --proof go with --consistency stale")
    if consistency != "ordered" and where["receipt"] is not None:
        raise click.UsageError("--receipt goes with --consistency ordered; a stale read has --proof")

    async def ask(client: "RecordingClient") -> "tuple[Entry | None, str]":
        if consistency == "stale":
            found = await client.prove(as_bytes(key), max_age=max_age)
            if proof is not None:
                found.proof.save(proof)
            return found.entry, f"as of checkpoint {found.seq}, {found.age_s:.1f} s ago"
        entry = await client.get(as_bytes(key), consistency=consistency)
        read = client.read
        how = "" if read is None or consistency == "ordered" else f"{read.consistency}, sequence number {read.seq}"
        return entry, how

    with asked(where, ask) as (entry, how):
        if as_json:
            print_json(None if entry is None else entry_document(as_bytes(key), entry))
        elif entry is not None:
            click.echo(entry.value)
        else:
            click.echo(f"error: there is no key {key}", err=True)
        if how:
            click.echo(how, err=True)
        return ExitCode.OK if entry is not None else ExitCode.FAILED


@kv.command("del", epilog=examples("bft kv del greeting --cluster mycluster"))
@click.argument("key")
@common
def delete(key: str, *, as_json: bool, **where: Any) -> int:
    """Remove KEY; exits with 1 if there is none."""
    with asked(where, lambda client: client.delete(as_bytes(key))) as result:
        if as_json:
            print_json({"key": key, "deleted": result.deleted, "revision": result.revision})
        elif result.deleted:
            click.echo(f"deleted, revision {result.revision}")
        else:
            click.echo(f"error: there is no key {key}", err=True)
        return ExitCode.OK if result.deleted else ExitCode.FAILED


@kv.command(
    "range",
    short_help="List entries in key order.",
    epilog=examples(
        "bft kv range --cluster mycluster", "bft kv range --prefix user/ --limit 10", "bft kv range user/ user0 --json"
    ),
)
@click.argument("start", default="")
@click.argument("end", required=False)
@click.option("--prefix", help="Only keys that begin with this.")
@click.option("--limit", type=click.IntRange(1, 1000), default=1000, show_default=True, help="Entries at most.")
@common
def range_(start: str, end: str | None, *, prefix: str | None, limit: int, as_json: bool, **where: Any) -> None:
    """List the entries from START up to but without END, in key order; without END, to the last key.

    A terminal gets a table, anything else key, tab and value.
    """
    last = None if end is None else as_bytes(end)
    stem = None if prefix is None else as_bytes(prefix)
    with asked(where, lambda client: client.range(as_bytes(start), last, prefix=stem, limit=limit)) as result:
        if as_json:
            items = [entry_document(key, entry) for key, entry in result.items]
            following = {} if result.next is None else field("next", result.next)
            print_json({"items": items, "more": result.more, **following, "revision": result.revision})
            return
        if sys.stdout.isatty():
            rows = [
                (
                    as_line(key),
                    as_line(entry.value),
                    str(entry.mod_revision),
                    str(entry.version),
                    _yes(entry.expires_ns),
                )
                for key, entry in result.items
            ]
            print_table(("key", "value", "revision#", "version#", "expires"), rows)
        else:
            for key, entry in result.items:
                click.echo(key + b"\t" + entry.value)
        if result.next is not None:
            click.echo(f"there is more: go on from {as_line(result.next)}", err=True)


@kv.command(
    short_help="Write only if KEY holds what is expected.",
    epilog=examples(
        "bft kv cas lock --expect-absent --new alice --cluster mycluster",
        "bft kv cas lock --expect alice --new bob",
        "bft kv cas lock --expect bob --delete",
    ),
)
@click.argument("key")
@click.option("--expect", metavar="VALUE", help="The value that KEY must have.")
@click.option("--expect-absent", is_flag=True, help="KEY must not exist.")
@click.option("--new", metavar="VALUE", help="What to write then.")
@click.option("--delete", "delete_", is_flag=True, help="Remove KEY then.")
@_TTL
@common
def cas(
    key: str,
    *,
    expect: str | None,
    expect_absent: bool,
    new: str | None,
    delete_: bool,
    ttl: float | None,
    as_json: bool,
    **where: Any,
) -> int:
    """Write only if KEY holds what is expected, in one step; exits with 1 if it does not."""
    if (expect is None) != expect_absent:
        raise click.UsageError("give one of --expect VALUE and --expect-absent")
    if (new is None) != delete_:
        raise click.UsageError("give one of --new VALUE and --delete")
    if delete_ and ttl is not None:
        raise click.UsageError("--ttl goes with --new")
    expected = None if expect is None else as_bytes(expect)
    replacement = None if new is None else as_bytes(new)
    with asked(where, lambda client: client.cas(as_bytes(key), expected, replacement, ttl=ttl)) as result:
        if as_json:
            before = None if result.previous is None else entry_document(as_bytes(key), result.previous)
            print_json({"key": key, "swapped": result.swapped, "revision": result.revision, "previous": before})
        elif result.swapped:
            click.echo(f"swapped, revision {result.revision}")
        else:
            held = "does not exist" if result.previous is None else f"holds {as_text(result.previous.value)}"
            click.echo(f"error: {key} {held}", err=True)
        return ExitCode.OK if result.swapped else ExitCode.FAILED


@kv.command(short_help="Print the revision of the last write.", epilog=examples("bft kv status --cluster mycluster"))
@common
def status(*, as_json: bool, **where: Any) -> None:
    """Print the revision of the last write, and the oldest from which `watch` can begin."""
    with asked(where, lambda client: client.store_status()) as found:
        if as_json:
            print_json({"revision": found.revision, "oldest": found.oldest, "expiring": found.expiring})
        else:
            click.echo(
                f"revision {found.revision}, watch since {found.oldest} or later, keys that expire: {found.expiring}"
            )


kv.add_command(txn)
kv.add_command(watch)


def _yes(expires_ns: int | None) -> str:
    return "" if expires_ns is None else "yes"
