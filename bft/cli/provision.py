"""`bft cluster init`: every file of a new cluster, made together or not at all."""

import re
import secrets
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from bft.cli.home import CA_DIRECTORY, CA_FILE, CLIENTS, CLUSTER_FILE, replica_directory
from bft.config import Address, ClusterConfig, ReplicaEntry, dump_replica
from bft.config.cluster import Option
from bft.core.parameters import Parameters
from bft.errors import ConfigurationError, EnvironmentFailure
from bft.storage.backup import write_genesis
from bft.storage.directory import begin
from crypto.ca import CertificateAuthority
from crypto.certificates import Role, is_name
from crypto.keys import PrivateKey

PORTS_APART: Final = 100  # peers at the base port and up, clients 100 above, administrators 200 above
_NAME_MAX: Final = 48  # leaves room for the random part


@dataclass(frozen=True, slots=True)
class Plan:
    """What to make."""

    replicas: int
    name: str | None  # None: from the directory's name
    service: str
    base_port: int
    hosts: Sequence[str]  # where others reach the replicas: one for all, or one each
    listen: str | None  # None: on the host that is advertised
    listen_admin: str


@dataclass(frozen=True, slots=True)
class Genesis:
    """The state that a new cluster begins with, and what its service needs to be the same."""

    root: bytes
    content: Mapping[bytes, bytes]
    options: Mapping[str, Option]
    parameters: Parameters  # of the old cluster; n does not count


def create_cluster(directory: Path, plan: Plan, genesis: Genesis | None = None) -> ClusterConfig:
    """Make the cluster's directory.  Raises EnvironmentFailure rather than touch one that holds anything."""
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise EnvironmentFailure(f"{directory} exists and is never overwritten: name another directory, or remove it")
    cluster = _cluster_id(plan.name or re.sub(r"[^A-Za-z0-9._-]", "", directory.resolve().name).strip(".") or "cluster")
    directory.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    try:
        config = _write(staging, cluster, plan, genesis)
        staging.rename(directory)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return config


def add_identity(directory: Path, authority: CertificateAuthority, name: str, role: Role, *, days: int) -> Path:
    """Make key and certificate of a client or administrator in `directory`.  Raises EnvironmentFailure if it exists."""
    if not is_name(name):
        raise ConfigurationError(f'"{name}" can be no name: use 1 to 64 of A-Z a-z 0-9 . _ -')
    try:
        directory.mkdir(parents=True, mode=0o700)
    except FileExistsError as error:
        raise EnvironmentFailure(f"{directory} exists and is never overwritten: use another name") from error
    key = PrivateKey.generate()
    issue = authority.issue_admin if role is Role.ADMIN else authority.issue_client
    key.save(directory / "client.key")
    (directory / "client.crt").write_bytes(issue(name, key.public, days=days))
    return directory


def _cluster_id(name: str) -> str:
    if not is_name(name) or len(name) > _NAME_MAX:
        raise ConfigurationError(f'"{name}" can be no cluster\'s name: use 1 to {_NAME_MAX} of A-Z a-z 0-9 . _ -')
    return f"{name}-{secrets.token_hex(4)}"


def _write(directory: Path, cluster: str, plan: Plan, genesis: Genesis | None) -> ClusterConfig:
    authority = CertificateAuthority.create(directory / CA_DIRECTORY, cluster)
    keys = [PrivateKey.generate() for _ in range(plan.replicas)]
    hosts = list(plan.hosts) if len(plan.hosts) > 1 else [*plan.hosts] * plan.replicas
    config = ClusterConfig(
        cluster=cluster,
        epoch=0,
        service=plan.service,
        ca=directory / CA_FILE,
        replicas=_entries(keys, hosts, plan),
        parameters=Parameters(n=plan.replicas) if genesis is None else replace(genesis.parameters, n=plan.replicas),
        service_options={} if genesis is None else genesis.options,
        genesis_root=None if genesis is None else genesis.root,
    )
    _write_public(directory, config, authority)
    for entry, key in zip(config.replicas, keys, strict=True):
        home = replica_directory(directory, entry.id)
        home.mkdir(mode=0o700)
        _write_public(home, config, authority)
        key.save(home / "replica.key")
        try:
            certificate = authority.issue_replica(entry.id, key.public, [entry.peer.host])
        except ValueError as error:
            raise ConfigurationError(f"--host: {error}") from error
        (home / "replica.crt").write_bytes(certificate)
        (home / "replica.toml").write_text(dump_replica(entry.id, **_listen_settings(entry, plan)))
        begin(home / "data")
        if genesis is not None:
            write_genesis(home / "genesis", genesis.content.items())
    for name, role in (("default", Role.CLIENT), ("admin", Role.ADMIN)):
        add_identity(directory / CLIENTS / name, authority, name, role, days=825)
    return config


def _write_public(directory: Path, config: ClusterConfig, authority: CertificateAuthority) -> None:
    (directory / CLUSTER_FILE).write_text(config.dump(ca=CA_FILE))
    (directory / CA_FILE).write_bytes(authority.pem)


def _entries(keys: Sequence[PrivateKey], hosts: Sequence[str], plan: Plan) -> tuple[ReplicaEntry, ...]:
    on_host: Counter[str] = Counter()  # replicas of one host need ports of their own
    entries = []
    for replica, (key, host) in enumerate(zip(keys, hosts, strict=True)):
        port = plan.base_port + on_host[host]
        on_host[host] += 1
        peer, client, admin = (Address(host, port + offset * PORTS_APART) for offset in range(3))
        entries.append(ReplicaEntry(replica, key.public.raw, peer, client, admin))
    return tuple(entries)


def _listen_settings(entry: ReplicaEntry, plan: Plan) -> dict[str, str | int]:
    """What differs from listening on the advertised addresses."""
    settings: dict[str, str | int] = {}
    if plan.listen is not None:
        settings["listen_peer"] = str(Address(plan.listen, entry.peer.port))
        settings["listen_client"] = str(Address(plan.listen, entry.client.port))
    if plan.listen_admin != entry.admin.host:
        settings["listen_admin"] = str(Address(plan.listen_admin, entry.admin.port))
    return settings
