"""`bft kv txn`: conditions and operations as one would say them."""

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from bft.cli.asking import as_bytes, as_line, asked, common, entry_document
from bft.cli.output import examples, print_json, print_table
from bft.errors import ExitCode

if TYPE_CHECKING:
    from bft.client import Compare, TxnOperation

_CONDITIONS: Final = "exists KEY, absent KEY, value|version|create|mod KEY ==|!=|<|> WHAT"
_OPERATIONS: Final = "put KEY VALUE [ttl=SECONDS], get KEY, del KEY, range START [END]"


@click.command(
    short_help="Compare several keys, and carry out one of two lists of operations.",
    epilog=examples(
        "bft kv txn --if 'absent lock' --then 'put lock alice ttl=30' --else 'get lock' --cluster mycluster",
        "bft kv txn --if 'value from == 10' --then 'put from 0' --then 'put to 10'",
        "bft kv txn --if 'mod config == 17' --then 'put config \"two words\"' --json",
    ),
)
@click.option("--if", "conditions", multiple=True, metavar="CONDITION", help=f"All must hold: {_CONDITIONS}.")
@click.option("--then", multiple=True, metavar="OPERATION", help=f"Done if they do: {_OPERATIONS}.")
@click.option("--else", "otherwise", multiple=True, metavar="OPERATION", help="Done if they do not.")
@common
def txn(
    *, conditions: Sequence[str], then: Sequence[str], otherwise: Sequence[str], as_json: bool, **where: Any
) -> int:
    """Compare, and carry out one of two lists of operations, in one step; exits with 1 if a condition does not hold.

    Every option may be given many times. Words are parted as a shell does it, so a value with blanks is quoted.
    """
    compares = [_condition(text) for text in conditions]
    branches = [_operation(text) for text in then], [_operation(text) for text in otherwise]
    if not any(branches):
        raise click.UsageError("give at least one --then or --else")
    with asked(where, lambda client: client.txn(compares, *branches)) as result:
        texts = then if result.succeeded else otherwise
        if as_json:
            results = [_document(part) for part in result.results]
            print_json({"succeeded": result.succeeded, "revision": result.revision, "results": results})
        else:
            rows = [(text, _shown(part)) for text, part in zip(texts, result.results, strict=True)]
            print_table(("then" if result.succeeded else "else", "result"), rows)
        return ExitCode.OK if result.succeeded else ExitCode.FAILED


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise click.UsageError(f"{text}: {error}") from error


def _condition(text: str) -> "Compare":
    from bft.client import Compare

    numbers = {"version": Compare.version, "create": Compare.create_revision, "mod": Compare.mod_revision}
    try:
        match _words(text):
            case ["exists", key]:
                return Compare.exists(as_bytes(key))
            case ["absent", key]:
                return Compare.absent(as_bytes(key))
            case ["value", key, relation, value]:
                return Compare.value(as_bytes(key), relation, as_bytes(value))
            case [("version" | "create" | "mod") as target, key, relation, number]:
                return numbers[target](as_bytes(key), relation, int(number))
    except ValueError as error:
        raise click.UsageError(f"--if '{text}': {error}") from error
    raise click.UsageError(f"--if '{text}' is none of: {_CONDITIONS}")


def _operation(text: str) -> "TxnOperation":
    from bft.client import Delete, Get, Put, Range

    match _words(text):
        case ["put", key, value]:
            return Put(as_bytes(key), as_bytes(value))
        case ["put", key, value, ttl] if ttl.startswith("ttl="):
            try:
                return Put(as_bytes(key), as_bytes(value), float(ttl.removeprefix("ttl=")))
            except ValueError as error:
                raise click.UsageError(f"'{text}': {error}") from error
        case ["get", key]:
            return Get(as_bytes(key))
        case ["del", key]:
            return Delete(as_bytes(key))
        case ["range", start]:
            return Range(as_bytes(start))
        case ["range", start, end]:
            return Range(as_bytes(start), as_bytes(end))
    raise click.UsageError(f"'{text}' is none of: {_OPERATIONS}")


def _document(part: Any) -> Any:
    from bft.client import DeleteResult, Entry, RangeResult

    match part:
        case Entry():
            return {name: value for name, value in entry_document(b"", part).items() if name != "key"}
        case DeleteResult():
            return {"deleted": part.deleted, "revision": part.revision}
        case RangeResult():
            return {"items": [entry_document(key, entry) for key, entry in part.items], "more": part.more}
    return None if part is None else {"revision": part}


def _shown(part: Any) -> str:
    from bft.client import DeleteResult, Entry, RangeResult

    match part:
        case Entry():
            return as_line(part.value)
        case DeleteResult():
            return f"deleted, revision {part.revision}" if part.deleted else "was not there"
        case RangeResult():
            more = " and more" if part.more else ""
            return ", ".join(as_line(key) for key, _ in part.items) + more
    return "there is no such key" if part is None else f"revision {part}"
