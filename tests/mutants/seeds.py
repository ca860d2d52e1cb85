"""How many seeds of the simulator alone, no other test, each mutant survives: `make mutants-sim BUDGET=300`.

Seeds are those of `bft sim` (all families), of n = 4 and n = 7 in turn.  `--out FILE` adds each result to a file at
once, so that a campaign can be run in slices: what FILE holds already is not run again.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.mutants.catalogue import MUTANTS, Mutant
from tests.mutants.run import failing_seed, weakened_copy


def measure(mutant: Mutant, seeds: int) -> str | None:
    """The first seed that fails, as text; None if none of the first `seeds` does."""
    with tempfile.TemporaryDirectory(prefix="bft-mutant-") as directory:
        weakened_copy(mutant, Path(directory))
        return failing_seed(Path(directory), seeds)


def main() -> int:
    """Prints a table; exit code 0 whatever the simulator missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=300, help="of each n = 4, 7, at most")
    parser.add_argument("--only", default="", help="only mutants whose name contains this")
    parser.add_argument("--limit", type=int, default=len(MUTANTS), help="measure so many mutants in this slice")
    parser.add_argument("--out", type=Path, help="a file of results, one JSON object a line")
    options = parser.parse_args()
    known: dict[str, str | None] = {}
    if options.out is not None and options.out.exists():
        known = {row["mutant"]: row["found"] for row in map(json.loads, options.out.read_text().splitlines())}
    chosen = [mutant for mutant in MUTANTS if options.only in mutant.name]
    for mutant in [mutant for mutant in chosen if mutant.name not in known][: options.limit]:
        known[mutant.name] = found = measure(mutant, options.seeds)
        sys.stderr.write(f"{mutant.name}: {found or 'not found'}\n")
        if options.out is not None:
            with options.out.open("a") as file:
                file.write(json.dumps({"mutant": mutant.name, "found": found}) + "\n")
    table = Table("mutant", f"first of {options.seeds} seeds that fails")
    for mutant in chosen:
        if mutant.name in known:
            table.add_row(mutant.name, known[mutant.name] or "none")
    Console(width=140).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
