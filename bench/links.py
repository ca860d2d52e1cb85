"""Links between replicas through a process of ours, one proxy a direction: slower, narrower, or cut.  Needs no root.

Each replica dials every other and sends only on the link that it dialled, so that a connection is a directed link: its
own copy of cluster.toml names the proxies' addresses, and nobody else's does.  The proxies see TLS and nothing of it.
"""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self

from bft.config import Address, load_cluster
from bft.errors import BftError, ConfigurationError
from deploy import launcher

_END_S: Final = 5.0
# A hop through the proxy costs what a switch does; the clock of an event loop is not finer than a millisecond.
_NAMED: Final = {"lan": "ms=0,mbit=1000", "wan": "ms=20,mbit=100"}


@dataclass(frozen=True, slots=True)
class Profile:
    """What a link adds, each way."""

    delay_ms: float = 0.0
    mbit: float = 0.0  # a second; 0: no limit

    @classmethod
    def parse(cls, text: str) -> Self:
        """`lan`, `wan`, `ms=20`, `ms=20,mbit=50`.  Raises ConfigurationError."""
        try:
            values = dict(part.split("=") for part in _NAMED.get(text, text).split(","))
            numbers = {name: float(value) for name, value in values.items()}
        except ValueError:
            numbers = {"": 0.0}
        if not numbers.keys() <= {"ms", "mbit"} or not all(0 <= n < 100_000 for n in numbers.values()):
            raise ConfigurationError(f'--network "{text}": write lan, wan, ms=20 or ms=20,mbit=50')
        return cls(numbers.get("ms", 0.0), numbers.get("mbit", 0.0))

    def __str__(self) -> str:
        return f"ms={self.delay_ms:g}" + (f",mbit={self.mbit:g}" if self.mbit else "")


class ProxiesFailed(BftError):
    """The proxies' process did not do as it was told; the text is its own."""


class Links:
    """The running proxies."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    async def cut(self, links: Iterable[tuple[int, int]]) -> None:
        """Nothing passes on these any more; what waits is kept, as TCP does."""
        await self._tell({"cut": sorted(links)})

    async def mend(self, links: Iterable[tuple[int, int]]) -> None:
        await self._tell({"mend": sorted(links)})

    async def become(self, profile: Profile) -> None:
        """All links, for what they take from now on."""
        await self._tell({"delay_ms": profile.delay_ms, "mbit": profile.mbit})

    async def _tell(self, order: dict[str, object]) -> None:
        if self._process.stdin is None or self._process.stdout is None:
            raise ProxiesFailed("the links' proxies were started without their streams")
        with contextlib.suppress(OSError):
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            await self._process.stdin.drain()
        if not await self._process.stdout.readline():
            raise ProxiesFailed("the links' proxies ended before their time")


@contextlib.asynccontextmanager
async def proxied(directory: Path, profile: Profile) -> AsyncIterator[Links]:
    """Put proxies between the replicas of a cluster that does not run yet; they end with the block."""
    config = load_cluster(directory)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "bench.proxy"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=launcher.replica_environment(),
        start_new_session=True,  # Ctrl-C is for us to handle
    )
    try:
        links = Links(process)
        addresses = await _listen(process, {r.id: r.peer for r in config.replicas})
        for own in config.replicas:
            home = directory / f"replica-{own.id}"
            entries = tuple(
                entry if entry.id == own.id else replace(entry, peer=Address("127.0.0.1", addresses[own.id, entry.id]))
                for entry in config.replicas
            )
            text = replace(config, replicas=entries).dump(ca=config.ca.name)
            await asyncio.to_thread((home / "cluster.toml").write_text, text)
        await links.become(profile)
        yield links
    finally:
        if process.stdin is not None:
            process.stdin.close()  # which ends it
        try:
            await asyncio.wait_for(process.wait(), _END_S)
        except TimeoutError:
            process.kill()
            await process.wait()


async def _listen(process: asyncio.subprocess.Process, peers: dict[int, Address]) -> dict[tuple[int, int], int]:
    """Open every proxy; their ports by (from, to).  Raises ProxiesFailed."""
    if process.stdin is None or process.stdout is None:
        raise ProxiesFailed("the links' proxies were started without their streams")
    wanted = [[a, b, peers[b].host, peers[b].port] for a in peers for b in peers if a != b]
    process.stdin.write(json.dumps(wanted).encode() + b"\n")
    line = await process.stdout.readline()
    if not line:
        raise ProxiesFailed("the links' proxies could not listen")
    return {(sender, receiver): port for sender, receiver, port in json.loads(line)}
