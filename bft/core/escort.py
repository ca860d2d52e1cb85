"""What healthy replicas do for one that lost its disk: fill the log up to where it may speak, and change the view.

All on the word of the one that asks, which may lie and ask for ever: hence one favour at a time for each peer, each
bounded, and none sooner than ``rejoin_interval_ns`` after the one before.
"""

from __future__ import annotations

from dataclasses import dataclass

from bft.core.context import Context, CurrentView
from bft.core.messages import QueryStable, ReplicaId, Seq, View


@dataclass(slots=True)
class Favour:
    """What a peer was granted last."""

    until: Seq  # batches without requests are ordered up to here
    since_ns: int  # monotonic
    view_changes: int = 0  # that we made for it


class Escort:
    """One favour a peer."""

    def __init__(self, context: Context, current: CurrentView) -> None:
        self._context = context
        self._current = current
        self._favours: dict[ReplicaId, Favour] = {}
        self._unasked: dict[ReplicaId, list[int]] = {}  # by primary: since when, monotonic, and how many

    def on_query(self, sender: ReplicaId, query: QueryStable, *, stable: Seq, now_ns: int) -> None:
        """Grant what can be true: an honest H is two windows above a checkpoint that is stable."""
        parameters = self._context.parameters
        if not 0 < query.until <= stable + 2 * parameters.window:
            return
        favour = self._favours.get(sender)
        if favour is None or now_ns >= favour.since_ns + parameters.rejoin_interval_ns:
            self._favours[sender] = Favour(query.until, now_ns)

    def wants_batch(self, seq: Seq) -> bool:
        """A batch without requests is wanted at this sequence number."""
        return any(seq <= favour.until for favour in self._favours.values())

    def tolerates_batch(self, primary: ReplicaId, *, now_ns: int) -> bool:
        """A batch without requests that nobody asked us for is still no fault of this primary.

        Who asked it may keep that from us, to have us depose it.  So every replica may have asked it, once in an
        interval that begins when it likes; a faulty primary makes us write no more than that.
        """
        parameters = self._context.parameters
        since_ns, count = self._unasked.get(primary, (now_ns, 0))
        most = 2 * self._context.quorums.n * 2 * parameters.window
        return now_ns >= since_ns + parameters.rejoin_interval_ns or count < most

    def note_unasked(self, primary: ReplicaId, *, now_ns: int) -> None:
        """We took such a batch."""
        unasked = self._unasked.setdefault(primary, [now_ns, 0])
        if now_ns >= unasked[0] + self._context.parameters.rejoin_interval_ns:
            unasked[:] = [now_ns, 0]
        unasked[1] += 1

    def view_wanted(self, sender: ReplicaId, query: QueryStable, *, stable: Seq) -> View | None:
        """The view after which to change for this peer: it has passed its H and needs a higher one, or it is primary.

        Only from normal operation, step by step: so no correct replica gets further than time-outs could take it.
        """
        favour = self._favours.get(sender)
        view, quorums = self._current.view, self._context.quorums
        if favour is None or query.until != favour.until or not self._current.active:
            return None
        passed = query.until <= stable and view <= query.above <= view + quorums.f + 2
        mute_primary = quorums.primary(view) == sender and view <= query.above
        if not (passed or mute_primary) or favour.view_changes >= 2 * (quorums.f + 2):
            return None
        favour.view_changes += 1
        return view + 1 if quorums.primary(view + 1) == sender else view
