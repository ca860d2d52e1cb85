"""What a run is to do; every combination that makes no sense is refused in one line before anything is started."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.faults import Event, Fault, check
from bench.history import VALUE_BYTES_MIN
from bench.limits import NONE, Limits
from bench.links import Profile
from bench.rate import Rate
from bench.shared import KEYS as SHARED_KEYS
from bench.systems import OWN, PBFT, UNSIGNED, find
from bench.workloads import KEY_VALUE_SERVICE, KV_PUT, Mix, mix_of
from bench.workloads import find as find_workload
from bft.errors import ConfigurationError

BUNDLES_IN_FLIGHT_MAX: Final = 128  # of one client: its session's window
CALLERS_MAX: Final = 8192  # of one client: what the SDK lets under way


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """One run.  Raises ConfigurationError when it cannot be carried out."""

    system: str = PBFT  # what is measured; `bench.systems` knows the names
    replicas: int = 4
    cluster: Path | None = None  # an existing one that runs on this machine; None: a throw-away cluster
    clients: int = 4
    inflight: int = 16  # of each client: bundles under way, or, with automatic bundles, operations
    bundle: int | None = None  # operations a signed request; None: what the SDK gathers meanwhile
    value_size: int = 100
    workload: str = KV_PUT
    reads: float = 0.0  # share of the operations, with kv-put
    keys: int = 2000
    zipfian: bool | None = None  # some keys are asked for far more than others; None: as the workload says
    shared: float = 0.02  # share of the operations that go to a few keys which all callers write and read
    duration_s: float = 10.0
    warmup_s: float = 2.0
    durability: str = "fsync"
    rate: Rate | None = None  # open loop: operations a second of all clients; None: closed loop
    faults: tuple[Fault, ...] = ()  # of Byzantine replicas
    events: tuple[Event, ...] = ()  # that befall correct ones, and links
    network: Profile | None = None  # what each link between replicas adds; None: nothing
    limits: Limits = NONE  # of each replica
    workers: tuple[str, ...] = ()  # commands that start load generators elsewhere; none: they run here

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
        if self.reads and self.workload != KV_PUT:
            raise ConfigurationError(f"--workload {self.workload} says what is read: leave out --reads")
        if self.mix is None:
            find_workload(self.workload)
        if self.keys < self.callers:
            raise ConfigurationError(
                f"--keys must be at least {self.callers}, the callers: each writes only keys of its own"
            )
        if self.workers and (self.cluster is None or len(self.workers) > self.clients):
            raise ConfigurationError(
                "--worker needs --cluster, which other machines can reach, and at least as many --clients as workers"
            )
        if self.cluster is not None and self.limits:
            raise ConfigurationError("--cpus and --memory need a cluster of the run's own: leave out --cluster")
        if self.cluster is not None and (self.faults or self.events or self.network is not None):
            raise ConfigurationError(
                "--behaviour, --fault and --network need a cluster of the run's own: leave out --cluster"
            )
        if self.system != PBFT:
            self._check_system()
        check(self.faults, self.events, replicas=self.replicas, duration_s=self.duration_s)

    def _check_system(self) -> None:
        if self.cluster is not None or self.faults or self.events or self.network is not None:
            raise ConfigurationError(
                f"--system {self.system} takes no --cluster, --behaviour, --fault or --network: leave them out"
            )
        if self.system not in OWN:
            find(self.system)
            if self.mix is None:
                raise ConfigurationError(
                    f"--system {self.system} is a key-value store: it takes kv-put and ycsb-a to -f"
                )

    @property
    def mix(self) -> Mix | None:
        """What is asked of the key-value service; None: the workload has operations of its own."""
        return mix_of(self.workload, reads=self.reads)

    @property
    def service(self) -> str:
        """What a throw-away cluster is to run."""
        return KEY_VALUE_SERVICE if self.mix is not None else find_workload(self.workload).service

    @property
    def skewed(self) -> bool:
        """Whether some keys are asked for far more than others."""
        return self.workload.startswith("ycsb-") if self.zipfian is None else self.zipfian

    @property
    def all_shared(self) -> bool:
        """Whether all callers write the same keys: there the popular ones can be popular with all of them."""
        return self.skewed and self.mix is not None and not self.mix.inserts

    @property
    def shared_keys(self) -> int:
        return self.keys if self.all_shared else SHARED_KEYS

    @property
    def guarantees(self) -> bool:
        """Whether what is measured promises anything of what this project is for."""
        return self.system != UNSIGNED

    @property
    def callers_per_client(self) -> int:
        """Callers that each have one operation under way."""
        return self.inflight * (self.bundle or 1)

    @property
    def callers(self) -> int:
        return self.clients * self.callers_per_client

    @property
    def needs_proxies(self) -> bool:
        """Whether processes of ours stand between the replicas."""
        return self.network is not None or any(event.needs_proxies for event in self.events)

    @property
    def faulty(self) -> set[int]:
        """Replicas that misbehave at some time."""
        return {fault.replica for fault in self.faults}

    @property
    def undisturbed(self) -> list[int]:
        """Correct replicas that nothing befalls."""
        disturbed = {replica for event in self.events for replica in event.disturbed(self.replicas)}
        return [replica for replica in range(self.replicas) if replica not in self.faulty | disturbed]

    def document(self) -> dict[str, Any]:
        """For result.json."""
        return {
            "system": self.system,
            "guarantees": self.guarantees,
            "replicas": self.replicas,
            "own_cluster": self.cluster is None,
            "clients": self.clients,
            "inflight": self.inflight,
            "bundle": "auto" if self.bundle is None else self.bundle,
            "value_size": self.value_size,
            "workload": self.workload,
            "reads": self.reads,
            "keys": self.keys,
            "zipfian": self.skewed,
            "shared": self.shared,
            "duration_s": self.duration_s,
            "warmup_s": self.warmup_s,
            "durability": self.durability,
            "rate": None if self.rate is None else str(self.rate),
            "limits": self.limits.document(),
            "workers": list(self.workers),
            "network": None if self.network is None else str(self.network),
            "behaviours": [str(fault) for fault in self.faults],
            "faults": [str(event) for event in self.events],
        }
