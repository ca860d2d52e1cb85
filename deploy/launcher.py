"""Replica processes of this machine: started detached, recognised again later, stopped.

A pid alone says little: after a crash or a reboot another process may have it.  The pid file therefore also holds the
process's start time, and a process is taken for the replica only if it started then and its command line names the
replica's directory.  Nothing else is ever signalled.
"""

import contextlib
import fcntl
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

PID_FILE: Final = "replica.pid"
LOG_FILE: Final = "replica.log"
REPLICA_MODULE: Final = "bft.node"
# In the shell of a user BFT_CLUSTER says which cluster clients mean; a replica would take it for a setting of its own.
_NOT_INHERITED: Final = "BFT_CLUSTER"
_POLL_S: Final = 0.02
_RECOGNISED_S: Final = 5.0
_INTERRUPTS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_TAIL_BYTES: Final = 64 * 1024


class ReplicaProcess(NamedTuple):
    """A process as the pid file names it."""

    pid: int
    started: int  # clock ticks between boot and the start of the process


@dataclass(frozen=True, slots=True)
class Launch:
    """What `start` did."""

    process: ReplicaProcess
    already_running: bool
    log_offset: int  # where in the log this process began to write


def start(
    directory: Path,
    module: str = REPLICA_MODULE,
    arguments: Sequence[str] = (),
    settings: Mapping[str, str] | None = None,
) -> Launch:
    """Run the replica in `directory` as a detached process, unless it runs.  Raises OSError.

    The process has its own session, no terminal, and appends its output to replica.log; `module` is started with the
    directory and `arguments`, and with `settings` in its environment beside what this process has.
    """
    directory = directory.resolve()
    log = directory / LOG_FILE
    with _locked_pid_file(directory) as descriptor:
        known = _parse(os.pread(descriptor, 64, 0))
        if known is not None and is_replica(known, directory):
            return Launch(known, already_running=True, log_offset=_size(log))
        offset = _size(log)
        # An interrupt between the start and the entry in the pid file would leave a process that nobody knows of.
        signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTS)
        try:
            process = _spawn(directory, log, module, arguments, settings or {})
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{process.pid} {process.started}\n".encode(), 0)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _INTERRUPTS)
    return Launch(process, already_running=False, log_offset=offset)


def replica_environment() -> dict[str, str]:
    """The environment that `start` gives to a replica."""
    return {name: value for name, value in os.environ.items() if name != _NOT_INHERITED}


def find(directory: Path) -> ReplicaProcess | None:
    """The running process that `start` made for this directory, if there is one."""
    directory = directory.resolve()
    try:
        known = _parse((directory / PID_FILE).read_bytes())
    except OSError:
        return None
    return known if known is not None and is_replica(known, directory) else None


def is_replica(process: ReplicaProcess, directory: Path) -> bool:
    """Whether this very process lives and runs the replica of `directory` (an absolute path)."""
    stat = _stat(process.pid)
    if stat is None or not stat.alive or stat.started != process.started:
        return False
    try:
        arguments = Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return os.fsencode(directory) in arguments


def exit_code(process: ReplicaProcess) -> int | None:
    """The exit code of a process that `start` made in this very process and that has ended; else None."""
    try:
        pid, status = os.waitpid(process.pid, os.WNOHANG)
    except ChildProcessError:
        return None
    return os.waitstatus_to_exitcode(status) if pid else None


def stop(directories: Sequence[Path], *, grace_s: float = 10.0) -> dict[Path, bool]:
    """Stop the replicas of these directories together: SIGTERM, after the grace period SIGKILL.

    Returns, for each that was running, whether it had to be killed.
    """
    running = {directory: process for directory in directories if (process := find(directory)) is not None}
    for directory, process in running.items():
        _signal(process, directory, signal.SIGTERM)
    killed = dict.fromkeys(running, False)
    deadline = time.monotonic() + grace_s
    while alive := [directory for directory, process in running.items() if _lives(process, directory)]:
        if time.monotonic() > deadline:
            for directory in alive:
                killed[directory] = True
                _signal(running[directory], directory, signal.SIGKILL)
        time.sleep(_POLL_S)
    for directory in running:
        (directory / PID_FILE).unlink(missing_ok=True)
    return killed


def tail(log: Path, lines: int, *, since: int = 0) -> list[str]:
    """The last lines of a log, as far as they were written after byte `since`."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(since, size - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return text.splitlines()[-lines:] if lines else []


# --- the operating system's view


def _spawn(
    directory: Path, log: Path, module: str, arguments: Sequence[str], settings: Mapping[str, str]
) -> ReplicaProcess:
    pid = os.posix_spawn(
        sys.executable,
        [sys.executable, "-m", module, str(directory), *arguments],
        {**replica_environment(), **settings},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
        setsigmask=[],
    )
    return _recognisable(pid, directory)


def _recognisable(pid: int, directory: Path) -> ReplicaProcess:
    """The new process, once `is_replica` knows it: the system shows its command line a moment after the start."""
    stat = _stat(pid)
    process = ReplicaProcess(pid, stat.started if stat else 0)
    deadline = time.monotonic() + _RECOGNISED_S
    while not is_replica(process, directory) and time.monotonic() < deadline:
        stat = _stat(pid)
        if stat is None or not stat.alive:
            break
        time.sleep(0.001)
    return process


class _Stat(NamedTuple):
    alive: bool
    started: int


def _stat(pid: int) -> _Stat | None:
    """State and start time of a process; proc(5)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the name before it may hold anything, blanks and parentheses too
    return _Stat(alive=fields[0] not in "ZXx", started=int(fields[19]))


def _lives(process: ReplicaProcess, directory: Path) -> bool:
    exit_code(process)  # collects our own child, which would stay a zombie
    return is_replica(process, directory.resolve())


def _signal(process: ReplicaProcess, directory: Path, number: signal.Signals) -> None:
    if is_replica(process, directory.resolve()):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)


def _parse(text: bytes) -> ReplicaProcess | None:
    parts = text.split()
    if len(parts) != 2 or not all(part.isdigit() for part in parts):
        return None
    return ReplicaProcess(int(parts[0]), int(parts[1]))


@contextlib.contextmanager
def _locked_pid_file(directory: Path) -> Iterator[int]:
    """The pid file, held so that two launchers do not start one replica twice."""
    descriptor = os.open(directory / PID_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def _size(log: Path) -> int:
    try:
        return log.stat().st_size
    except OSError:
        return 0
