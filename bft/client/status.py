"""What a client knows of its session and of the replicas."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReplicaStatus:
    """One replica as this client sees it."""

    id: int
    address: str
    connected: bool
    trouble: str  # why it is not connected; empty if it is


@dataclass(frozen=True, slots=True)
class ClientStatus:
    """Where a client stands; what it knows, not what is."""

    cluster: str
    client: str  # name in its certificate
    session: int | None  # None: not registered
    view: int  # f+1 replicas vouch for it
    primary: int
    queued: int  # calls that wait to be sent
    in_flight: int  # bundles sent and not yet answered
    round_trip_s: float | None  # smoothed
    fast_reads: int  # reads on which a quorum agreed, not ordered
    fast_reads_given_up: int  # and ordered instead: no quorum agreed in time
    replicas: tuple[ReplicaStatus, ...]
