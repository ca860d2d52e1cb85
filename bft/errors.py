"""What can go wrong, by whose fault, and the exit code that tells a script about it.

Four kinds that are never mixed: a peer's fault (`InvalidMessage` here, `Rejection` in the core) is counted and never
reaches a user; what a user of the SDK or the command line meets is a `BftError`; the environment's failures are
`BftError`s too, with exit codes of their own; our own bugs are `bft.core.invariants`' and stop the replica.
"""

from enum import IntEnum, unique


@unique
class ExitCode(IntEnum):
    """Exit codes of every command of this project."""

    OK = 0
    FAILED = 1  # the operation was carried out and failed
    USAGE = 2  # the command line makes no sense
    CONFIGURATION = 3  # a configuration file or variable is wrong
    ENVIRONMENT = 4  # port in use, file missing, no permission
    STORAGE = 5  # the disk failed or is full; a replica stops rather than lose what it promised
    DATA_DIRECTORY = 6  # a data directory is damaged, or belongs to another replica or cluster
    UNAVAILABLE = 7  # the cluster did not answer, or not enough of it
    VERIFICATION = 8  # a receipt, a proof or a piece of evidence does not hold
    DIVERGED = 9  # a replica computes another state than the quorum does, also after it was repaired


class InvalidMessage(Exception):
    """Bytes from a peer or client that are no acceptable message; `args[0]` says why, in one line.

    Raised while framing, decoding and authenticating.  The link they came on is to be closed: a correct peer of this
    version never sends such bytes.
    """


class BftError(Exception):
    """Base of everything that the SDK and the command line raise on purpose; the text is one line for a person."""

    exit_code: ExitCode = ExitCode.FAILED


class ConfigurationError(BftError):
    """A setting is unknown, missing or makes no sense; the text names it and says what to do."""

    exit_code = ExitCode.CONFIGURATION


class EnvironmentFailure(BftError):
    """The machine refuses: a port in use, a missing file, no permission."""

    exit_code = ExitCode.ENVIRONMENT


class StorageFailure(BftError):
    """A write or fsync failed: what was promised may not be on disk, so the replica stops and never retries."""

    exit_code = ExitCode.STORAGE


class DataDirectoryError(BftError):
    """A data directory is damaged beyond a torn tail, or was written by another replica, cluster or version."""

    exit_code = ExitCode.DATA_DIRECTORY


class ForeignDataError(DataDirectoryError):
    """A data directory is sound, but of another replica, cluster or version: nothing of it is to be thrown away."""


class DivergedError(BftError):
    """The replica's state is not the certified one, and repairing it does not help."""

    exit_code = ExitCode.DIVERGED


class NoQuorum(BftError):
    """Too few replicas, `replies` of them, could be reached; the operation was not sent and did not happen."""

    exit_code = ExitCode.UNAVAILABLE

    def __init__(self, text: str, *, replies: int = 0) -> None:
        super().__init__(text)
        self.replies = replies


class Timeout(BftError):
    """No result in time.

    With `ambiguous` the operation was sent: it may have executed, or may do so later, at most once.  Otherwise it
    did not execute and never will.
    """

    exit_code = ExitCode.UNAVAILABLE

    def __init__(self, text: str, *, ambiguous: bool) -> None:
        super().__init__(text)
        self.ambiguous = ambiguous


class Overloaded(BftError):
    """There was no room for it, in this client or at more replicas than can be faulty: it did not happen.

    Trying again is of no use for the next `retry_after` seconds.
    """

    exit_code = ExitCode.UNAVAILABLE

    def __init__(self, text: str, *, retry_after: float = 1.0) -> None:
        super().__init__(text)
        self.retry_after = retry_after


class ApplicationError(BftError):
    """The service executed the operation and answered with an error; every replica agrees on `code`."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class Compacted(BftError):
    """The history no longer reaches back so far: `revision` is the first whose events are still all known.

    Read what there is now, and watch from the revision of what was read.
    """

    def __init__(self, revision: int) -> None:
        super().__init__(
            f"the history was compacted: it begins with revision {revision}; read anew and go on from there"
        )
        self.revision = revision


class SessionLost(BftError):
    """The replicas forgot the session: whether operations in flight executed can no longer be known.

    The client opens a new session by itself; only the caller can decide whether to submit those operations again.
    """

    ambiguous = True  # as a Timeout's


class VerificationFailed(BftError):
    """A receipt, a proof or a piece of evidence does not prove what it claims."""

    exit_code = ExitCode.VERIFICATION
