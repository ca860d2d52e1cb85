"""`python -m bench.micro.replicas`: whole replicas on this disk: group commits, and the return of one that was away.

One table by `durability`: what a replica writes and how long it waits for it while callers put values; one for a
replica that was stopped (SIGSTOP) or killed while the others went on: how fast it catches up when nothing more comes,
and the memory of both sides.  docs/durability.md has the figures.
"""

import argparse
import asyncio
import itertools
import json
import time
from pathlib import Path
from typing import Any, Final

from bench.cluster import Cluster, initialise, start, workplace
from bft.client import Client, connect
from bft.errors import BftError
from deploy import launcher

N: Final = 4
AWAY: Final = 3
SMALL: Final = bytes(100)  # of what is put
LARGE: Final = bytes(1_000)
MODES: Final = ("fsync", "os", "memory")


def main() -> None:
    """Measure, and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8.0, help="of load for each durability")
    parser.add_argument("--callers", type=int, default=64)
    parser.add_argument("--away", type=int, nargs="*", default=[30_000], help="operations that are missed")
    options = parser.parse_args()
    print(f"{'durability':>12}{_heads(13, 'ops/s', 'batches/s', 'commits/s', 'us/commit', 'us/batch', 'bytes/batch')}")
    for mode in MODES if options.seconds else ():
        print(f"{mode:>12}{asyncio.run(measure_commits(mode, options.seconds, options.callers))}", flush=True)
    heads = _heads(12, "catch-up s", "ops/s", "MB fetched", "MB/s", "RSS its MB", "then", "RSS others", "then")
    print(f"\n{'away':>8}{'by':>9}{'operations':>12}{heads}")
    for operations, how, by in itertools.product(options.away, ("stopped", "killed"), ("batches", "state")):
        figures = asyncio.run(measure_return(how, by, operations))
        print(f"{how:>8}{by:>9}{operations:>12}{figures}", flush=True)


def _heads(width: int, *heads: str) -> str:
    return "".join(f"{head:>{width}}" for head in heads)


async def measure_commits(mode: str, seconds: float, callers: int) -> str:
    """A backup's figures while so many callers put one value after the other."""
    with workplace(N) as directory:
        await initialise(directory / "cluster", N)
        cluster = await start(directory / "cluster", behaviours=(), durability=mode)
        async with connect(cluster.directory, timeout=60.0) as client:
            await put(client, operations=20 * callers, callers=callers)
            before, began = told(cluster, 1), time.monotonic()
            await put(client, until=began + seconds, callers=callers)
            after, took = told(cluster, 1), time.monotonic() - began
    operations, batches = (after[key] - before[key] for key in ("executed_operations", "executed_batches"))
    commits, waited_s, size = (after["log"][key] - before["log"][key] for key in ("syncs", "sync_s", "bytes"))
    figures = (
        operations / took,
        batches / took,
        commits / took,
        1e6 * waited_s / max(commits, 1),
        1e6 * waited_s / batches,
        size / batches,
    )
    return "".join(f"{figure:>13,.0f}" for figure in figures)


async def measure_return(how: str, by: str, operations: int) -> str:
    """One replica misses so many operations, each of which puts a large value under a new key, and comes back."""
    with workplace(N) as directory:
        await initialise(directory / "cluster", N)
        if by == "state":
            keep_few_batches(directory / "cluster")
        cluster = await start(directory / "cluster", behaviours=(), durability="fsync")
        async with connect(cluster.directory, timeout=60.0) as client:
            await put(client, operations=2_000, callers=256, value=SMALL)
            await caught_up(cluster)
            theirs, its = rss_mb(cluster, 1), rss_mb(cluster, AWAY)
            cluster.pause(AWAY) if how == "stopped" else await cluster.crash(AWAY)
            await put(client, operations=operations, callers=256, value=LARGE)
        theirs_then, began = rss_mb(cluster, 1), time.monotonic()
        if how == "stopped":
            cluster.resume(AWAY)
        else:
            await cluster.start(AWAY, durability="fsync")
            began = time.monotonic()  # it listens
        await caught_up(cluster)
        took = time.monotonic() - began
        fetched = fetched_bytes(cluster)
        figures = (took, operations / took, fetched / 1e6, fetched / 1e6 / took)
        sizes = (its, rss_mb(cluster, AWAY), theirs, theirs_then)
    return "".join(f"{figure:>12,.2f}" for figure in figures) + "".join(f"{size:>12}" for size in sizes)


def keep_few_batches(directory: Path) -> None:
    """So few that nobody can send those that are missing."""
    for path in directory.glob("**/cluster.toml"):
        settings = "checkpoint_interval = 16\nwindow = 32\narchive_batches_max = 32\n"
        path.write_text(f"{path.read_text()}\n[protocol]\n{settings}")


def fetched_bytes(cluster: Cluster) -> int:
    """Of state, as its log says; 0: it came by batches."""
    lines = (cluster.home(AWAY) / launcher.LOG_FILE).read_text().splitlines()
    return sum(json.loads(line)["bytes_received"] for line in lines if '"state received"' in line)


async def caught_up(cluster: Cluster) -> None:
    """Wait until it stands where the others stand."""
    while True:
        its, others = await asyncio.to_thread(cluster.status, AWAY), await asyncio.to_thread(cluster.status, 1)
        if its and others and its["last_executed"] == others["last_executed"] and not its["transferring"]:
            return
        await asyncio.sleep(0.02)


async def put(
    client: Client, *, callers: int, operations: int | None = None, until: float | None = None, value: bytes = SMALL
) -> None:
    """So many operations, each with a key of its own, or as long as it is not `until` (monotonic)."""
    numbers = itertools.count() if operations is None else iter(range(operations))

    async def call() -> None:
        for number in numbers:
            if until is not None and time.monotonic() > until:
                return
            await client.put(b"key-%d" % number, value)

    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(call())


def told(cluster: Cluster, replica: int) -> dict[str, Any]:
    """Its status.  Raises BftError when it does not answer."""
    status = cluster.status(replica)
    if status is None:
        raise BftError(f"replica {replica} does not answer")
    return status


def rss_mb(cluster: Cluster, replica: int) -> int:
    usage = cluster.usage(replica)
    return 0 if usage is None else usage.rss_bytes // 1_000_000


if __name__ == "__main__":
    main()
