"""The cluster under test: the `bft` command, the replicas' status, and what the kernel counts of their processes."""

import asyncio
import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from bench.limits import Groups
from bench.workloads import KEY_VALUE_SERVICE
from bft.config import ClusterConfig, load_cluster
from bft.errors import BftError, EnvironmentFailure, ExitCode
from deploy import launcher
from deploy.ports import free_base_port

_UNSIGNED_MODULE: Final = "bft.testing.run_unsigned"
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_STATUS_TIMEOUT_S: Final = 5.0
_GRACE_S: Final = 5.0
_GONE_S: Final = 0.01


class CommandFailed(BftError):
    """A `bft` command failed; the text is its own."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.exit_code = ExitCode(code) if code in set(ExitCode) else ExitCode.FAILED


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process used so far."""

    cpu_s: float
    rss_bytes: int


@dataclass(frozen=True, slots=True)
class ViewEvent:
    """A line of a replica's log."""

    at_s: float  # seconds since the epoch
    replica: int
    view: int
    entered: bool  # False: the replica left for it


class Cluster:
    """A cluster on this machine."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.config: ClusterConfig = load_cluster(directory)
        self.groups: Groups | None = None  # that limit the replicas
        self._log_offsets = {replica: _size(self._log(replica)) for replica in self.replicas}

    @property
    def replicas(self) -> range:
        return range(len(self.config.replicas))

    def home(self, replica: int) -> Path:
        return self.directory / f"replica-{replica}"

    def pid(self, replica: int) -> int:
        """Raises EnvironmentFailure when the replica does not run here."""
        process = launcher.find(self.home(replica))
        if process is None:
            raise EnvironmentFailure(
                f"replica {replica} does not run on this machine: start it with `bft cluster up {self.directory}`"
            )
        return process.pid

    def usage(self, replica: int) -> Usage | None:
        """None when the replica does not run."""
        process = launcher.find(self.home(replica))
        return None if process is None else usage_of(process.pid)

    def status(self, replica: int) -> dict[str, Any] | None:
        """What the replica says of itself; None when it does not answer."""
        return self._get(replica, "/status")

    def phases(self, replica: int) -> dict[str, Any] | None:
        """When its latest batches passed each phase; None when it does not answer."""
        return self._get(replica, "/phases")

    def _get(self, replica: int, path: str) -> dict[str, Any] | None:
        address = self.config.replicas[replica].admin
        connection = http.client.HTTPConnection(address.host, address.port, timeout=_STATUS_TIMEOUT_S)
        try:
            connection.request("GET", path)
            document: dict[str, Any] = json.loads(connection.getresponse().read())
        except (OSError, http.client.HTTPException, ValueError):
            return None
        finally:
            connection.close()
        return document

    async def statuses(self, replicas: Sequence[int]) -> dict[int, dict[str, Any] | None]:
        """Of several at once."""
        answers = await asyncio.gather(*(asyncio.to_thread(self.status, replica) for replica in replicas))
        return dict(zip(replicas, answers, strict=True))

    def misbehave(self, replica: int) -> None:
        """Let a replica that was started with `@signal` begin, or end."""
        os.kill(self.pid(replica), signal.SIGUSR1)

    def pause(self, replica: int) -> None:
        os.kill(self.pid(replica), signal.SIGSTOP)

    def resume(self, replica: int) -> None:
        os.kill(self.pid(replica), signal.SIGCONT)

    async def crash(self, replica: int) -> None:
        """Kill it as a power cut does; returns when it is gone."""
        process = self.pid(replica)
        os.kill(process, signal.SIGKILL)
        while launcher.find(self.home(replica)) is not None:  # noqa: ASYNC110 - the system tells no other way
            await asyncio.sleep(_GONE_S)

    async def stop(self, replica: int) -> None:
        """Stop it in an orderly way, if it runs."""
        await asyncio.to_thread(launcher.stop, [self.home(replica)], grace_s=_GRACE_S)

    async def start(self, replica: int, *, durability: str) -> None:
        """Start it again; returns when it answers.  Raises CommandFailed."""
        await bft("cluster", "up", self.directory, "--replica", str(replica), durability=durability)
        if self.groups is not None:
            self.groups.confine(replica, self.pid(replica))

    def view_events(self) -> list[ViewEvent]:
        """Views left and entered since this object was made, from the replicas' logs, oldest first."""
        events = []
        for replica in self.replicas:
            try:
                with self._log(replica).open("rb") as file:
                    file.seek(self._log_offsets[replica])
                    lines = file.read().splitlines()
            except OSError:
                continue
            events += [event for line in lines if (event := _view_event(replica, line)) is not None]
        return sorted(events, key=lambda event: event.at_s)

    def last_words(self) -> list[str]:
        """The end of every log, for a run that could not be carried out."""
        return [f"{i} | {line}" for i in self.replicas for line in launcher.tail(self._log(i), 5)]

    def _log(self, replica: int) -> Path:
        return self.home(replica) / launcher.LOG_FILE


