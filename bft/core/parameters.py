"""The protocol's numbers, the same at every replica of a cluster unless said otherwise."""

from __future__ import annotations

from dataclasses import dataclass

MS = 1_000_000  # nanoseconds
SECOND = 1_000 * MS


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """Sizes, limits and time-outs of the protocol; times in nanoseconds.  Raises ValueError when they cannot work."""

    n: int  # replicas
    checkpoint_interval: int = 128  # K: batches between checkpoints
    window: int = 256  # L: sequence numbers between the watermarks, a multiple of K, at least 2 K
    pipeline_depth: int = 8  # batches proposed and not yet executed, at most
    batch_requests_max: int = 256
    batch_bytes_max: int = 1 << 20
    operations_max: int = 1024  # operations in one request
    request_bytes_max: int = 1 << 20  # encoded payload of one request

    pending_requests_max: int = 16_384  # heard of and not executed
    pending_bytes_max: int = 64 << 20
    pending_per_origin_max: int = 4_096  # from one client's link, or relayed by one replica
    pending_bytes_per_origin_max: int = 8 << 20
    result_bytes_max: int = (
        1 << 20
    )  # once the results of one request exceed it, its further operations are not executed
    batch_result_bytes_max: int = 16 << 20  # once those of a batch exceed it, its further requests wait for another

    session_window: int = 128  # numbers of one session in flight
    sessions_max: int = 4_096
    sessions_per_client_max: int = 64
    session_reply_bytes_max: int = 4 << 20  # cached results of one session
    reply_bytes_max: int = 256 << 20  # cached results of all sessions
    registration_age_max_ns: int = 600 * SECOND  # of a registration that evicts a session, by its client's clock

    # Clients read without ordering, and therefore accept every ordered result on a quorum of replies, not on f + 1.
    fast_reads: bool = False

    request_timeout_ns: int = 2 * SECOND  # from hearing of a request to its execution
    view_change_timeout_ns: int = 2 * SECOND  # from a quorum of VIEW-CHANGEs to the NEW-VIEW
    timeout_doublings_max: int = 6  # both time-outs double for each failed attempt, up to this often
    status_interval_ns: int = 200 * MS  # while something is pending
    idle_status_interval_ns: int = 1 * SECOND
    rejoin_interval_ns: int = 600 * SECOND  # between two favours to a peer that says it lost its disk
    courtesy_wait_ns: int = 30 * SECOND  # a peer alone in a view change waits so long for the others to follow
    courtesy_doublings_max: int = 7  # that wait doubles each time, up to this often: an hour
    clock_bound_ns: int = 30 * SECOND  # a fresh proposal's time may differ this much from the local clock

    held_messages_max: int = 512  # per sender: votes and proposals that are early for this view or window
    held_proposals_max: int = 32  # per sender, of these
    archive_batches_max: int = 512  # executed batches kept to serve laggards, besides those above the stable checkpoint
    archive_bytes_max: int = 64 << 20
    transfer_nodes_max: int = 256  # nodes asked for in one FetchState
    transfer_bytes_max: int = 1 << 20  # answer to one Fetch*
    transfer_timeout_ns: int = 1 * SECOND  # until another peer is asked

    def __post_init__(self) -> None:
        if self.checkpoint_interval < 1 or self.window < 2 * self.checkpoint_interval:
            raise ValueError("window must be at least twice checkpoint_interval, and both positive")
        if self.window % self.checkpoint_interval:
            raise ValueError("window must be a multiple of checkpoint_interval")
        if not 1 <= self.pipeline_depth <= self.window:
            raise ValueError("pipeline_depth must be between 1 and window")
        if self.session_window < 1 or self.batch_requests_max < 1:
            raise ValueError("session_window and batch_requests_max must be positive")
