"""What a user of the SDK may tune."""

from dataclasses import dataclass, field
from typing import Final

from bft.client.retry import RetryPolicy

WATCHES_PER_LINK_MAX: Final = 16  # what a replica holds


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSettings:
    """Limits and times of one client; times in seconds.  Raises ValueError when they cannot work."""

    timeout_s: float = 30.0  # of a call that names none, and of connecting
    calls_max: int = 8_192  # calls under way; further callers wait their turn
    bundles_max: int = 4  # bundles sent and not yet answered; meanwhile further calls gather
    bundle_operations_max: int = 256
    bundle_bytes_max: int = 256 << 10
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    tracing: bool = True  # spans of the calls, if OpenTelemetry's API is installed
    watches_max: int = 8  # open at once; a replica holds 16 of a link

    def __post_init__(self) -> None:
        if not self.timeout_s > 0:
            raise ValueError("timeout_s must be positive")
        if not 0 <= self.watches_max <= WATCHES_PER_LINK_MAX:
            raise ValueError(f"watches_max is 0 to {WATCHES_PER_LINK_MAX}")
        if min(self.calls_max, self.bundles_max, self.bundle_operations_max, self.bundle_bytes_max) < 1:
            raise ValueError("calls_max, bundles_max, bundle_operations_max and bundle_bytes_max must be positive")