async def bft(*arguments: str | Path, durability: str | None = None) -> None:
    """Carry out a command line in a process of its own.  Raises CommandFailed."""
    environment = launcher.replica_environment() | ({} if durability is None else {"BFT_DURABILITY": durability})
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "bft.cli.main", *map(str, arguments)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
        start_new_session=True,  # Ctrl-C is for us to handle
    )
    try:
        _, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    if process.returncode:
        lines = err.decode(errors="replace").splitlines() or ["it said nothing"]
        raise CommandFailed(lines[-1].removeprefix("error: "), process.returncode)


@contextlib.contextmanager
def workplace(replicas: int) -> Iterator[Path]:
    """A directory that goes, and whose replicas end, however the block ends; DIR/cluster is for the cluster."""
    directory = Path(tempfile.mkdtemp(prefix="bft-bench-"))
    try:
        yield directory
    finally:
        cluster = directory / "cluster"
        if cluster.is_dir():
            launcher.stop([cluster / f"replica-{replica}" for replica in range(replicas)], grace_s=_GRACE_S)
        shutil.rmtree(directory, ignore_errors=True)


async def initialise(directory: Path, replicas: int, service: str = KEY_VALUE_SERVICE) -> None:
    """Make a cluster's files.  Raises CommandFailed or OSError."""
    options = {"replicas": replicas, "base-port": free_base_port(replicas), "service": service}
    await bft("cluster", "init", directory, *(part for k, v in options.items() for part in (f"--{k}", str(v))))


async def start(directory: Path, *, behaviours: Sequence[str], durability: str, signed: bool = True) -> Cluster:
    """Start all replicas.  Raises CommandFailed or OSError.

    Not `signed`: replicas that verify nothing, each by an entry point of its own, which no configuration reaches.
    """
    if not signed:
        for replica in range(len(load_cluster(directory).replicas)):
            home = directory / f"replica-{replica}"
            launcher.start(home, _UNSIGNED_MODULE, settings={"BFT_DURABILITY": durability})
    options = [part for behaviour in behaviours for part in ("--behaviour", behaviour)]
    await bft("cluster", "up", directory, *options, durability=durability)
    return Cluster(directory)


def usage_of(pid: int) -> Usage | None:
    """proc(5): user and system time of all threads, resident memory."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return Usage((int(fields[11]) + int(fields[12])) / _TICKS, int(fields[21]) * _PAGE)


def machine_busy_s() -> float:
    """CPU seconds that all processes of this machine used since it booted; proc(5), without idle and steal."""
    user, nice, system, _idle, _iowait, irq, softirq, *_ = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    return sum(map(int, (user, nice, system, irq, softirq))) / _TICKS


_VIEW_EVENTS: Final = {"view change started": False, "view entered": True}


def _view_event(replica: int, line: bytes) -> ViewEvent | None:
    if not re.search(rb'"event": ?"view', line):
        return None
    try:
        entry = json.loads(line)
        at_s = datetime.fromisoformat(entry["timestamp"]).timestamp()
        return ViewEvent(at_s, replica, entry["view"], _VIEW_EVENTS[entry["event"]])
    except (ValueError, KeyError, TypeError):
        return None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
