"""What the commands that ask a cluster have in common: options, connecting, and how bytes are shown."""

import base64
import math
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from bft.errors import BftError, EnvironmentFailure

if TYPE_CHECKING:
    from bft.cli.recording import RecordingClient
    from bft.client import Entry

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


class Seconds(click.FloatRange):
    """A range of numbers; `nan`, which is in no range and beyond no bound, is none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        converted = super().convert(value, param, ctx)
        if math.isnan(converted):
            self.fail(f"{value} is not a number", param, ctx)
        return converted


_WHERE = (
    click.option(
        "--cluster",
        metavar="PATH",
        type=click.Path(path_type=Path),
        envvar="BFT_CLUSTER",
        required=True,
        help="The cluster's directory, or cluster.toml.  [env: BFT_CLUSTER]",
    ),
    click.option("--identity", metavar="NAME", default="default", show_default=True, help="Who asks: clients/NAME."),
    click.option(
        "--timeout",
        type=Seconds(0.01),
        default=30.0,
        show_default=True,
        help="How many seconds to wait for the cluster.",
    ),
)
_OPTIONS = (
    *_WHERE,
    click.option(
        "--receipt",
        metavar="FILE",
        type=click.Path(dir_okay=False, path_type=Path),
        help="Save a proof of what was asked and answered, for `bft receipt verify`.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print JSON."),
)


def common(command: F) -> F:
    """The options of a command that has one operation carried out."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def where_to_ask(command: F) -> F:
    """The options of a command that asks in its own way."""
    for option in reversed(_WHERE):
        command = option(command)
    return command


@contextmanager
def asked(where: dict[str, Any], question: "Callable[[RecordingClient], Awaitable[T]]") -> Iterator[T]:
    """Connect, ask, close; gives the answer.  A receipt that cannot be had or saved is an error after that."""
    answer, failure = _ask(where, question)
    yield answer
    if failure is not None:
        raise failure


def _ask(
    where: dict[str, Any], question: "Callable[[RecordingClient], Awaitable[T]]"
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
            try:
                answer = await question(recording)
            except ValueError as error:  # what the SDK does not even send, such as what is too large
                raise click.UsageError(str(error)) from error
            if receipt is not None:
                try:
                    await recording.save_receipt(receipt)
                except (NoReceipt, OSError) as error:
                    return answer, error
            return answer, None

    return asyncio.run(ask())


def as_bytes(text: str) -> bytes:
    """What the shell gave, byte for byte."""
    return text.encode("utf-8", "surrogateescape")


def as_text(value: bytes) -> str:
    """Bytes as text, whatever they are."""
    return value.decode("utf-8", "backslashreplace")


def as_line(value: bytes) -> str:
    """Bytes as part of a line: what does not print is escaped, for a stored value must not steer a terminal."""
    text = as_text(value)
    return "".join([c if c.isprintable() else c.encode("unicode_escape").decode() for c in text])


def field(name: str, value: bytes) -> dict[str, str]:
    """Bytes in JSON: as text, or in base64 where they are not UTF-8."""
    try:
        return {name: value.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(value).decode()}


def entry_document(key: bytes, entry: "Entry") -> dict[str, Any]:
    """A key and its entry in JSON."""
    return {
        **field("key", key),
        **field("value", entry.value),
        "mod_revision": entry.mod_revision,
        "create_revision": entry.create_revision,
        "version": entry.version,
        **({} if entry.expires_ns is None else {"expires_ns": entry.expires_ns}),
    }
