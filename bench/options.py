"""What a run is to do; every combination that makes no sense is refused in one line before anything is started."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from bench.history import VALUE_BYTES_MIN
from bench.rate import Rate
from bft.errors import ConfigurationError

BUNDLES_IN_FLIGHT_MAX: Final = 128  # of one client: its session's window
CALLERS_MAX: Final = 8192  # of one client: what the SDK lets under way


@dataclass(frozen=True, slots=True)
class Fault:
    """A replica that misbehaves from some moment of the measurement on."""

    replica: int
    behaviour: str  # as bft.testing.byzantine reads it
    at_s: float | None  # after the beginning of the measurement; None: from its start on

    @classmethod
    def parse(cls, text: str) -> Self:
        """`0=equivocate_split@8s`.  Raises ConfigurationError."""
        number, equals, rest = text.partition("=")
        behaviour, at, moment = rest.rpartition("@") if "@" in rest else (rest, "", "")
        problem = f'"{text}" is no behaviour: write REPLICA=NAME or REPLICA=NAME@SECONDSs, as in 0=equivocate_split@8s'
        if not equals or not number.isdecimal() or not behaviour:
            raise ConfigurationError(problem)
        if not at:
            return cls(int(number), behaviour, None)
        try:
            at_s = float(moment.removesuffix("s"))
        except ValueError:
            raise ConfigurationError(problem) from None
        if not 0 <= at_s < float("inf"):
            raise ConfigurationError(problem)
        return cls(int(number), behaviour, at_s)

    def __str__(self) -> str:
        return f"{self.replica}={self.behaviour}" + ("" if self.at_s is None else f"@{self.at_s:g}s")

    @property
    def specification(self) -> str:
        """As `bft cluster up --behaviour` takes it."""
        return f"{self.replica}={self.behaviour}" + ("" if self.at_s is None else "@signal")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """One run.  Raises ConfigurationError when it cannot be carried out."""

    replicas: int = 4
    cluster: Path | None = None  # an existing one that runs on this machine; None: a throw-away cluster
    clients: int = 4
    inflight: int = 16  # of each client: bundles under way, or, with automatic bundles, operations
    bundle: int | None = None  # operations a signed request; None: what the SDK gathers meanwhile
    value_size: int = 100
    reads: float = 0.0  # share of the operations
    keys: int = 2000
    duration_s: float = 10.0
    warmup_s: float = 2.0
    durability: str = "fsync"
    rate: Rate | None = None  # open loop: operations a second of all clients; None: closed loop
    faults: tuple[Fault, ...] = ()

    def __post_init__(self) -> None:
        if self.value_size < VALUE_BYTES_MIN:
            raise ConfigurationError(
                f"--value-size must be at least {VALUE_BYTES_MIN}: a value names its writer and its number"
            )
        if self.bundle is not None and self.inflight > BUNDLES_IN_FLIGHT_MAX:
            raise ConfigurationError(
                f"--inflight is at most {BUNDLES_IN_FLIGHT_MAX} with --bundle {self.bundle}: use more --clients"
            )
        if self.callers_per_client > CALLERS_MAX:
            raise ConfigurationError(f"--inflight times --bundle is at most {CALLERS_MAX}: use more --clients")
        if self.keys < self.callers:
            raise ConfigurationError(
                f"--keys must be at least {self.callers}, the callers: each writes only keys of its own"
            )
        self._check_faults()

    def _check_faults(self) -> None:
        if self.faults and self.cluster is not None:
            raise ConfigurationError("--behaviour needs a cluster of the run's own: leave out --cluster")
        f = (self.replicas - 1) // 3
        if len({fault.replica for fault in self.faults}) != len(self.faults):
            raise ConfigurationError("--behaviour is given once for each replica: join behaviours as NAME+NAME")
        if len(self.faults) > f:
            raise ConfigurationError(f"--behaviour: {self.replicas} replicas withstand {f} faulty, not more")
        for fault in self.faults:
            if fault.replica >= self.replicas:
                raise ConfigurationError(f"--behaviour {fault}: the replicas are 0 to {self.replicas - 1}")
            if fault.at_s is not None and fault.at_s >= self.duration_s:
                raise ConfigurationError(f"--behaviour {fault} comes after the end of --duration {self.duration_s:g}")

    @property
    def callers_per_client(self) -> int:
        """Callers that each have one operation under way."""
        return self.inflight * (self.bundle or 1)

    @property
    def callers(self) -> int:
        return self.clients * self.callers_per_client

    def document(self) -> dict[str, Any]:
        """For result.json."""
        return {
            "replicas": self.replicas,
            "own_cluster": self.cluster is None,
            "clients": self.clients,
            "inflight": self.inflight,
            "bundle": "auto" if self.bundle is None else self.bundle,
            "value_size": self.value_size,
            "reads": self.reads,
            "keys": self.keys,
            "duration_s": self.duration_s,
            "warmup_s": self.warmup_s,
            "durability": self.durability,
            "rate": None if self.rate is None else str(self.rate),
            "behaviours": [str(fault) for fault in self.faults],
        }
