"""`make demo`: four replica processes, a primary that begins to equivocate, and what the cluster does about it.

Uses what every user has, the `bft` command and the SDK.  Exit code 0 only if everything that is claimed was seen.
"""

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from rich.console import Console

import bft
from bft.errors import BftError
from deploy import launcher
from deploy.load import Load
from deploy.ports import free_base_port
from deploy.show import Show

REPLICAS: Final = 4
EQUIVOCATOR: Final = 0  # the primary of view 0
CORRECT: Final = tuple(replica for replica in range(REPLICAS) if replica != EQUIVOCATOR)
BEHAVIOUR: Final = "equivocate_split"
_BY_HAND: Final = 20  # keys written and read one after the other
_VIEW_CHANGE_S: Final = 30.0
_SETTLE_S: Final = 30.0
_RANGE: Final = 1000
_POLL_S: Final = 0.1
_DIGITS: Final = 32  # of a digest that people compare


class DemoFailed(Exception):
    """Something that should have happened did not; `args[0]` says what."""


@dataclass(slots=True)
class Findings:
    """What was seen, and whether it is what was promised."""

    checks: list[tuple[str, bool]] = field(default_factory=list)
    evidence: dict[str, Any] = field(default_factory=dict)
    executed: int = 0
    checkpoint: int = 0
    roots: dict[int, str] = field(default_factory=dict)
    view_change_s: float = 0.0
    view_changes: int = 0
    view: int = 0

    def check(self, claim: str, holds: bool) -> None:  # noqa: FBT001 (the claim names it)
        self.checks.append((claim, holds))

    @property
    def verdict(self) -> bool:
        return bool(self.checks) and all(holds for _, holds in self.checks)


class Cluster:
    """The `bft` command, applied to one cluster."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    async def bft(self, *arguments: str | Path, codes: Sequence[int] = (0,)) -> str:
        """Carry out a command line; what it printed.  Raises DemoFailed."""
        command = [sys.executable, "-m", "bft.cli.main", *map(str, arguments)]
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        try:
            out, err = await process.communicate()
        finally:
            if process.returncode is None:  # we are interrupted
                process.terminate()
                await process.wait()
        if process.returncode not in codes:
            raise DemoFailed(f"`bft {' '.join(map(str, arguments))}` failed:\n{err.decode()}")
        return out.decode()

    async def status(self) -> list[dict[str, Any]]:
        """Each replica's status, by id."""
        replicas: list[dict[str, Any]] = json.loads(
            await self.bft("cluster", "status", self.directory, "--json", codes=(0, 7))
        )["replicas"]
        return replicas

    def replica(self, replica: int) -> Path:
        return self.directory / f"replica-{replica}"

    def stop(self) -> None:
        """End every process of the cluster."""
        if self.directory.is_dir():
            launcher.stop([self.replica(replica) for replica in range(REPLICAS)], grace_s=5.0)


async def demo(cluster: Cluster, show: Show, *, callers: int, seconds: float) -> Findings:
    """The whole story.  Raises DemoFailed or BftError when it cannot go on."""
    found = Findings()
    show.step("a CA, keys and certificates for four replicas and two clients")
    base_port = free_base_port(REPLICAS)
    await cluster.bft("cluster", "init", cluster.directory, "--replicas", str(REPLICAS), "--base-port", str(base_port))
    show.step("four replica processes over mutual TLS; replica 0, the primary, carries a hidden defect")
    await cluster.bft("cluster", "up", cluster.directory, "--behaviour", f"{EQUIVOCATOR}={BEHAVIOUR}@signal")

    async with bft.connect(cluster.directory) as store:
        await _by_hand(store, show)
        load = Load(store, callers)
        load.begin("before")
        async with _running(load):
            show.step(f"load: {callers} concurrent callers, each writes and reads back")
            await show.watch(load, seconds)
            load.begin("attack")
            await _attack(cluster, show, found)
            load.begin("after")
            show.step("the load goes on under the new primary")
            await show.watch(load, seconds)
            await _until_stable(cluster, show, load)
        await _evidence(cluster, show, found)
        show.step(f"everything that was acknowledged, {len(load.written)} values, is read back")
        found.check("every acknowledged write is there", await _all_there(store, load))
    await _settled(cluster, show, found)
    found.check("no error reached a client", not load.errors)
    show.result(load, found)
    for error in load.errors[:5]:
        show.line(f"client error: {error}")
    return found


@contextlib.asynccontextmanager
async def _running(load: Load) -> AsyncIterator[None]:
    """The load in the background; ends it, and waits for its last calls, when the block ends."""
    task = asyncio.ensure_future(load.run())
    try:
        yield
        load.stop()
        await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _by_hand(store: bft.Client, show: Show) -> None:
    show.step(f"{_BY_HAND} writes and reads, one after the other")
    for number in range(_BY_HAND):
        key, value = f"hand/{number:02}".encode(), f"value {number}".encode()
        await store.put(key, value)
        entry = await store.get(key)
        if entry is None or entry.value != value:
            raise DemoFailed(f"{key.decode()} does not hold what was written")


