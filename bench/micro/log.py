"""`python -m bench.micro.log`: what a commit costs, by the way a file is laid out and by `durability`.

All ways take turns, some commits each, so that whatever else the disk does meets all of them.  Figures are of single
commits; the fifth percentile shows best what a disk does that is asked for nothing else.  docs/durability.md has them.
"""

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import lmdb

from bft.storage.log import FileLog, MemoryLog, RecordLog
from bft.storage.logfile import Identity
from bft.storage.records import Entry, RecordType, retained

TURNS: Final = 100
COMMITS: Final = 10  # a turn
FILE_BYTES: Final = 72 << 20
SIZES: Final = (4 << 10, 64 << 10)
IDENTITY: Final = Identity("bench", 0)


def main() -> None:
    """Measure, and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, default=Path(), help="on the disk to be measured (default: here)")
    where: Path = parser.parse_args().directory
    with tempfile.TemporaryDirectory(dir=where) as directory:
        print(f"{'commit of':>12}{'way':>17}{'p5 us':>12}{'median us':>12}{'p99 us':>12}")
        for size in SIZES:
            for way, times in measure_layouts(Path(directory), size).items():
                figures = (_percentile(times, 5), statistics.median(times), _percentile(times, 99))
                print(f"{size >> 10:>8} KiB{way:>16}{''.join(map(_us, figures))}")
    print()
    print(f"{'durability':>12}{'bytes':>8}{'commits/s':>12}{'p5 us':>12}{'median us':>12}{'disk us':>12}")
    for size in (1 << 10, 16 << 10):
        with tempfile.TemporaryDirectory(dir=where) as directory:
            for mode, (times, wait) in asyncio.run(measure_durability(Path(directory), size)).items():
                median = statistics.median(times)
                waits = (_percentile(times, 5), median, wait)
                print(f"{mode:>12}{size:>8}{1e9 / median:>12.0f}{''.join(map(_us, waits))}")


def measure_layouts(directory: Path, size: int) -> dict[str, list[int]]:
    """Nanoseconds of each commit of `size` bytes."""
    data = os.urandom(size)
    ways = {
        "append": _file(directory / "append"),
        "fallocate": _file(directory / "fallocate", allocate=True),
        "zeros": _file(directory / "zeros", zeros=True),
        "LMDB": _lmdb(directory / "lmdb"),
    }
    times: dict[str, list[int]] = {way: [] for way in ways}
    for _ in range(TURNS):
        for way, commit in ways.items():
            for _ in range(COMMITS):
                began = time.perf_counter_ns()
                commit(data)
                times[way].append(time.perf_counter_ns() - began)
    for path in directory.iterdir():
        if path.is_file():
            path.unlink()
    return times


def _file(path: Path, *, allocate: bool = False, zeros: bool = False) -> Callable[[bytes], None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    if allocate:
        os.posix_fallocate(descriptor, 0, FILE_BYTES)
    if zeros:
        os.pwrite(descriptor, bytes(FILE_BYTES), 0)
    os.fsync(descriptor)
    offset = 0

    def commit(data: bytes) -> None:
        nonlocal offset
        os.pwrite(descriptor, data, offset)
        os.fdatasync(descriptor)
        offset += len(data)

    return commit


def _lmdb(path: Path) -> Callable[[bytes], None]:
    path.mkdir(exist_ok=True)
    environment = lmdb.open(str(path), map_size=4 * FILE_BYTES)
    count = 0

    def commit(data: bytes) -> None:
        nonlocal count
        with environment.begin(write=True) as transaction:
            transaction.put(count.to_bytes(8, "big"), data)
        count += 1

    return commit


async def measure_durability(directory: Path, size: int) -> dict[str, tuple[list[int], float]]:
    """Nanoseconds of each commit of three records, seen by who waits for it, and of those the writer thread's."""
    logs: dict[str, RecordLog] = {"memory": MemoryLog()}
    for mode in ("os", "fsync"):
        (directory / mode).mkdir()
        logs[mode], _ = FileLog.open(directory / mode, IDENTITY, retained, sync=mode == "fsync")
    entries = [Entry(RecordType.ACCEPTED, 1, os.urandom(size // 3)) for _ in range(3)]
    times: dict[str, list[int]] = {mode: [] for mode in ("fsync", "os", "memory")}
    for turn in range(TURNS):
        for mode, log in logs.items():
            for _ in range(COMMITS):
                began = time.perf_counter_ns()
                await log.append(entries)
                times[mode].append(time.perf_counter_ns() - began)
            log.truncate(turn)
    measured = {mode: (times[mode], logs[mode].sync_ns / max(1, logs[mode].syncs)) for mode in times}
    for log in logs.values():
        await log.close()
    return measured


def _us(nanoseconds: float) -> str:
    return f"{nanoseconds / 1000:>12.0f}"


def _percentile(times: Sequence[int], percent: int) -> int:
    return sorted(times)[len(times) * percent // 100]


if __name__ == "__main__":
    main()
