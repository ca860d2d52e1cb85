"""How commands print: JSON for programs, tables for people, and plain text wherever a terminal is missing."""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.table import Table


def examples(*lines: str) -> str:
    """The end of a command's help; the mark keeps click from wrapping it."""
    return "\b\n" + "\n".join(("Example:" if len(lines) == 1 else "Examples:", *(f"  {line}" for line in lines)))


def print_json(document: Any) -> None:
    """One JSON document, readable."""
    click.echo(json.dumps(document, indent=2))


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, title: str | None = None) -> "Table":
    """A table; columns whose heading ends in `#` are aligned right."""
    from rich import box
    from rich.table import Table

    made = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for column in columns:
        made.add_column(column.removesuffix("#"), justify="right" if column.endswith("#") else "left", overflow="fold")
    for row in rows:
        made.add_row(*row)
    return made


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, title: str | None = None) -> None:
    """Print a table; as wide as it needs when nobody's terminal bounds it."""
    from rich.console import Console

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    console.print(table(columns, rows, title=title))


def short(digest: str | None) -> str:
    """A digest as people compare it."""
    return "-" if not digest else digest[:12]


def shown(value: object) -> str:
    """A cell of a table."""
    return "-" if value is None else str(value)
