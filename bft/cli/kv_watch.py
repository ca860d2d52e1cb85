"""`bft kv watch`: what happens to keys, as it happens."""

import json
from typing import TYPE_CHECKING, Any

import click

from bft.cli.asking import as_bytes, as_line, entry_document, field, where_to_ask
from bft.cli.output import examples

if TYPE_CHECKING:
    from bft.client import Event


@click.command(
    short_help="Print every change of the keys that begin with PREFIX.",
    epilog=examples(
        "bft kv watch user/ --cluster mycluster",
        "bft kv watch --key lock --since 17 --count 1",
        'bft kv watch job/ --json | while read -r event; do echo "$event"; done',
    ),
)
@click.argument("prefix", default="")
@click.option("--key", help="This one key, instead of all that begin with PREFIX.")
@click.option(
    "--since",
    type=click.IntRange(1, (1 << 64) - 1),
    metavar="REVISION",
    help="Begin with its events; else with what comes.",
)
@click.option("--count", type=click.IntRange(1), help="End after so many events.")
@where_to_ask
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
def watch(prefix: str, *, key: str | None, since: int | None, count: int | None, as_json: bool, **where: Any) -> None:
    """Print every change of the keys that begin with PREFIX, as at least one correct replica vouches for it.

    Goes on until it is interrupted. Revision, what happened, key and value are parted by tabs. Exits with 1 if the
    events since REVISION are no longer known.
    """
    import asyncio

    from bft.client import connect

    if key is not None and prefix:
        raise click.UsageError("give PREFIX or --key")

    async def print_events() -> None:
        async with connect(where["cluster"], identity=where["identity"], timeout=where["timeout"]) as client:
            one = None if key is None else as_bytes(key)
            left = count
            async for event in client.watch(as_bytes(prefix), key=one, since=since):
                click.echo(_line(event, as_json=as_json))
                if left is not None:
                    left -= 1
                    if not left:
                        return

    asyncio.run(print_events())


def _line(event: "Event", *, as_json: bool) -> str:
    kind = event.kind.name.lower()
    if as_json:
        held = field("key", event.key) if event.entry is None else entry_document(event.key, event.entry)
        return json.dumps({"revision": event.revision, "kind": kind, **held})
    value = "" if event.entry is None else f"\t{as_line(event.entry.value)}"
    return f"{event.revision}\t{kind}\t{as_line(event.key)}{value}"
