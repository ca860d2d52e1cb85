"""The asyncio shell round the core: one replica as a process."""

from bft.node.node import Node, ReplicaFactory, StateFactory
from bft.node.run import run

__all__ = ["Node", "ReplicaFactory", "StateFactory", "run"]
