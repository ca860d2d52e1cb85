"""Whether the primary turns requests round as fast as the network lets it (DESIGN §5, slow-primary).

The turn-around of a request runs from when we relayed it to the primary until it is in a proposal.  A batch that is not
full took all that was pending, so what it holds waited for a relay, room in the pipeline (one batch to commit) and the
proposal only; what it leaves out waits still.  Committing takes two exchanges of votes among all, with a sync of the
disk each, and needs nothing from the primary.  A primary whose turn-arounds exceed a multiple of recent commits, again
and again, delays.

Only a client that sends to all at once lets us measure: each does so with some requests (`bft.client.audit`).

What might be tried, and why it moves nobody:

- a slow network, slow disks: commits take longer with it;
- load: full batches are not judged, and the time begins with the relay, so what a flood makes us hold back counts not;
- loss: a turn-around now and then is long, but a short one takes back two long ones, and each request counts once;
- a client: sending late, or to some only, makes none longer; a request that the primary rightly refuses we refuse on
  the same state, and it counts once;
- f faulty backups: a commit is timed at a quorum of votes, so with f votes at once it still waits for correct replicas;
- the primary, by showing batches late to some, or out of order, so that commits seem late: whoever is shown a batch
  late times it short, one that waits for an earlier one is not timed, and of the rest the upper quarter is set aside;
- the primary, with clients that it serves at once: no batch is prompt that leaves out what is late already;
- a cluster where nobody meets the demand: each view change on its account doubles what is tolerated, and only many
  short turn-arounds halve it again.

Not seen: a primary that colludes with clients to fill every batch, or that delays single requests among many prompt
ones (the bounds of ``pending`` are left).

Deviation (§4.4): there the time-out alone suspects.  Prime (Amir et al. 2011) bounds the turn-around by pings; here the
votes that are sent anyway are the measure.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from bft.core.messages import Authenticated, Request, Seq
from bft.core.parameters import Parameters
from bft.core.pending import PendingRequests

_COMMITS_KEPT = 16
_LATE_TO_CONVINCE = 8  # long ones, net of twice the short ones
_TIMES_A_COMMIT = 4
_TIMEOUT_FRACTION = 8  # what is below this fraction of the request time-out is never long
_RELAXED_MAX = 6
_SHORT_TO_FORGIVE = 256  # short ones until the demand is doubled back


class PrimaryMonitor:
    """One backup's measurements; all times monotonic, in nanoseconds."""

    def __init__(self, parameters: Parameters, pending: PendingRequests) -> None:
        self._pending = pending
        self._least_ns = parameters.request_timeout_ns // _TIMEOUT_FRACTION
        self._commits: deque[int] = deque(maxlen=_COMMITS_KEPT)  # how long each took from its PRE-PREPARE
        self._accepted_ns: dict[Seq, int] = {}  # of batches in flight; the watermarks bound it
        self._executed: Seq = 0
        self._long = 0
        self._short = 0
        self._relaxed = 0

    @property
    def tolerated_ns(self) -> int | None:
        """The longest turn-around that is not held against the primary; None while too little is known."""
        if len(self._commits) < _COMMITS_KEPT // 2:
            return None
        upper_quartile = sorted(self._commits)[3 * len(self._commits) // 4]
        return max(self._least_ns, _TIMES_A_COMMIT * upper_quartile) << self._relaxed

    @property
    def is_slow(self) -> bool:
        """Sustained: leave the view."""
        return self._long >= _LATE_TO_CONVINCE

    def on_proposal(
        self, seq: Seq, owed: Sequence[Authenticated[Request]], *, now_ns: int, patient_from_ns: int
    ) -> None:
        """A proposal was accepted, and is not yet among the pending ones; with its requests that are not executed.

        ``patient_from_ns``: before that we were paused, and nobody is to blame.
        """
        in_turn = seq - 1 == self._executed or seq - 1 in self._accepted_ns
        tolerated_ns = self.tolerated_ns
        if tolerated_ns is not None and now_ns - patient_from_ns > tolerated_ns:
            late = self._pending.judge(owed, in_turn=in_turn, shown_by_ns=now_ns - tolerated_ns)
            if late is not None:
                self._count(late=late)
        if in_turn:
            self._accepted_ns[seq] = now_ns  # else it waits for an earlier batch, which is up to the primary

    def on_executed(self, seq: Seq, *, now_ns: int) -> None:
        """A batch of this view, or one that was caught up."""
        accepted_ns = self._accepted_ns.pop(seq, None)
        if accepted_ns is not None:
            self._commits.append(now_ns - accepted_ns)
        self._executed = seq

    def leave_view(self, *, as_slow: bool) -> None:
        """The next primary is judged anew; if this one was left as slow, more tolerantly."""
        self._accepted_ns.clear()
        self._long = self._short = 0
        if as_slow:
            self._relaxed = min(self._relaxed + 1, _RELAXED_MAX)

    def _count(self, *, late: bool) -> None:
        if late:
            self._long += 1
        else:
            self._long = max(0, self._long - 2)
            self._short += 1
            if self._short >= _SHORT_TO_FORGIVE:
                self._short = 0
                self._relaxed = max(0, self._relaxed - 1)