async def _attack(cluster: Cluster, show: Show, found: Findings) -> None:
    """Let the primary equivocate; wait until a quorum works in a later view."""
    process = launcher.find(cluster.replica(EQUIVOCATOR))
    if process is None:
        raise DemoFailed("replica 0 does not run any more")
    show.step("replica 0 begins to equivocate: two batches under one sequence number, both properly signed")
    began = time.monotonic()
    os.kill(process.pid, signal.SIGUSR1)
    while True:
        replicas = await cluster.status()
        moved = [replicas[i] for i in CORRECT if replicas[i]["active"] and replicas[i]["view"]]
        if len(moved) == len(CORRECT):
            break
        if time.monotonic() - began > _VIEW_CHANGE_S:
            raise DemoFailed(f"no view change within {_VIEW_CHANGE_S:g} s")
        await asyncio.sleep(_POLL_S)
    found.view_change_s = time.monotonic() - began
    view, primary = moved[0]["view"], moved[0]["primary"]
    show.step(f"view change: the correct replicas are in view {view}, whose primary is replica {primary}")
    found.check("replica 0 is primary no more", primary != EQUIVOCATOR)


async def _until_stable(cluster: Cluster, show: Show, load: Load) -> None:
    """On a slow machine, go on until there is a checkpoint to compare."""
    deadline = time.monotonic() + _SETTLE_S
    while time.monotonic() < deadline:
        replicas = await cluster.status()
        if all(replicas[i]["stable_checkpoint"] for i in CORRECT):
            return
        await show.watch(load, 1.0)


async def _evidence(cluster: Cluster, show: Show, found: Findings) -> None:
    """Save the proof, and verify it with nothing but the public configuration."""
    proofs = cluster.directory / "proofs"
    listed = json.loads(await cluster.bft("evidence", "list", cluster.directory, "--save", proofs, "--json"))
    accused = [proof["accused"] for proof in listed]
    found.check("replica 0 is convicted, nobody else is", accused == [EQUIVOCATOR])
    if EQUIVOCATOR not in accused:
        return
    file = proofs / f"replica-{EQUIVOCATOR}.evidence"
    public = cluster.directory / "cluster.toml"
    verified = json.loads(await cluster.bft("evidence", "verify", file, "--cluster", public, "--json"))
    found.evidence = verified
    found.check("its evidence verifies offline", verified["valid"] and verified["accused"] == EQUIVOCATOR)
    show.step("evidence, verified offline with the public keys alone:")
    show.line(f"replica {verified['accused']} signed two {verified['statements']}s for view {verified['view']}, "
              f"sequence number {verified['seq']}")  # fmt: skip
    show.line(f"one says       {verified['first'][:_DIGITS]}...")
    show.line(f"the other says {verified['second'][:_DIGITS]}...")


async def _all_there(store: bft.Client, load: Load) -> bool:
    held: dict[bytes, bytes] = {}
    start = b"load/"
    while True:
        page = await store.range(start, b"load0", limit=_RANGE)
        held |= {key: entry.value for key, entry in page.items}
        if not page.more:
            return all(held.get(key) == value for key, value in load.written.items())
        start = page.items[-1][0] + b"\0"


async def _settled(cluster: Cluster, show: Show, found: Findings) -> None:
    """Wait until the correct replicas have executed the same; compare their states, and their stable checkpoints."""
    show.step("the correct replicas' states, compared")
    deadline = time.monotonic() + _SETTLE_S
    while True:
        replicas = [(await cluster.status())[i] for i in CORRECT]
        stands = {(r["last_executed"], r["state_root"], r["stable_checkpoint"], r["stable_root"]) for r in replicas}
        equal = len(stands) == 1
        if equal or time.monotonic() > deadline:
            break
        await asyncio.sleep(_POLL_S)
    first = replicas[0]
    found.executed = first["last_executed"] or 0
    found.roots = {r["id"]: r["state_root"] or "" for r in replicas}
    found.checkpoint = first["stable_checkpoint"] or 0
    found.view = first["view"]
    found.view_changes = max(r["view_changes"] or 0 for r in replicas)
    found.check("state roots are equal on correct replicas", equal and all(found.roots.values()))
    found.check("stable checkpoints are equal, too", equal and found.checkpoint > 0)


@contextlib.contextmanager
def _workplace(show: Show, *, keep: bool) -> Iterator[Path]:
    """A directory that is removed, and whose processes are ended, however the block ends; kept after a failure."""
    directory = Path(tempfile.mkdtemp(prefix="bft-demo-"))
    cluster = Cluster(directory / "demo")
    failed = True
    try:
        yield cluster.directory
        failed = False
    except KeyboardInterrupt:
        failed = False
        raise
    finally:
        cluster.stop()
        if failed or keep:
            show.line(f"files and logs are kept in {directory}")
        else:
            shutil.rmtree(directory)


def main(arguments: Sequence[str]) -> int:
    """Run the demo; 0 if all of it held."""
    parser = argparse.ArgumentParser(prog="python -m deploy.demo", description=__doc__.splitlines()[0])
    parser.add_argument("--callers", type=int, default=32, help="concurrent callers of the load")
    parser.add_argument("--seconds", type=float, default=8.0, help="load before the attack, and again after it")
    parser.add_argument("--keep", action="store_true", help="keep the cluster's files and logs")
    options = parser.parse_args(arguments)
    show = Show(Console(highlight=False, width=None if sys.stdout.isatty() else 120))
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))  # ends as Ctrl-C does
    try:
        with _workplace(show, keep=options.keep) as directory:
            found = asyncio.run(demo(Cluster(directory), show, callers=options.callers, seconds=options.seconds))
            if not found.verdict:
                raise DemoFailed("not everything held")
    except (DemoFailed, BftError) as error:
        show.failed(str(error))
        return 1
    except KeyboardInterrupt:
        show.failed("interrupted, nothing is left behind")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
