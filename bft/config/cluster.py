"""`cluster.toml`: what all replicas and clients of a cluster share.  It holds no secret.

cluster = "demo-3f9a2c1b"
epoch = 0
service = "bft.statemachine.kv:KeyValue"
ca = "ca.crt"                      # relative to this file
genesis_root = "..."               # only of a restored cluster: the Merkle root of the state that it begins with

[[replica]]                        # one each, ids from 0 in order
id = 0
public_key = "..."                 # Ed25519, 64 hexadecimal digits: the key is pinned
peer = "10.0.0.1:7100"             # where others reach it: replicas,
client = "10.0.0.1:7200"           # clients,
admin = "127.0.0.1:7300"           # and the administrator

[service_options]                  # what the service is made with, if it takes something
history_revisions = 50000

[protocol]                         # deviations from the defaults of `bft.core.parameters`, times in ms
request_timeout_ms = 2000
fast_reads = true                  # docs/reads.md
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, Self

import tomli_w

from bft.config.addresses import Address
from bft.config.table import Table, read_toml
from bft.core.parameters import MS, Parameters
from bft.errors import ConfigurationError, EnvironmentFailure
from crypto.certificates import is_name
from crypto.keys import InvalidKey, PublicKey
from crypto.signatures import Domain

FILE_NAME: Final = "cluster.toml"
_ROOT_BYTES: Final = 32
_KEYS: Final = ("cluster", "epoch", "service", "service_options", "genesis_root", "ca", "replica", "protocol")
_REPLICA_KEYS: Final = ("id", "public_key", "peer", "client", "admin")
Option = int | str | bool
_NANOSECONDS: Final = "_ns"
_MILLISECONDS: Final = "_ms"


def _protocol_keys() -> dict[str, str]:
    """The key of each parameter that may be set, and the parameter's own name; times are in ms in files."""
    names = [field.name for field in fields(Parameters) if field.name != "n"]
    return {
        name.removesuffix(_NANOSECONDS) + _MILLISECONDS if name.endswith(_NANOSECONDS) else name: name for name in names
    }


_PROTOCOL_KEYS: Final = _protocol_keys()
_FLAGS: Final = frozenset({"fast_reads"})


