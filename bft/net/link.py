"""One TLS connection: identity, HELLO, frames in, bounded and coalesced frames out."""

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Final, Protocol, cast

from bft.codec import FrameSplitter, Hello, Limits, MessageType, decode_body, encode_frame
from bft.errors import InvalidMessage
from crypto.certificates import Certificate, InvalidCertificate, Subject
from crypto.signatures import Domain
from crypto.tls import peer_certificate

HANDSHAKE_TIMEOUT_S: Final = 5.0
HELLO_TIMEOUT_S: Final = 5.0
SHUTDOWN_TIMEOUT_S: Final = 1.0
_WRITE_HIGH_BYTES: Final = 1 << 20  # more than this unsent: what follows waits, and may be dropped, in `_waiting`


class LinkRefused(Exception):
    """The other end may not have this link; `args[0]` says why, in one line."""


class LinkHandler(Protocol):
    """Whoever the link belongs to."""

    def admit(self, link: "Link") -> None:
        """Judge `link.certificate`, which TLS verified.  Raises LinkRefused."""
        ...

    def opened(self, link: "Link") -> None:
        """HELLO was exchanged; frames may follow."""
        ...

    def received(self, link: "Link", frames: list[tuple[int, bytes]]) -> None: ...

    def closed(self, link: "Link", reason: str) -> None:
        """The end of an admitted link; `reason` is empty when the other end closed it."""
        ...


class Traffic:
    """Bytes that passed on all links of one kind, TLS left out."""

    __slots__ = ("received", "sent")

    def __init__(self) -> None:
        self.sent = 0
        self.received = 0

    def document(self) -> dict[str, int]:
        return {"sent": self.sent, "received": self.received}


class LinkSettings:
    """What all links of one kind have in common."""

    __slots__ = ("bounds", "domain", "hello", "limits", "traffic", "waiting_bytes_max")

    def __init__(
        self, domain: Domain, own: Subject, limits: Limits, bounds: Mapping[int, int], *, waiting_bytes_max: int
    ) -> None:
        self.domain: Final = domain
        self.hello: Final = encode_frame(Hello(domain.cluster, domain.epoch, own.role, own.name))
        self.limits: Final = limits
        self.bounds: Final = bounds  # frame types taken, and how long
        self.waiting_bytes_max: Final = waiting_bytes_max  # frames kept for an end that does not read
        self.traffic: Final = Traffic()


class Link(asyncio.Protocol):
    """Sends HELLO at once and hands frames on only after a HELLO that agrees with the certificate."""

    def __init__(self, handler: LinkHandler, settings: LinkSettings) -> None:
        self._handler = handler
        self._settings = settings
        self._splitter = FrameSplitter(settings.bounds)
        self._transport: asyncio.Transport | None = None
        self._certificate: Certificate | None = None
        self._admitted = False
        self._closing = False
        self._reason = ""
        self._hello_timer: asyncio.TimerHandle | None = None
        self._writable = True
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self.is_open = False
        self.dropped = 0  # frames given up because the other end does not read
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def certificate(self) -> Certificate:
        """The other end's; there is one from `LinkHandler.admit` on."""
        if self._certificate is None:
            raise RuntimeError("the link has no certificate yet")
        return self._certificate

    @property
    def reason(self) -> str:
        """Why this side closed the link."""
        return self._reason

    # --- sending

    def send(self, frame: bytes) -> None:
        """Queue a frame; `flush` sends what is queued in one write.  The oldest give way when nobody reads."""
        self._waiting.append(frame)
        self._waiting_bytes += len(frame)
        while self._waiting_bytes > self._settings.waiting_bytes_max and len(self._waiting) > 1:
            self._waiting_bytes -= len(self._waiting.popleft())
            self.dropped += 1

    def flush(self) -> None:
        """Hand everything queued to the transport, unless that holds too much already."""
        waiting = self._waiting
        if not waiting or not self._writable or self._closing or self._transport is None:
            return
        self._settings.traffic.sent += self._waiting_bytes
        self._transport.write(waiting[0] if len(waiting) == 1 else b"".join(waiting))
        waiting.clear()
        self._waiting_bytes = 0

    def pause_reading(self) -> None:
        if self._transport is not None and not self._closing:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._transport is not None and not self._closing:
            self._transport.resume_reading()

    def close(self, reason: str = "") -> None:
        """Close after what was handed to the transport; nothing received from now on is looked at."""
        if not self._closing:
            self._closing = True
            self._reason = reason
            if self._transport is not None:
                self._transport.close()

    # --- called by the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=_WRITE_HIGH_BYTES)
        try:
            self._certificate = peer_certificate(transport.get_extra_info("ssl_object"))
            subject = self._certificate.subject_identity
            if subject.cluster != self._settings.domain.cluster:
                raise LinkRefused(f"certificate of cluster {subject.cluster}")
            self._handler.admit(self)
        except (LinkRefused, InvalidCertificate) as error:
            self.close(str(error))
            return
        self._admitted = True
        self._transport.write(self._settings.hello)
        self._hello_timer = asyncio.get_running_loop().call_later(HELLO_TIMEOUT_S, self.close, "no HELLO in time")

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        self._settings.traffic.received += len(data)
        try:
            frames = self._splitter.feed(data)
            if not frames:
                return
            if not self.is_open:
                self._open(*frames.pop(0))
        except (InvalidMessage, LinkRefused) as error:
            self.close(str(error))
            return
        if frames:
            self._handler.received(self, frames)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._hello_timer is not None:
            self._hello_timer.cancel()
        self._closing = True
        self.is_open = False
        self._waiting.clear()
        self._waiting_bytes = 0
        if self._admitted:
            self._handler.closed(self, self._reason)
        if not self.lost.done():
            self.lost.set_result(None)

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self.flush()

    def _open(self, frame_type: int, body: bytes) -> None:
        if frame_type != MessageType.HELLO:
            raise LinkRefused(f"the first frame is of type {frame_type} and not a HELLO")
        hello: Hello = decode_body(frame_type, body, self._settings.limits).unverified
        domain = self._settings.domain
        subject = self.certificate.subject_identity
        if (hello.cluster, hello.epoch) != (domain.cluster, domain.epoch):
            raise LinkRefused(
                f"it is in epoch {hello.epoch} of cluster {hello.cluster}, we are in epoch {domain.epoch} of "
                f"{domain.cluster}"
            )
        if (hello.role, hello.name) != (subject.role, subject.name):
            raise LinkRefused(
                f"its certificate is of {subject.role} {subject.name}, its HELLO of {hello.role} {hello.name}"
            )
        if self._hello_timer is not None:
            self._hello_timer.cancel()
        self.is_open = True
        self._handler.opened(self)
