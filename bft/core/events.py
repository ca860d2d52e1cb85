"""What the shell tells the core.  ``Replica.step(event, now)`` consumes exactly these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from bft.core.messages import Authenticated, PeerMessage, ReplicaId, Request, Seq


class Instant(NamedTuple):
    """A reading of both clocks: timers use the monotonic one, proposals and their bound the wall clock."""

    monotonic_ns: int
    wall_ns: int


@dataclass(frozen=True, slots=True)
class Start:
    """The first event: arms the timers (after recovery, if there was any).

    With a nonce the replica asks its peers what it said before, and is mute until it knows (``Rejoining``).
    """

    nonce: int | None = None  # not used by any earlier start; None: the first start of all, nothing was ever said
    amnesiac: bool = False  # what it said before is lost for certain


@dataclass(frozen=True, slots=True)
class Received:
    """A message came on the authenticated link of replica ``sender``."""

    sender: ReplicaId
    message: PeerMessage


@dataclass(frozen=True, slots=True)
class ClientRequest:
    """A client sent this request on its own authenticated link."""

    request: Authenticated[Request]


@dataclass(frozen=True, slots=True)
class Tick:
    """``Replica.next_deadline_ns`` was reached (early or spurious ticks are harmless)."""


@dataclass(frozen=True, slots=True)
class SnapshotSaved:
    """The state at checkpoint ``seq`` is durable."""

    seq: Seq


@dataclass(frozen=True, slots=True)
class StateDamaged:
    """The state that we execute on is not what we computed: a value changed by itself."""


Event: TypeAlias = Start | Received | ClientRequest | Tick | SnapshotSaved | StateDamaged
