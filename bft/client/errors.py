"""Errors that only a client meets; the others are in `bft.errors`."""

from bft.errors import BftError, ExitCode, VerificationFailed


class NotAuthorised(BftError):
    """The replicas refuse this client's certificate: it expired, was revoked, or is of another authority."""

    exit_code = ExitCode.CONFIGURATION


class ResultLost(BftError):
    """The operation executed, but the replicas no longer hold its result; do not submit it again."""


class NoReceipt(VerificationFailed):
    """The result stands, but too few of the replies that were received so far prove it to others."""


class NoProof(VerificationFailed):
    """No replica proves what is stored, or none recently enough; an ordered read tells it, and brings a checkpoint."""


class ClientClosed(BftError):
    """The client was closed.  With `ambiguous` the operation was sent and may have executed, or may do so later."""

    def __init__(self, text: str, *, ambiguous: bool = False) -> None:
        super().__init__(text)
        self.ambiguous = ambiguous
