"""Reads a whole LMDB environment, in a process of its own: a damaged page may end the process that meets it.

Run as a script with the environment's directory; it imports nothing but LMDB, so that it starts quickly.
"""

import subprocess
import sys
from pathlib import Path
from typing import Final

import lmdb

_DAMAGED: Final = 3


def damage(environment: Path) -> str | None:
    """What is wrong with an environment that no process writes to; None: every page of it can be read."""
    command = [sys.executable, "-I", __file__, str(environment)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 (this very file)
    if done.returncode == 0:
        return None
    if done.returncode < 0:
        return f"reading it ends a process with signal {-done.returncode}"
    return done.stderr.strip().rpartition("\n")[2] or f"reading it ends with code {done.returncode}"


def _read(environment: str) -> None:
    size = Path(environment, "data.mdb").stat().st_size
    env = lmdb.open(environment, map_size=max(size, 1 << 20), max_dbs=16, readonly=True, lock=False)
    with env.begin() as transaction:
        names = [name for name, _ in transaction.cursor()]
        for name in names:
            for _ in transaction.cursor(db=env.open_db(name, txn=transaction, create=False)):
                pass


if __name__ == "__main__":
    try:
        _read(sys.argv[1])
    except (lmdb.Error, OSError) as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(_DAMAGED)
