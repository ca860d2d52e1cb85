"""`bft cluster up`: starts the replicas whose files are here and waits until they answer."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from bft.cli.home import Home
from bft.cli.observe import Observation, observe
from bft.config import load_replica
from bft.core.quorum import Quorums
from bft.errors import BftError, ConfigurationError, EnvironmentFailure, ExitCode
from deploy import launcher

BYZANTINE_MODULE: Final = "bft.testing.run_byzantine"  # by name only: no product module imports it
_POLL_S: Final = 0.1
_TAIL_LINES: Final = 12


class ReplicaStopped(BftError):
    """A replica ended while the cluster was brought up; carries its own exit code, and the tail of its log."""

    def __init__(self, text: str, *, code: int | None, log_tail: Sequence[str]) -> None:
        super().__init__(text)
        self.log_tail = log_tail
        try:
            self.exit_code = ExitCode(code) if code else ExitCode.FAILED
        except ValueError:
            self.exit_code = ExitCode.FAILED


class NotReady(BftError):
    """Replicas run, but the cluster does not answer in time."""

    exit_code = ExitCode.UNAVAILABLE

    def __init__(self, text: str, *, log_tail: Sequence[str]) -> None:
        super().__init__(text)
        self.log_tail = log_tail


def bring_up(
    home: Home,
    replicas: Sequence[int],
    *,
    behaviours: Mapping[int, str],
    timeout_s: float,
    report: Callable[[str], None],
) -> None:
    """Start these replicas, but for those that run, and wait until they answer and are linked.

    Raises ConfigurationError, EnvironmentFailure, ReplicaStopped or NotReady.
    """
    for replica in replicas:
        load_replica(
            home.replica(replica), launcher.replica_environment()
        )  # a wrong setting is told before anything is started
    launches = {}
    for replica in replicas:
        launches[replica] = launch = _start(home.replica(replica), behaviours.get(replica))
        state = "runs already" if launch.already_running else "started"
        report(f"replica {replica} {state}, pid {launch.process.pid}")
    alone = len(replicas) < len(home.config.replicas)
    deadline = time.monotonic() + timeout_s
    while True:
        for replica, launch in launches.items():
            _check_alive(home, replica, launch)
        waiting = _waiting(observe(home, replicas), 0 if alone else Quorums.of(len(home.config.replicas)).quorum - 1)
        if not waiting:
            return
        if time.monotonic() > deadline:
            replica, why = next(iter(waiting.items()))
            raise NotReady(
                f"replica {replica} is not ready after {timeout_s:g} s: {why}; its log is "
                f"{home.replica(replica) / launcher.LOG_FILE}, `bft doctor {home.directory}` says more",
                log_tail=_tail(home, replica, launches[replica]),
            )
        time.sleep(_POLL_S)


def _start(directory: Path, behaviour: str | None) -> launcher.Launch:
    if behaviour is None:
        return launcher.start(directory)
    if launcher.find(directory) is not None:
        raise EnvironmentFailure(f"{directory} runs already: stop it before it is started with a behaviour")
    return launcher.start(directory, BYZANTINE_MODULE, ("--behaviour", behaviour))


def _check_alive(home: Home, replica: int, launch: launcher.Launch) -> None:
    directory = home.replica(replica).resolve()
    if launcher.is_replica(launch.process, directory):
        return
    code = launcher.exit_code(launch.process)
    lines = _tail(home, replica, launch)
    raise ReplicaStopped(
        f"replica {replica} stopped: {last_words(lines) or 'it left no message'}", code=code, log_tail=lines
    )


def _waiting(observations: Sequence[Observation], links_needed: int) -> dict[int, str]:
    """The replicas that are not ready, each with the reason."""
    waiting = {}
    for o in observations:
        if not o.reachable:
            waiting[o.id] = f"no answer at {o.admin}: {o.trouble}"
            continue
        peers = o.get("peers") or []
        if sum(peer["connected"] for peer in peers) < links_needed:
            missing = [
                f"{peer['id']} ({peer['trouble'] or 'not linked back'})" for peer in peers if not peer["connected"]
            ]
            waiting[o.id] = f"not linked with replica {', '.join(missing)}"
    return waiting


def _tail(home: Home, replica: int, launch: launcher.Launch) -> list[str]:
    return launcher.tail(home.replica(replica) / launcher.LOG_FILE, _TAIL_LINES, since=launch.log_offset)


def last_words(lines: Sequence[str]) -> str:
    """Why a replica stopped, from its log: its own error line, else what its last line says; empty if there is none."""
    for line in reversed(lines):
        if line.startswith("error: "):
            return line.removeprefix("error: ")
    if not lines:
        return ""
    try:
        entry = json.loads(lines[-1])
    except ValueError:
        entry = None
    if not isinstance(entry, dict) or "event" not in entry:
        return lines[-1].strip()
    exception = str(entry.get("exception", "")).strip().rpartition("\n")[2]
    return f"{entry['event']}: {exception}" if exception else str(entry["event"])


def parse_behaviours(texts: Sequence[str], replicas: Sequence[int]) -> dict[int, str]:
    """`0=equivocate_split@signal` as {0: "equivocate_split@signal"}.  Raises ConfigurationError."""
    behaviours = {}
    for text in texts:
        number, equals, behaviour = text.partition("=")
        if not equals or not number.isdecimal() or not behaviour:
            raise ConfigurationError(f'"{text}" is no behaviour: write it as REPLICA=NAME')
        if int(number) not in replicas:
            raise ConfigurationError(f'"{text}": replica {number} is not among those that are started')
        behaviours[int(number)] = behaviour
    return behaviours
