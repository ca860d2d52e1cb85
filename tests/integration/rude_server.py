"""A server with a certificate of the cluster that ends every connection the moment its handshake is complete."""

import socket
import ssl
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

from bft.config import Address

_RESET = struct.pack("ii", 1, 0)


class RudeServer:
    """Sends the whole of its handshake at once and resets the connection without waiting for the other side's."""

    def __init__(self, address: Address, context: ssl.SSLContext) -> None:
        self._listening = socket.create_server((address.host, address.port))
        self._listening.settimeout(0.05)
        self._context = context
        self._stopped = Event()
        self.connections = 0

    def serve(self) -> None:
        while not self._stopped.is_set():
            try:
                connection, _ = self._listening.accept()
            except TimeoutError:
                continue
            with connection:
                self.connections += 1
                connection.settimeout(1)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                self._answer(connection)
        self._listening.close()

    def stop(self) -> None:
        self._stopped.set()

    def _answer(self, connection: socket.socket) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = self._context.wrap_bio(incoming, outgoing, server_side=True)
        try:
            incoming.write(connection.recv(1 << 16))
            tls.do_handshake()
        except ssl.SSLWantReadError:
            connection.sendall(outgoing.read())
        except OSError:
            return


@contextmanager
def rude_server(address: Address, context: ssl.SSLContext) -> Iterator[RudeServer]:
    """A rude server in a thread of its own until the block ends."""
    server = RudeServer(address, context)
    thread = Thread(target=server.serve)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join()
