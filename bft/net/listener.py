"""A listening port: connections whose TLS handshake is not complete are counted, bounded and cut off after 5 s."""

import asyncio
import errno
import os
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from typing import Final

from bft.config import Address
from bft.errors import EnvironmentFailure
from bft.net.link import HANDSHAKE_TIMEOUT_S, SHUTDOWN_TIMEOUT_S, Link
from bft.net.notices import Notices

HALF_OPEN_MAX: Final = 128
HALF_OPEN_PER_ADDRESS_MAX: Final = 32
_BACKLOG: Final = 256
_OUT_OF_DESCRIPTORS_PAUSE_S: Final = 0.1


def keep_alive(connection: socket.socket | None) -> None:
    """No delay for small frames; a peer that vanished is noticed within about 15 s.

    Nothing to do for None, which is the socket of a transport that the other end has closed already.  Raises OSError.
    """
    if connection is None:
        return
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 5)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 15_000)


class Listener:
    """Accepts connections and makes a link of each that completes its handshake."""

    def __init__(
        self, name: str, address: Address, context: ssl.SSLContext, make_link: Callable[[], Link], notices: Notices
    ) -> None:
        self._name = name
        self._address = address
        self._context = context
        self._make_link = make_link
        self._notices = notices
        self._socket: socket.socket | None = None
        self._half_open: Counter[str] = Counter()  # by host; holds only hosts that have some
        self.refused: Counter[str] = Counter()  # connections, by reason

    def bind(self) -> Address:
        """Begin to listen and return where.  Raises EnvironmentFailure when the address cannot be had."""
        address = self._address
        try:
            family, kind, protocol, _, place = socket.getaddrinfo(
                address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            listening = socket.socket(family, kind, protocol)
        except OSError as error:
            raise EnvironmentFailure(f"{self._name} port {address}: {error.strerror}") from error
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(place)
            listening.listen(_BACKLOG)
        except OSError as error:
            listening.close()
            if error.errno == errno.EADDRINUSE:
                raise EnvironmentFailure(
                    f"{self._name} port {address} is in use: stop what listens there, or set listen_{self._name}"
                ) from error
            raise EnvironmentFailure(
                f"{self._name} port {address}: {os.strerror(error.errno or 0)}: set listen_{self._name}"
            ) from error
        listening.setblocking(False)
        self._socket = listening
        host, port = listening.getsockname()[:2]
        return Address(host, port)

    async def serve(self) -> None:
        """Accept until cancelled."""
        if self._socket is None:
            self.bind()
        listening = self._socket
        if listening is None:
            raise RuntimeError("not bound")
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.TaskGroup() as handshakes:
                while True:
                    try:
                        connection, place = await loop.sock_accept(listening)
                    except OSError as error:
                        # Out of descriptors, or the caller hung up before we answered: neither is a reason to stop.
                        self.refused[os.strerror(error.errno or 0)] += 1
                        await asyncio.sleep(_OUT_OF_DESCRIPTORS_PAUSE_S)
                        continue
                    host = str(place[0])
                    if not self._has_room(host):
                        self.refused["too many half-open connections"] += 1
                        connection.close()
                        continue
                    self._half_open[host] += 1
                    handshakes.create_task(self._shake_hands(connection, host))
        finally:
            listening.close()
            self._socket = None

    def _has_room(self, host: str) -> bool:
        return self._half_open[host] < HALF_OPEN_PER_ADDRESS_MAX and self._half_open.total() < HALF_OPEN_MAX

    async def _shake_hands(self, connection: socket.socket, host: str) -> None:
        link = self._make_link()
        try:
            keep_alive(connection)
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: link,
                connection,
                ssl=self._context,
                ssl_handshake_timeout=HANDSHAKE_TIMEOUT_S,
                ssl_shutdown_timeout=SHUTDOWN_TIMEOUT_S,
            )
            if link.reason:
                self.refused["identity"] += 1
                self._notices.warn(
                    f"{self._name} {host}", "connection refused", port=self._name, host=host, reason=link.reason
                )
        except OSError as error:  # TLS errors and time-outs are OSErrors
            connection.close()
            self.refused["TLS handshake"] += 1
            self._notices.warn(
                f"{self._name} {host}", "TLS handshake failed", port=self._name, host=host, reason=explain(error)
            )
        finally:
            self._half_open[host] -= 1
            if not self._half_open[host]:
                del self._half_open[host]


def explain(error: OSError) -> str:
    """One line on why a connection failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate not accepted ({error.verify_message}): is it of this cluster's CA?"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {(error.reason or str(error)).lower().replace('_', ' ')}"
    if error.errno:  # asyncio's own text repeats the address
        return os.strerror(error.errno)
    return error.strerror or str(error) or type(error).__name__
