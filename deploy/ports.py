"""Ports for clusters that live for minutes: demos and tests."""

import errno
import random
import socket
from contextlib import ExitStack

_LOWEST, _HIGHEST = 20_000, 32_000  # below the range from which systems draw the ports of outgoing connections
_ATTEMPTS = 200


def free_base_port(replicas: int, *, apart: int = 100, kinds: int = 3, host: str = "127.0.0.1") -> int:
    """A port for `bft cluster init --base-port` such that all ports of the cluster are free now.  Raises OSError."""
    chooser = random.SystemRandom()
    for _ in range(_ATTEMPTS):
        base = chooser.randrange(_LOWEST, _HIGHEST - kinds * apart)
        wanted = [base + kind * apart + replica for kind in range(kinds) for replica in range(replicas)]
        with ExitStack() as held:
            try:
                for port in wanted:
                    held.enter_context(socket.create_server((host, port)))
            except OSError as error:
                if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                    raise
                continue
            return base
    raise OSError(errno.EADDRINUSE, f"found no {kinds * replicas} free ports in {_ATTEMPTS} attempts")
