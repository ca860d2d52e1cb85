"""`bft call`: an operation of any service, as bytes."""

import base64
import sys
from pathlib import Path
from typing import Any

import click

from bft.cli.asking import as_bytes, asked, common
from bft.cli.output import examples, print_json
from bft.errors import EnvironmentFailure


@click.command(
    epilog=examples(
        "bft call increment --cluster mycluster",
        "bft call --hex 9202c40178 --print-hex",
        "bft call --file operation.bin --receipt operation.receipt > result.bin",
        "... | bft call --file -",
    )
)
@click.argument("text", required=False)
@click.option("--hex", "hexadecimal", metavar="DIGITS", help="The operation in hexadecimal.")
@click.option("--file", "path", metavar="FILE", help="A file that holds the operation; - for stdin.")
@click.option("--print-hex", is_flag=True, help="Print the result in hexadecimal.")
@common
def call(
    text: str | None, *, hexadecimal: str | None, path: str | None, print_hex: bool, as_json: bool, **where: Any
) -> None:
    """Have the cluster's service carry out an operation, given as TEXT, with --hex or with --file; print its result.

    The result is printed as it is, with a line feed if a terminal shows it. Exits with 1 if the service refuses.
    """
    operation = _operation(text, hexadecimal, path)
    with asked(where, lambda client: client.call(operation)) as result:
        if as_json:
            print_json({"result_base64": base64.b64encode(result.value).decode(), "seq": result.seq})
        elif print_hex:
            click.echo(result.value.hex())
        else:
            click.echo(result.value, nl=sys.stdout.isatty())


def _operation(text: str | None, hexadecimal: str | None, path: str | None) -> bytes:
    if [text, hexadecimal, path].count(None) != 2:
        raise click.UsageError("give one of TEXT, --hex DIGITS and --file FILE")
    if text is not None:
        return as_bytes(text)
    if hexadecimal is not None:
        try:
            return bytes.fromhex(hexadecimal)
        except ValueError as error:
            raise click.UsageError(f"--hex: {error}") from error
    if path == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(path or "").read_bytes()
    except OSError as error:
        raise EnvironmentFailure(f"{path}: {error.strerror}") from error
