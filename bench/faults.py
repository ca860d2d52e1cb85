"""What goes wrong during a run, when, and how it is written on a command line or in a script.

0=equivocate_split@10s..20s     replica 0 misbehaves (`--behaviour`; without the end: from then on; without @: always)
crash:2@5s   crash:2@5s..8s     killed as by a power cut; started again at the end, if there is one
restart:2@5s                    stopped as by a service manager and started again
pause:1@3s..6s                  SIGSTOP, SIGCONT
partition:0|1,2,3@3s..6s        no replica of one part hears one of another
partition:0>1@3s..6s            only this direction
network:wan@3s..6s              another profile of the links between replicas, as `--network` takes it
"""

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from bench.links import Profile
from bft.errors import ConfigurationError, EnvironmentFailure
from bft.testing.byzantine import parse

KINDS: Final = ("crash", "restart", "pause", "partition", "network")
_LASTING: Final = ("pause", "partition", "network")  # these need an end
_FORM: Final = "write crash:2@5s, restart:2@5s, pause:1@3s..6s, partition:0|1,2,3@3s..6s or network:wan@3s..6s"


@dataclass(frozen=True, slots=True)
class Fault:
    """A replica that misbehaves during a part of the measurement."""

    replica: int
    behaviour: str  # as bft.testing.byzantine reads it
    at_s: float | None  # after the beginning of the measurement; None: from its start on
    until_s: float | None = None  # None: to the end

    @classmethod
    def parse(cls, text: str) -> Self:
        """`0=equivocate_split@8s..12s`.  Raises ConfigurationError."""
        number, equals, rest = text.partition("=")
        behaviour, at, moment = rest.rpartition("@") if "@" in rest else (rest, "", "")
        problem = (
            f'"{text}" is no behaviour: write REPLICA=NAME, REPLICA=NAME@8s or REPLICA=NAME@8s..12s, '
            "as in 0=equivocate_split@8s"
        )
        if not equals or not number.isdecimal() or not behaviour:
            raise ConfigurationError(problem)
        try:
            parse(behaviour)
        except ValueError as error:
            raise ConfigurationError(f"--behaviour: {error}") from error
        try:
            return cls(int(number), behaviour, *(_window(moment) if at else (None, None)))
        except ValueError:
            raise ConfigurationError(problem) from None

    def __str__(self) -> str:
        return f"{self.replica}={self.behaviour}{_written(self.at_s, self.until_s)}"

    @property
    def name(self) -> str:
        """In a picture."""
        return f"replica {self.replica}: {self.behaviour}"

    @property
    def specification(self) -> str:
        """As `bft cluster up --behaviour` takes it; the first signal begins it, the second ends it."""
        return f"{self.replica}={self.behaviour}" + ("" if self.at_s is None else "@signal")


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happens to correct replicas, or to the links between them."""

    kind: str
    target: str  # as written
    at_s: float
    until_s: float | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """`pause:1@3s..6s`.  Raises ConfigurationError."""
        kind, _, rest = text.partition(":")
        target, at, moment = rest.rpartition("@")
        problem = f'"{text}" is no fault: {_FORM}'
        if kind not in KINDS or not at or not target:
            raise ConfigurationError(problem)
        try:
            event = cls(kind, target, *_window(moment))
            event.disturbed(64)
        except ValueError:
            raise ConfigurationError(problem) from None
        if (event.until_s is None) == (kind in _LASTING) or (kind == "restart" and event.until_s is not None):
            wrong = "needs an end" if kind in _LASTING else "has no end"
            if kind != "crash":
                raise ConfigurationError(f'"{text}" {wrong}: {_FORM}')
        return event

    def __str__(self) -> str:
        return f"{self.kind}:{self.target}{_written(self.at_s, self.until_s)}"

    @property
    def name(self) -> str:
        """In a picture."""
        return f"{self.kind} {self.target}"

    @property
    def replica(self) -> int | None:
        """Whom it befalls; None: links."""
        return int(self.target) if self.kind in ("crash", "restart", "pause") else None

    @property
    def needs_proxies(self) -> bool:
        return self.kind in ("partition", "network")

    def cut(self, replicas: int) -> set[tuple[int, int]]:
        """The directed links (from, to) that a partition cuts.  Raises ValueError when it names none."""
        if ">" in self.target:
            sender, receiver = map(int, self.target.split(">"))
            return {(sender, receiver)}
        parts = [[int(number) for number in part.split(",")] for part in self.target.split("|")]
        parts.append([i for i in range(replicas) if not any(i in part for part in parts)])
        return {(a, b) for one in parts for other in parts if one is not other for a in one for b in other}

    def disturbed(self, replicas: int) -> set[int]:
        """Replicas that may fall behind through no fault of their own.  Raises ValueError for a senseless target."""
        if (replica := self.replica) is not None:
            return {replica}
        if self.kind == "network":
            Profile.parse(self.target)
            return set()
        cut = self.cut(replicas)
        if ">" in self.target:
            return {receiver for _, receiver in cut}
        reached = {i: replicas - sum((i, other) in cut for other in range(replicas)) for i in range(replicas)}
        quorum = (replicas + (replicas - 1) // 3 + 2) // 2
        return {i for i, size in reached.items() if size < quorum}


def read_script(path: Path) -> tuple[tuple[Fault, ...], tuple[Event, ...]]:
    """A TOML file of `behaviours = [...]` and `faults = [...]`.  Raises ConfigurationError or EnvironmentFailure."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise EnvironmentFailure(f"{path}: {error.strerror}: name a fault script with --script") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: not valid TOML: {' '.join(str(error).split())}") from error
    if unknown := document.keys() - {"behaviours", "faults"}:
        raise ConfigurationError(f'{path}: unknown key "{min(unknown)}"; a script has behaviours and faults')
    lists = [document.get("behaviours", []), document.get("faults", [])]
    if not all(isinstance(texts, list) and all(isinstance(text, str) for text in texts) for texts in lists):
        raise ConfigurationError(f'{path}: behaviours and faults are lists of texts, as in faults = ["crash:2@5s"]')
    return tuple(Fault.parse(text) for text in lists[0]), tuple(Event.parse(text) for text in lists[1])


