"""`kill -9` at random moments under load, and disks that fail: nothing is lost, no vote is contradicted."""

import asyncio
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest

from bft.client import Client, connect
from bft.codec import Limits
from bft.config import load_cluster
from bft.core.effects import Accepted, CheckpointTaken, Prepared
from bft.core.messages import Commit, Statement
from bft.errors import ExitCode
from bft.storage import segments
from bft.storage.logfile import PAGE, Identity, entries_of, read_content
from bft.storage.records import decode_record
from deploy import launcher
from tests.e2e.harness import ENVIRONMENT, ROOT, Cluster, load, read_back, wait_until
from tests.e2e.recording_replica import FRAMES, contradictions, statements

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e")]
RECORDER = "tests.e2e.recording_replica"
ROUNDS = int(os.environ.get("CRASH_ROUNDS", "50"))
STRACE = shutil.which("strace")


@pytest.fixture
def recorded(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """A running cluster each of whose replicas keeps what its peers sent it."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    start(cluster, range(cluster.n))
    wait_until(lambda: cluster.status()["progress"])
    return cluster


def start(cluster: Cluster, replicas: Sequence[int]) -> None:
    for replica in replicas:
        launcher.start(cluster.replica(replica), RECORDER)


def kill_at_once(cluster: Cluster, replicas: Sequence[int]) -> None:
    for pid in [cluster.pid(replica) for replica in replicas]:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not any(launcher.find(cluster.replica(replica)) for replica in replicas))


def limits_of(cluster: Cluster) -> Limits:
    return Limits.of(load_cluster(cluster.directory).parameters)


def said(cluster: Cluster) -> list[Statement]:
    """Everything that any replica was told by another."""
    limits = limits_of(cluster)
    return [
        statement for replica in range(cluster.n) for statement in statements(cluster.replica(replica) / FRAMES, limits)
    ]


async def crash_again_and_again(cluster: Cluster, rounds: int, seed: int) -> None:
    chance = random.Random(seed)
    kinds = {"one": 1, "f+1": 2, "all": cluster.n}
    took: dict[str, list[float]] = {kind: [] for kind in kinds}
    async with connect(cluster.directory, timeout=100.0) as client, load(client) as work:
        for number in range(rounds):
            kind = list(kinds)[number % len(kinds)]
            victims = chance.sample(range(cluster.n), kinds[kind])
            await work.grows(by=1)
            await asyncio.sleep(chance.uniform(0.0, 1.0))
            await asyncio.to_thread(kill_at_once, cluster, victims)
            acknowledged = dict(work.done)
            await asyncio.sleep(chance.choice((0.0, 0.5)))
            await asyncio.to_thread(start, cluster, victims)
            began = time.monotonic()
            await work.grows(by=len(work.done) - len(acknowledged) + 1)
            took[kind].append(time.monotonic() - began)
            held = await read_back(client)
            assert {key: held.get(key) for key in acknowledged} == acknowledged, f"round {number}: killed {victims}"
    statements_made = said(cluster)
    assert contradictions(statements_made) == []
    assert not any(replica.get("evidence") for replica in cluster.status()["replicas"])
    for kind, seconds in took.items():
        if seconds:
            median = sorted(seconds)[len(seconds) // 2]
            sys.stderr.write(
                f"killed {kind}: {len(seconds)} times, serving after {median:.1f} s, {max(seconds):.1f} at most\n"
            )
    sys.stderr.write(f"{len(work.done)} writes acknowledged, {len(statements_made)} statements received\n")


@pytest.mark.timeout(240)
async def test_no_acknowledged_write_is_lost_and_no_vote_contradicted_by_kills_at_random_moments(recorded):
    await crash_again_and_again(recorded, rounds=3, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(120 + 30 * ROUNDS)
async def test_many_rounds_of_kills_at_random_moments(recorded):
    """`make crash ROUNDS=50`."""
    await crash_again_and_again(recorded, rounds=ROUNDS, seed=random.SystemRandom().randrange(1 << 32))


def test_the_check_for_contradictions_finds_one() -> None:
    votes = [Commit(view, 7, digest, replica) for view, digest, replica in ((0, b"a", 1), (1, b"b", 1), (0, b"b", 2))]
    assert contradictions(votes) == []
    assert contradictions([*votes, Commit(0, 7, b"b", 1)]) == [(votes[0], Commit(0, 7, b"b", 1))]


# --- a disk that fails


@contextlib.contextmanager
def process_of(command: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def ended(process: subprocess.Popen[str]) -> tuple[int, list[str]]:
    _, said_by_it = process.communicate(timeout=100)
    return process.returncode, [line for line in said_by_it.splitlines() if line.startswith("error: ")]


def statements_of_last_group(data: Path, cluster: Cluster, replica: int) -> list[Statement]:
    """What the replica decided to say in the last group of records that it wrote; nothing if that is a seal."""
    identity = Identity(load_cluster(cluster.directory).cluster, replica)
    files = [(path.read_bytes(), path) for _, path in segments.numbered(data, segments.SEGMENT)]
    contents = [(content, whole) for whole, path in files if (content := read_content(whole, path, identity)).groups]
    content, whole = contents[-1]
    last = [position for position in content.positions if position.offset > content.last]
    found: list[Statement] = []
    for entry in entries_of(whole, last):
        match decode_record(entry, limits_of(cluster)):
            case Accepted(proposal, prepare):
                found += [statement.message for statement in (proposal.header, prepare) if statement is not None]
            case Prepared(_, commit):
                found.append(commit.message)
            case CheckpointTaken(checkpoint):
                found.append(checkpoint.message)
    return [statement for statement in found if statement.replica == replica]


@pytest.mark.skipif(STRACE is None, reason="strace is not installed: no system call can be made to fail")
async def test_a_replica_whose_fsync_fails_stops_at_once_and_says_nothing_of_what_failed(recorded: Cluster) -> None:
    """Its last group is in the file, for only the sync failed; what it decided there never reached a peer."""
    victim = 0
    home = recorded.replica(victim)
    unsaid: list[Statement] = []
    heard: set[Statement] = set()
    async with connect(recorded.directory, timeout=100.0) as client, load(client) as work, busy(client):
        for number in range(60, 70):  # until it is not a seal that fails
            await asyncio.to_thread(kill_at_once, recorded, [victim])
            trace = recorded.directory / "trace"
            inject = ("-e", "trace=fdatasync", "-e", f"inject=fdatasync:error=EIO:when={number}+")
            command = [str(STRACE), "-f", "-D", "-o", str(trace), *inject, sys.executable, "-m", RECORDER, str(home)]
            with process_of(command) as process:
                code, lines = await asyncio.to_thread(ended, process)
            assert (code, len(lines)) == (ExitCode.STORAGE, 1)
            assert "Input/output error" in lines[0]
            assert "the replica stops" in lines[0]
            assert "(INJECTED)" in trace.read_text()
            await work.grows(by=50)  # the cluster goes on
            unsaid = statements_of_last_group(home / "data", recorded, victim)
            heard = set(said(recorded))
            start(recorded, [victim])
            await work.grows(by=50)
            if unsaid:
                break
    assert unsaid
    assert heard.isdisjoint(unsaid)
    await asyncio.to_thread(wait_until, lambda: caught_up(recorded, victim))
    assert contradictions(said(recorded)) == []


@contextlib.asynccontextmanager
async def busy(client: Client) -> AsyncIterator[None]:
    """So many writes at a time that the log is hardly ever idle."""

    async def write(number: int) -> None:
        while not done.is_set():
            await client.put(b"busy/%d" % number, b"")

    done = asyncio.Event()
    async with asyncio.TaskGroup() as writers:
        for number in range(40):
            writers.create_task(write(number))
        try:
            yield
        finally:
            done.set()


@pytest.fixture
def small_disk(cluster: Cluster) -> Iterator[Path]:
    """The data directory of replica 3 on a file system of its own."""
    data = cluster.replica(3) / "data"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "none", data], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"mount is not allowed here: {mounted.stderr.decode().strip()}")
    (data / "GENESIS").touch()
    yield data
    launcher.stop([cluster.replica(3)], grace_s=5.0)
    subprocess.run(["umount", data], check=True)


async def test_a_replica_whose_disk_is_full_stops_and_starts_clean_when_there_is_room(
    small_disk: Path, recorded: Cluster
) -> None:
    kill_at_once(recorded, [3])
    async with connect(recorded.directory, timeout=100.0) as client, load(client) as work:
        with process_of([sys.executable, "-m", RECORDER, str(recorded.replica(3))]) as process:
            await asyncio.to_thread(wait_until, lambda: recorded.status()["replicas"][3]["reachable"])
            filler = small_disk / "filler"
            with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while True:
                    file.write(bytes(4096))
            stopping = asyncio.ensure_future(asyncio.to_thread(ended, process))
            while not stopping.done():
                await client.put(b"large", bytes(100_000))
            code, lines = await stopping
        assert (code, len(lines)) == (ExitCode.STORAGE, 1)
        assert "No space left on device" in lines[0]
        await work.grows(by=50)  # the cluster goes on
        filler.unlink()
        start(recorded, [3])
        await work.grows(by=50)
    await asyncio.to_thread(wait_until, lambda: caught_up(recorded, 3))
    assert contradictions(said(recorded)) == []


def caught_up(cluster: Cluster, replica: int) -> bool:
    replicas = cluster.status()["replicas"]
    executed = [each.get("last_executed") for each in replicas]
    return executed[replica] is not None and executed[replica] == max(filter(None, executed))


# --- a damaged disk


async def test_a_replica_with_a_damaged_log_refuses_to_start_is_repaired_and_takes_part_again(
    recorded: Cluster,
) -> None:
    victim = 2
    home = recorded.replica(victim)
    async with connect(recorded.directory, timeout=100.0) as client, load(client) as work:
        await work.grows(by=50)
        await asyncio.to_thread(kill_at_once, recorded, [victim])
        segment = home / "data" / "log-0000000001"
        with segment.open("r+b") as file:
            file.seek(PAGE)
            file.write(b"\xff")
        with process_of([sys.executable, "-m", RECORDER, str(home)]) as process:
            code, lines = await asyncio.to_thread(ended, process)
        assert (code, len(lines)) == (ExitCode.DATA_DIRECTORY, 1)
        assert f"{segment}: damaged at byte {PAGE}" in lines[0]
        said_by_repair = await asyncio.to_thread(recorded.bft, "replica", "repair", home)
        assert f"log: damaged: {segment}" in said_by_repair
        await asyncio.to_thread(start, recorded, [victim])
        await work.grows(by=200)
    await asyncio.to_thread(wait_until, lambda: caught_up(recorded, victim))
    assert contradictions(said(recorded)) == []
