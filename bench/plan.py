"""What one process of the load is to do, as the run tells it."""

import json
from dataclasses import asdict, dataclass

from bft.client import ClientSettings


@dataclass(frozen=True, slots=True)
class Plan:
    """What one worker is to do."""

    system: str
    cluster: str  # the directory with its files
    result: str  # the file to write; empty: over the stream
    workload: str
    zipfian: bool
    clients: list[int]  # of all clients of the run, those that are this worker's
    callers_per_client: int
    callers: int  # of the whole run
    bundles_max: int | None  # None: the SDK's default, as for the next
    bundle_operations_max: int | None
    value_size: int
    reads: float
    keys: int  # of the whole run
    shared: float  # share of the operations that go to keys which all callers write
    shared_keys: int
    warmup_s: float
    duration_s: float
    rate: tuple[float, float] | None  # of the whole run, at the beginning and the end of the measurement

    def settings(self) -> ClientSettings:
        """The SDK's, so that what callers do at once becomes the bundles that are wanted."""
        if self.bundles_max is None or self.bundle_operations_max is None:
            return ClientSettings()
        return ClientSettings(
            bundles_max=self.bundles_max,
            bundle_operations_max=self.bundle_operations_max,
            bundle_bytes_max=(self.value_size + 64) * self.bundle_operations_max + 1024,
        )

    def json(self) -> str:
        return json.dumps(asdict(self))
