"""etcd: three members on this machine, mutual TLS between them and to clients; survives crashes, not lies.

Spoken to through its JSON gateway, which is part of every member, so that no gRPC library is needed.  That costs etcd
more than gRPC does, in its members' processors above all.
"""

import asyncio
import base64
import contextlib
import json
import shutil
from collections.abc import AsyncIterator
from typing import Any, ClassVar, Final

import aiohttp

from bench.systems.certificates import Files, make
from bench.systems.interface import Found, Page, Session, System, Written
from bench.systems.program import program, until
from bft.errors import EnvironmentFailure, Timeout
from crypto.tls import client_context
from deploy.ports import free_base_port

_MEMBERS: Final = 3
_APART: Final = 100
_TIMEOUT_S: Final = 10.0
_START_S: Final = 1.0


class Etcd(System):
    """Debian's etcd-server, as it comes: Raft, fsync of every write."""

    name: ClassVar[str] = "etcd"
    withstands: ClassVar[str] = "1 of 3 crashed, power cut"

    @classmethod
    def lacks(cls) -> str | None:
        return None if shutil.which("etcd") else "etcd is not installed: apt install etcd-server"

    @contextlib.asynccontextmanager
    async def running(self, durability: str) -> AsyncIterator[list[int]]:
        """Raises EnvironmentFailure."""
        if lacks := self.lacks():
            raise EnvironmentFailure(lacks)
        if durability != "fsync":
            raise EnvironmentFailure(f"etcd syncs every write: leave out --durability {durability}")
        self.directory.mkdir(parents=True, exist_ok=True)
        make(self.directory)
        base = free_base_port(_MEMBERS, kinds=2, apart=_APART)
        (self.directory / "ports.json").write_text(json.dumps([base + number for number in range(_MEMBERS)]))
        log = self.directory / "etcd.log"
        async with contextlib.AsyncExitStack() as stack:
            members = [
                await stack.enter_async_context(program(self._command(number, base), log)) for number in range(_MEMBERS)
            ]
            await until(self._answers, members, log)
            yield [member.pid for member in members]

    @contextlib.asynccontextmanager
    async def session(self, client: int) -> AsyncIterator[Session]:
        """With the member that is this client's: clients are spread over all three."""
        files = Files.within(self.directory)
        ports = json.loads(await asyncio.to_thread((self.directory / "ports.json").read_text))
        context = client_context(certificate=files.certificate, key=files.key, ca=files.ca)
        connector = aiohttp.TCPConnector(limit=0, ssl=context)
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
        base = f"https://127.0.0.1:{ports[client % _MEMBERS]}"
        async with aiohttp.ClientSession(base, connector=connector, timeout=timeout) as http:
            yield _Session(http)

    def _command(self, number: int, base: int) -> list[str]:
        files, peers = Files.within(self.directory), [f"https://127.0.0.1:{base + _APART + i}" for i in range(_MEMBERS)]
        url = f"https://127.0.0.1:{base + number}"
        options = {
            "name": f"m{number}",
            "data-dir": self.directory / f"m{number}",
            "listen-client-urls": url,
            "advertise-client-urls": url,
            "listen-peer-urls": peers[number],
            "initial-advertise-peer-urls": peers[number],
            "initial-cluster": ",".join(f"m{i}={peer}" for i, peer in enumerate(peers)),
            "initial-cluster-state": "new",
            **{f"{kind}cert-file": files.certificate for kind in ("", "peer-")},
            **{f"{kind}key-file": files.key for kind in ("", "peer-")},
            **{f"{kind}trusted-ca-file": files.ca for kind in ("", "peer-")},
        }
        flags = ["--client-cert-auth", "--peer-client-cert-auth"]
        return ["etcd", *(f"--{name}={value}" for name, value in options.items()), *flags]

    async def _answers(self) -> bool:
        try:
            async with asyncio.timeout(_START_S), self.session(0) as session:
                await session.get(b"bench")
        except (Timeout, TimeoutError):
            return False
        return True


class _Session:
    """One client's HTTP connections."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self._http = http

    async def put(self, key: bytes, value: bytes) -> Written:
        answer = await self._post("put", {"key": _text(key), "value": _text(value)})
        revision = int(answer["header"]["revision"])
        return Written(revision, revision)

    async def get(self, key: bytes) -> Found:
        answer = await self._post("range", {"key": _text(key)})
        held = answer.get("kvs")
        return Found(int(answer["header"]["revision"]), _bytes(held[0]["value"]) if held else None)

    async def scan(self, start: bytes, limit: int) -> Page:
        answer = await self._post("range", {"key": _text(start), "range_end": _text(b"\0"), "limit": limit})
        items = [(_bytes(entry["key"]), _bytes(entry["value"])) for entry in answer.get("kvs", ())]
        return Page(int(answer["header"]["revision"]), items, answer.get("more", False))

    async def _post(self, call: str, body: dict[str, Any]) -> dict[str, Any]:
        try:
            async with self._http.post(f"/v3/kv/{call}", json=body) as response:
                document: dict[str, Any] = await response.json()
                response.raise_for_status()
                return document
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Timeout(f"etcd: {str(error) or 'no answer in time'}", ambiguous=True) from error


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text)
