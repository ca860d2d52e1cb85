"""How fast this machine's cryptography can be at best, and how much of a run's processor time that is."""

import hashlib
import ssl
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from crypto import tls
from crypto.ca import CERTIFICATE_FILE, CertificateAuthority
from crypto.keys import PrivateKey, verify

_ROUNDS: Final = 5
_ROUND_S: Final = 0.04
_MESSAGE: Final = bytes(200)  # about a vote
_RECORD: Final = bytes(1024)


def crypto_floor() -> dict[str, float]:
    """Microseconds of one core for each primitive: the best of several rounds, with the functions that replicas use.

    A handshake is both ends' work together, a record of 1 KiB its sealing and its opening.
    """
    key = PrivateKey.generate()
    signature, public = key.sign(_MESSAGE), key.public.raw
    block = bytes(4096)
    with tempfile.TemporaryDirectory(prefix="bft-bench-floor-") as directory:
        server, client = _contexts(Path(directory))
    ends = _Ends(server, client)
    ends.shake_hands()
    return {
        "sign_us": _microseconds(lambda: key.sign(_MESSAGE)),
        "verify_us": _microseconds(lambda: verify(public, _MESSAGE, signature)),
        "sha256_4k_us": _microseconds(lambda: hashlib.sha256(block).digest()),
        "tls_handshake_us": _microseconds(lambda: _Ends(server, client).shake_hands()),
        "tls_record_1k_us": _microseconds(ends.pass_record),
    }


def share(floor: Mapping[str, float], replicas: Sequence[Mapping[str, Any]], cpu_us: float) -> dict[str, float | None]:
    """What the signatures and the encryption of one operation cost all replicas at best, and what the run took.

    `replicas` are a result's; those that were not counted are left out of the floor.
    """
    counted = [r for r in replicas if r.get("signatures_made_per_operation") is not None]
    signatures = sum(
        r["signatures_made_per_operation"] * floor["sign_us"]
        + r["signatures_verified_per_operation"] * floor["verify_us"]
        for r in counted
    )
    # What goes to peers is opened by replicas, too; what goes to clients is not.
    kilobytes = sum(
        r["peer_bytes_sent_per_operation"] + r["client_bytes_sent_per_operation"] / 2 for r in counted
    ) / len(_RECORD)
    encryption = kilobytes * floor["tls_record_1k_us"]
    least = signatures + encryption
    return {
        "signatures_us": round(signatures, 1),
        "tls_us": round(encryption, 1),
        "ratio": round(cpu_us / least, 2) if least else None,
    }


class _Ends:
    """The two ends of a link, in memory."""

    def __init__(self, server: ssl.SSLContext, client: ssl.SSLContext) -> None:
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._server = server.wrap_bio(to_server, to_client, server_side=True)
        self._client = client.wrap_bio(to_client, to_server)

    def shake_hands(self) -> None:
        waiting = [self._client, self._server]
        while waiting:
            for end in list(waiting):
                try:
                    end.do_handshake()
                except ssl.SSLWantReadError:
                    continue
                waiting.remove(end)

    def pass_record(self) -> None:
        self._client.write(_RECORD)
        self._server.read(len(_RECORD))


def _contexts(directory: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """As two replicas have them, of a CA that nobody else knows."""
    ca = CertificateAuthority.create(directory, "floor")
    key = PrivateKey.generate()
    key.save(directory / "replica.key")
    certificate = directory / "replica.crt"
    certificate.write_bytes(ca.issue_replica(0, key.public, ["127.0.0.1"]))
    files = {"certificate": certificate, "key": directory / "replica.key", "ca": directory / CERTIFICATE_FILE}
    return tls.server_context(**files), tls.client_context(**files)


def _microseconds(call: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(_ROUNDS):
        count, begin = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - begin) < _ROUND_S:
            for _ in range(10):
                call()
            count += 10
        best = min(best, elapsed / count * 1e6)
    return round(best, 2)
