"""What a replica counts.  Plain numbers: the hot path adds, whoever reads them does the rest."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Counters:
    """Since the start of the process."""

    rounds: int = 0
    frames: int = 0
    executed_batches: int = 0
    executed_requests: int = 0
    executed_operations: int = 0
    view_changes: int = 0  # views left
    views_entered: int = 0
    stable_checkpoints: int = 0
    divergences: int = 0  # of our state from the certified one, each repaired
    queries: int = 0
    rejections: Counter[str] = field(default_factory=Counter)  # by reason, an enumeration
