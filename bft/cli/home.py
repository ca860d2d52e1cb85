"""A cluster's directory: where each file is, and who is at home on this machine.

DIR/cluster.toml, ca.crt      what everybody may have; the same bytes in every replica's directory
DIR/ca/                       the CA with its key: stays with whoever runs the cluster
DIR/clients/NAME/             client.crt, client.key of one client or administrator
DIR/replica-N/                all that replica N needs, and nothing more
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bft.config import Address, ClusterConfig, load_cluster, load_replica
from bft.errors import BftError, EnvironmentFailure

CLUSTER_FILE: Final = "cluster.toml"
CA_FILE: Final = "ca.crt"
CA_DIRECTORY: Final = "ca"
CLIENTS: Final = "clients"


def replica_directory(cluster: Path, replica: int) -> Path:
    """Where the files of a replica are."""
    return cluster / f"replica-{replica}"


@dataclass(frozen=True, slots=True)
class Home:
    """A cluster's directory that was read."""

    directory: Path
    config: ClusterConfig

    @classmethod
    def open(cls, directory: Path) -> "Home":
        """Read DIR/cluster.toml.  Raises ConfigurationError or EnvironmentFailure."""
        if not directory.is_dir():
            raise EnvironmentFailure(f"{directory}: no such directory; `bft cluster init` makes a cluster's")
        return cls(directory, load_cluster(directory))

    @property
    def local(self) -> list[int]:
        """The replicas whose files are here."""
        return [entry.id for entry in self.config.replicas if self.replica(entry.id).is_dir()]

    def replica(self, replica: int) -> Path:
        return replica_directory(self.directory, replica)

    def select(self, replica: int | None) -> list[int]:
        """The local replicas that a command is about: this one, or all.  Raises EnvironmentFailure."""
        local = self.local
        if replica is None:
            if not local:
                raise EnvironmentFailure(f"{self.directory}: no replica is at home here")
            return local
        if replica not in local:
            raise EnvironmentFailure(f"{self.replica(replica)}: no such directory: replica {replica} is not here")
        return [replica]

    def admin_address(self, replica: int) -> Address:
        """Where the replica answers its administrator: if it is local where it listens, else what it advertises."""
        if self.replica(replica).is_dir():
            try:
                return load_replica(self.replica(replica), {}).listen_admin
            except BftError:  # it could not start with such a file; whoever starts it is told why
                pass
        return self.config.replicas[replica].admin
