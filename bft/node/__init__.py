"""The asyncio shell round the core: one replica as a process."""

from bft.node.node import EffectsFilter, Node
from bft.node.run import run

__all__ = ["EffectsFilter", "Node", "run"]
