"""The configuration files of a cluster and of each replica; every problem is a `ConfigurationError` of one line."""

from bft.config.addresses import Address
from bft.config.cluster import ClusterConfig, ReplicaEntry, load_cluster
from bft.config.replica import Durability, ReplicaConfig, dump_replica, load_replica

__all__ = [
    "Address",
    "ClusterConfig",
    "Durability",
    "ReplicaConfig",
    "ReplicaEntry",
    "dump_replica",
    "load_cluster",
    "load_replica",
]