def check(faults: Sequence[Fault], events: Sequence[Event], *, replicas: int, duration_s: float) -> None:
    """Whether a cluster of so many can be put through all that.  Raises ConfigurationError."""
    f = (replicas - 1) // 3
    if len({fault.replica for fault in faults}) != len(faults):
        raise ConfigurationError("--behaviour is given once for each replica: join behaviours as NAME+NAME")
    if len(faults) > f:
        raise ConfigurationError(f"--behaviour: {replicas} replicas withstand {f} faulty, not more")
    for fault in faults:
        if fault.replica >= replicas:
            raise ConfigurationError(f"--behaviour {fault}: the replicas are 0 to {replicas - 1}")
        _check_end(f"--behaviour {fault}", fault.at_s or 0.0, duration_s)
    faulty = {fault.replica for fault in faults}
    for event in events:
        named = {event.replica} if event.replica is not None else set()
        if event.kind == "partition":
            named = {replica for link in event.cut(replicas) for replica in link}
        if any(replica is not None and replica >= replicas for replica in named):
            raise ConfigurationError(f"--fault {event}: the replicas are 0 to {replicas - 1}")
        if event.replica in faulty:
            raise ConfigurationError(f"--fault {event}: replica {event.replica} misbehaves already, take another")
        _check_end(f"--fault {event}", event.at_s, duration_s)
    down = {event.replica for event in events if event.kind == "crash" and event.until_s is None}
    back = {event.replica for event in events if event.kind == "restart"}
    if len(faulty | (down - back)) > f:
        raise ConfigurationError(
            f"--fault: {replicas} replicas withstand {f} down or misbehaving: give crashes an end, crash:2@5s..8s"
        )


def stays_down(events: Iterable[Event]) -> set[int]:
    """Replicas that crash and are not started again."""
    down: set[int] = set()
    for event in sorted(events, key=lambda event: event.at_s):
        if event.replica is not None and event.kind == "crash" and event.until_s is None:
            down.add(event.replica)
        elif event.replica is not None and event.kind == "restart":
            down.discard(event.replica)
    return down


def _check_end(what: str, at_s: float, duration_s: float) -> None:
    if at_s >= duration_s:
        raise ConfigurationError(f"{what} comes after the end of --duration {duration_s:g}")


def _window(text: str) -> tuple[float, float | None]:
    """`8s` or `8s..12s`.  Raises ValueError."""
    first, dots, last = text.partition("..")
    at_s, until_s = _seconds(first), _seconds(last) if dots else None
    if until_s is not None and until_s <= at_s:
        raise ValueError(text)
    return at_s, until_s


def _seconds(text: str) -> float:
    seconds = float(text.removesuffix("s"))
    if not 0 <= seconds < float("inf"):
        raise ValueError(text)
    return seconds


def _written(at_s: float | None, until_s: float | None) -> str:
    if at_s is None:
        return ""
    return f"@{at_s:g}s" + ("" if until_s is None else f"..{until_s:g}s")
