"""`replica.toml`: what one replica keeps to itself.  Relative paths start at the file's directory.

    id = 0
    cluster = "cluster.toml"
    certificate = "replica.crt"
    key = "replica.key"
    data = "data"
    listen_peer = "0.0.0.0:7100"       # default: the address that cluster.toml advertises; likewise
    listen_client = "0.0.0.0:7200"
    listen_admin = "127.0.0.1:7300"
    durability = "fsync"               # "os": survives a crash of the process only; "memory": survives nothing
    verify_threads = "auto"            # threads that verify signatures; 0: none but the main one
    log_level = "info"                 # debug, info, warning, error

Each key but `cluster` (BFT_CLUSTER names the cluster that the commands of clients mean) can be overridden by an
environment variable: BFT_ and the key in capitals, as in BFT_LISTEN_PEER. Other variables with that prefix are not ours
to judge (Kubernetes makes some for every service) and are left alone.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Self

import tomli_w

from bft.config.addresses import Address
from bft.config.cluster import ClusterConfig, ReplicaEntry
from bft.config.table import Table, read_toml

FILE_NAME: Final = "replica.toml"
LOG_LEVELS: Final = ("debug", "info", "warning", "error")
_PREFIX: Final = "BFT_"
_KEYS: Final = (
    "id",
    "cluster",
    "certificate",
    "key",
    "data",
    "genesis",
    "listen_peer",
    "listen_client",
    "listen_admin",
    "durability",
    "verify_threads",
    "log_level",
)


class Durability(StrEnum):
    """What an acknowledged operation survives."""

    FSYNC = "fsync"  # power loss of all replicas at once
    OS = "os"  # a crash of the process; not of the machine
    MEMORY = "memory"  # nothing: for tests and measurements


@dataclass(frozen=True, slots=True)
class ReplicaConfig:
    """One replica's own settings, together with its cluster's."""

    id: int
    cluster: ClusterConfig
    certificate: Path
    key: Path
    data: Path
    listen_peer: Address
    listen_client: Address
    listen_admin: Address
    genesis: Path  # the restored state, if cluster.toml names its root
    durability: Durability = Durability.FSYNC
    verify_threads: int | None = None  # None: as many as this machine has cores to spare
    log_level: str = "info"

    @property
    def entry(self) -> ReplicaEntry:
        """What the cluster knows of this replica."""
        return self.cluster.replicas[self.id]

    @classmethod
    def load(cls, path: Path, environment: Mapping[str, str] | None = None) -> Self:
        """Read the file `path` and the cluster file it names.  Raises ConfigurationError or EnvironmentFailure."""
        variables = os.environ if environment is None else environment
        overrides = {
            key: (f"environment variable {_PREFIX}{key.upper()}", variables[_PREFIX + key.upper()])
            for key in _KEYS
            if key != "cluster" and _PREFIX + key.upper() in variables
        }
        table = Table(read_toml(path), str(path), _KEYS, overrides)
        base = path.parent
        cluster = ClusterConfig.load(table.path("cluster", base, "cluster.toml"))
        replica_id = table.integer("id")
        if replica_id >= len(cluster.replicas):
            raise table.fail("id", f"is {replica_id}, but the cluster has replicas 0 to {len(cluster.replicas) - 1}")
        entry = cluster.replicas[replica_id]
        return cls(
            id=replica_id,
            cluster=cluster,
            certificate=table.path("certificate", base, "replica.crt"),
            key=table.path("key", base, "replica.key"),
            data=table.path("data", base, "data"),
            genesis=table.path("genesis", base, "genesis"),
            listen_peer=table.address("listen_peer", entry.peer),
            listen_client=table.address("listen_client", entry.client),
            listen_admin=table.address("listen_admin", entry.admin),
            durability=Durability(table.choice("durability", tuple(Durability), Durability.FSYNC)),
            verify_threads=_verify_threads(table),
            log_level=table.choice("log_level", LOG_LEVELS, "info"),
        )


def load_replica(directory: Path, environment: Mapping[str, str] | None = None) -> ReplicaConfig:
    """The replica configured in `directory`.  Raises ConfigurationError or EnvironmentFailure."""
    return ReplicaConfig.load(directory / FILE_NAME, environment)


def dump_replica(replica_id: int, **settings: str | int) -> str:
    """The text of a replica.toml with these settings, everything else at its default."""
    document: dict[str, Any] = {"id": replica_id} | settings
    return tomli_w.dumps(document)


def _verify_threads(table: Table) -> int | None:
    return None if table.says("verify_threads", "auto", default="auto") else table.integer("verify_threads")
