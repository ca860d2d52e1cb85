"""HTTP for people and monitoring: /healthz, /status and /metrics; /phases for benchmarks.

Plain HTTP without login, hence meant for 127.0.0.1: it shows, and changes, nothing that has to be protected more.
"""

import errno
import os
from collections.abc import Callable
from typing import Any, TypeAlias

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest

from bft.admin.metrics import StatusCollector
from bft.config import Address
from bft.errors import EnvironmentFailure

StatusSource: TypeAlias = Callable[[], dict[str, Any]]


class AdminServer:
    """Serves what `status` and `phases` return."""

    def __init__(self, address: Address, status: StatusSource, *, phases: StatusSource = dict) -> None:
        self._address = address
        self._status = status
        self._phases = phases
        self._registry = CollectorRegistry()
        self._registry.register(StatusCollector(status))
        application = web.Application()
        application.router.add_get("/healthz", self._on_healthz)
        application.router.add_get("/status", self._on_status)
        application.router.add_get("/metrics", self._on_metrics)
        application.router.add_get("/phases", self._on_phases)
        self._runner = web.AppRunner(application, access_log=None, handle_signals=False)

    async def start(self) -> None:
        """Begin to serve.  Raises EnvironmentFailure when the address cannot be had."""
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._address.host, self._address.port, shutdown_timeout=1.0).start()
        except OSError as error:
            in_use = error.errno == errno.EADDRINUSE
            problem = " is in use: stop what listens there" if in_use else f": {os.strerror(error.errno or 0)}"
            raise EnvironmentFailure(f"admin port {self._address}{problem}, or set listen_admin") from error

    async def stop(self) -> None:
        """Stop serving; idempotent."""
        await self._runner.cleanup()

    async def _on_healthz(self, _: web.Request) -> web.Response:
        """200 as long as the replica serves; whether the *cluster* makes progress is for /status to say."""
        return web.json_response({"status": "ok"})

    async def _on_status(self, _: web.Request) -> web.Response:
        return web.json_response(self._status())

    async def _on_phases(self, _: web.Request) -> web.Response:
        return web.json_response(self._phases())

    async def _on_metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._registry), content_type="text/plain", charset="utf-8")
