"""Weaken the protocol in every way of the catalogue and demand that each is caught: `make mutants`.

A mutant is caught by the quick tests of the core, or else by the simulator within `--seeds` seeds of each n = 4, 7.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from tests.mutants.catalogue import MUTANTS, Mutant

_ROOT = Path(__file__).resolve().parents[2]
_TESTS = ("tests/paper", "tests/unit/core", "tests/datadriven")
_SEEDS = """
import sys
from bft.testing.options import Options
from bft.testing.simulation import simulate
for seed in range(int(sys.argv[1])):
    for n in (4, 7):
        try:
            simulate(Options.draw(seed, n))
        except Exception as violation:
            print(f"seed {seed}, n = {n}: {type(violation).__name__}")
            sys.exit(1)
"""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What caught the mutant; None: nothing."""

    mutant: Mutant
    caught_by: str | None


def judge(mutant: Mutant, seeds: int) -> Verdict:
    """Apply the mutant to a copy of the tree and look for something that fails.

    Raises ValueError if its text does not stand in the file exactly once: the catalogue is out of date.
    """
    with tempfile.TemporaryDirectory(prefix="bft-mutant-") as directory:
        tree = Path(directory)
        weakened_copy(mutant, tree)
        return Verdict(mutant, _failing_test(tree) or failing_seed(tree, seeds))


def weakened_copy(mutant: Mutant, tree: Path) -> None:
    """Copy the code and its tests to `tree`, weakened.  Raises ValueError as `judge` does."""
    for part in ("bft", "crypto", "tests"):
        shutil.copytree(_ROOT / part, tree / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(_ROOT / "pyproject.toml", tree)
    path = tree / mutant.path
    source = path.read_text()
    if source.count(mutant.old) != 1:
        raise ValueError(f"{mutant.name}: stands {source.count(mutant.old)} times in {mutant.path}")
    path.write_text(source.replace(mutant.old, mutant.new))


def _failing_test(tree: Path) -> str | None:
    tests = [test for test in _TESTS if (tree / test).exists()]
    command = (sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--no-header", *tests)
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return None
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return failed[0].split("::")[-1].split(" - ")[0] if failed else "the tests do not run"


def failing_seed(tree: Path, seeds: int) -> str | None:
    command = (sys.executable, "-c", _SEEDS, str(seeds))
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else (done.stdout.strip() or done.stderr.strip().splitlines()[-1])


def main() -> int:
    """Exit code 0 iff every mutant is caught."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="simulator seeds for a mutant that passes the tests")
    parser.add_argument("--only", default="", help="only mutants whose name contains this")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    if (failing := _failing_test(_ROOT)) is not None:
        Console(stderr=True).print(f"error: {failing} fails without any mutant: mend that first")
        return 1
    chosen = [mutant for mutant in MUTANTS if options.only in mutant.name]
    table = Table("mutant", "caught by")
    survivors = 0
    with Progress(console=Console(stderr=True), transient=True) as progress, ThreadPoolExecutor(options.jobs) as pool:
        task = progress.add_task("mutants", total=len(chosen))
        for verdict in pool.map(lambda mutant: judge(mutant, options.seeds), chosen):
            progress.advance(task)
            survivors += verdict.caught_by is None
            table.add_row(verdict.mutant.name, verdict.caught_by or "[red]NOTHING[/red]")
    console = Console(width=140)
    console.print(table)
    console.print(f"{len(chosen) - survivors} of {len(chosen)} mutants caught")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