@dataclass(frozen=True, slots=True)
class ReplicaEntry:
    """What everybody knows of one replica: its pinned key and the addresses under which others reach it."""

    id: int
    public_key: bytes  # raw Ed25519, 32 bytes
    peer: Address
    client: Address
    admin: Address


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """A cluster as its replicas and clients know it."""

    cluster: str
    epoch: int
    service: str  # "package.module:Class"
    ca: Path
    replicas: tuple[ReplicaEntry, ...]  # by id: 0, 1, 2, ...
    parameters: Parameters
    service_options: Mapping[str, Option] = field(default_factory=dict, hash=False)
    genesis_root: bytes | None = None  # of the restored state that the cluster begins with; None: of nothing

    @property
    def domain(self) -> Domain:
        """Where this cluster's signatures are valid."""
        return Domain(self.cluster, self.epoch)

    @property
    def replica_keys(self) -> tuple[bytes, ...]:
        """The pinned public keys, by replica id."""
        return tuple(replica.public_key for replica in self.replicas)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the file `path`.  Raises ConfigurationError or EnvironmentFailure."""
        table = Table(read_toml(path), str(path), _KEYS)
        cluster = table.text("cluster")
        if not is_name(cluster):
            raise table.fail("cluster", "must be 1 to 64 of A-Z a-z 0-9 . _ -")
        replicas = tuple(
            _read_replica(values, f"{path}, replica {place}", place)
            for place, values in enumerate(table.tables("replica"))
        )
        keys = [replica.public_key for replica in replicas]
        if len(set(keys)) != len(keys):
            raise ConfigurationError(f"{path}: two replicas have the same public_key; each needs its own")
        return cls(
            cluster=cluster,
            epoch=table.integer("epoch"),
            service=table.text("service"),
            service_options=_read_options(table.table("service_options"), f"{path}, [service_options]"),
            genesis_root=_read_root(table),
            ca=table.path("ca", path.parent),
            replicas=replicas,
            parameters=_read_parameters(table.table("protocol"), f"{path}, [protocol]", len(replicas)),
        )

    def dump(self, *, ca: str) -> str:
        """The file's text; `ca` is the CA certificate's path relative to the file it goes to."""
        document: dict[str, Any] = {
            "cluster": self.cluster,
            "epoch": self.epoch,
            "service": self.service,
            "ca": ca,
            "replica": [
                {
                    "id": replica.id,
                    "public_key": replica.public_key.hex(),
                    "peer": str(replica.peer),
                    "client": str(replica.client),
                    "admin": str(replica.admin),
                }
                for replica in self.replicas
            ],
        }
        if self.genesis_root is not None:
            document["genesis_root"] = self.genesis_root.hex()
        if self.service_options:
            document["service_options"] = dict(self.service_options)
        if changed := _changed_parameters(self.parameters):
            document["protocol"] = changed
        return tomli_w.dumps(document)


def load_cluster(path: Path) -> ClusterConfig:
    """The cluster described by the file `path`, or by cluster.toml in the directory `path`.

    Raises ConfigurationError or EnvironmentFailure.
    """
    file = path / FILE_NAME if path.is_dir() else path
    config = ClusterConfig.load(file)
    if not config.ca.is_file():
        raise EnvironmentFailure(f'{config.ca}: no such file; {file} names it as "ca", the CA\'s certificate')
    return config


def _read_replica(values: Mapping[str, Any], origin: str, place: int) -> ReplicaEntry:
    table = Table(values, origin, _REPLICA_KEYS)
    if table.integer("id") != place:
        raise table.fail("id", f"must be {place}: replicas are numbered from 0, in order")
    try:
        key = PublicKey(bytes.fromhex(table.text("public_key"))).raw
    except InvalidKey as error:
        raise table.fail("public_key", f"is not usable: {error}") from error
    except ValueError as error:
        raise table.fail("public_key", "must be 64 hexadecimal digits") from error
    return ReplicaEntry(place, key, table.address("peer"), table.address("client"), table.address("admin"))


def _read_root(table: Table) -> bytes | None:
    text = table.text("genesis_root", default="none")
    if text == "none":
        return None
    try:
        root = bytes.fromhex(text)
    except ValueError:
        root = b""
    if len(root) != _ROOT_BYTES:
        raise table.fail("genesis_root", "must be 64 hexadecimal digits")
    return root


def _read_options(values: Mapping[str, Any], origin: str) -> dict[str, Option]:
    for key, value in values.items():
        if not isinstance(value, Option):
            raise ConfigurationError(f"{origin}: {key} must be a whole number, a text, true or false")
    return dict(values)


def _read_parameters(values: Mapping[str, Any], origin: str, n: int) -> Parameters:
    table = Table(values, origin, _PROTOCOL_KEYS)
    settings: dict[str, Any] = {}
    for key, name in _PROTOCOL_KEYS.items():
        if key in values and name in _FLAGS:
            settings[name] = table.flag(key, default=False)
        elif key in values:
            settings[name] = table.integer(key) * (MS if name.endswith(_NANOSECONDS) else 1)
    try:
        return Parameters(n=n, **settings)
    except ValueError as error:
        raise ConfigurationError(f"{origin}: {error}") from error


def _changed_parameters(parameters: Parameters) -> dict[str, int | bool]:
    defaults = Parameters(n=parameters.n)
    changed: dict[str, int | bool] = {}
    for key, name in _PROTOCOL_KEYS.items():
        value = getattr(parameters, name)
        if value != getattr(defaults, name):
            changed[key] = value // MS if name.endswith(_NANOSECONDS) else value
    return changed
