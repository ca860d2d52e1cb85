"""When a wrong state of our own is worth a repair: not again and again (DESIGN §4, State transfer)."""

from __future__ import annotations

from bft.core.messages import Seq
from bft.core.parameters import Parameters

_SOON = 16  # checkpoint intervals: whose state goes wrong again within them will go wrong for ever


class Repair:
    """Whether a repair is under way, and whether another one makes sense."""

    def __init__(self, parameters: Parameters) -> None:
        self._soon = _SOON * parameters.checkpoint_interval
        self.under_way = False
        self.hopeless = False  # the replica has to stop
        self.seq: Seq = 0  # the checkpoint at which the last one began
        self.last: Seq | None = None  # the checkpoint of the last one that was done

    def begin(self, stable: Seq) -> bool:
        """Our state is wrong; False if the replica has to stop: nothing to repair it with, or in vain."""
        self.under_way = True
        self.seq = stable
        self.hopeless = stable == 0 or (self.last is not None and stable - self.last <= self._soon)
        return not self.hopeless

    def done(self, seq: Seq) -> None:
        """The state of this certified checkpoint is ours now."""
        self.under_way = False
        self.last = seq
