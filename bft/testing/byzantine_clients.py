"""The catalogue of Byzantine clients, by name: `parse("flood:count=20,every_ms=50+replay")`.

A Byzantine client has a certificate of the cluster, as every correct one has, and what its colluders overheard.  It
strikes again and again; each strike is a list of requests, each with the replica that gets it.  Nothing here knows the
simulator: whoever drives it hands over a context and sends what comes back.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from bft.core.messages import Authenticated, ClientKey, ReplicaId, Request, RequestKind, SessionId
from bft.testing.behaviours.base import MS

__all__ = ["DESCRIPTIONS", "NAMES", "ClientBehaviour", "ClientContext", "parse"]

NUMBER_MAX = 2**64 - 1
_HUGE = 1 << 18  # bytes; within what the gate lets pass

Strike = list[tuple[ReplicaId, Authenticated[Request]]]


class RequestSigner(Protocol):
    """A client's own signature."""

    def sign(self, request: Request) -> Authenticated[Request]: ...


@dataclass(frozen=True, slots=True)
class ClientContext:
    """What the Byzantine client has at hand."""

    key: ClientKey
    certificate: bytes
    n: int
    signer: RequestSigner
    forge: Callable[[Request], Authenticated[Request]]  # with a signature that is none
    random: random.Random
    time_ns: int  # its wall clock
    session: SessionId  # 0: it has none yet
    number: int  # it has used every number below this
    heard: Sequence[Authenticated[Request]]  # requests of other clients, which colluding replicas showed it

    @property
    def f(self) -> int:
        return (self.n - 1) // 3

    def request(self, tag: str, *, number: int | None = None, acked: int = 0) -> Request:
        """One of its own session that no correct client could have signed."""
        operation = b"\x00byzantine " + tag.encode() + self.random.randbytes(8)
        used = self.number if number is None else number
        return Request(self.key, self.session, used, acked, RequestKind.APPLICATION, (operation,))

    def registration(self, *, nonce: int, certificate: bytes | None = None) -> Request:
        operations = (self.certificate if certificate is None else certificate,)
        return Request(self.key, 0, nonce, 0, RequestKind.REGISTER, operations)

    def to_all(self, request: Authenticated[Request]) -> Strike:
        return [(replica, request) for replica in range(self.n)]


class ClientBehaviour:
    """Strikes every `every_ns` with what `attack` makes of the context; uses up `numbers` numbers each time."""

    numbers = 1

    def __init__(self, attack: Callable[[ClientContext], Strike], *, every_ms: int, numbers: int = 1) -> None:
        self._attack = attack
        self.every_ns = every_ms * MS
        self.numbers = numbers

    def strike(self, context: ClientContext) -> Strike:
        return self._attack(context)


class Joined(ClientBehaviour):
    """All of them at each strike."""

    def __init__(self, parts: Sequence[ClientBehaviour]) -> None:
        self._parts = parts
        self.every_ns = min(part.every_ns for part in parts)
        self.numbers = max(part.numbers for part in parts)

    def strike(self, context: ClientContext) -> Strike:
        return [sent for part in self._parts for sent in part.strike(context)]


def _bad_signature(every_ms: int = 100) -> ClientBehaviour:
    """Well-formed requests under a signature that is none, its own and another client's."""

    def attack(context: ClientContext) -> Strike:
        strike = context.to_all(context.forge(context.request("unsigned")))
        for overheard in context.heard[-1:]:
            strike += context.to_all(context.forge(overheard.message))
        return strike

    return ClientBehaviour(attack, every_ms=every_ms)


def _two_faced(every_ms: int = 100) -> ClientBehaviour:
    """A different operation under the same number to each replica."""

    def attack(context: ClientContext) -> Strike:
        return [
            (replica, context.signer.sign(context.request(f"for {replica}")))
            for replica in range(context.n)
            if context.session
        ]

    return ClientBehaviour(attack, every_ms=every_ms)


def _few_backups(reach: int = 0, every_ms: int = 100) -> ClientBehaviour:
    """Each request to exactly `reach` replicas, the last ones (0: to f + 1); never to the primary of view 0."""

    def attack(context: ClientContext) -> Strike:
        if not context.session:
            return []
        request = context.signer.sign(context.request("few"))
        count = reach or context.f + 1
        return [(replica, request) for replica in range(max(1, context.n - count), context.n)]

    return ClientBehaviour(attack, every_ms=every_ms)


def _number_max(every_ms: int = 100) -> ClientBehaviour:
    """Number 2^64 - 1, with nothing acknowledged, with everything acknowledged, and as a registration's nonce."""

    def attack(context: ClientContext) -> Strike:
        strikes = [
            context.request("max", number=NUMBER_MAX),
            context.request("max acked", number=NUMBER_MAX, acked=NUMBER_MAX),
            context.registration(nonce=NUMBER_MAX),
        ]
        return context.to_all(context.signer.sign(context.random.choice(strikes)))

    return ClientBehaviour(attack, every_ms=every_ms)


def _acked_beyond(every_ms: int = 100) -> ClientBehaviour:
    """`acked` of what it never sent: the window jumps, and again, to where no number is left."""

    def attack(context: ClientContext) -> Strike:
        number = context.number * (1 << context.random.randrange(50)) % NUMBER_MAX + 1
        return context.to_all(context.signer.sign(context.request("acked", number=number, acked=number + 5)))

    return ClientBehaviour(attack, every_ms=every_ms)


def _huge(bytes_max: int = _HUGE, every_ms: int = 200) -> ClientBehaviour:
    """Operations as large as the gate lets pass."""

    def attack(context: ClientContext) -> Strike:
        request = context.request("huge")
        operations = (request.operations[0] + bytes(bytes_max),)
        return context.to_all(
            context.signer.sign(Request(request.client, request.session, request.number, 0, request.kind, operations))
        )

    return ClientBehaviour(attack, every_ms=every_ms)


def _flood(count: int = 20, every_ms: int = 250) -> ClientBehaviour:
    """Many requests at a time, to all replicas, and registrations, which no window bounds."""

    def attack(context: ClientContext) -> Strike:
        strike: Strike = []
        for index in range(count):
            request = context.request("flood", number=context.number + index)
            if not context.session or index % 2:
                request = context.registration(nonce=context.time_ns + index)
            strike += context.to_all(context.signer.sign(request))
        return strike

    return ClientBehaviour(attack, every_ms=every_ms, numbers=count)


def _flood_backups(count: int = 20, every_ms: int = 250) -> ClientBehaviour:
    """Floods the primary of view 0 with some requests and the backups, whose timers run, with others."""

    def attack(context: ClientContext) -> Strike:
        sign = context.signer.sign
        primary = [(0, sign(context.registration(nonce=context.time_ns + index))) for index in range(count)]
        others = sign(context.registration(nonce=context.time_ns + count))
        return primary + [(replica, others) for replica in range(1, context.n)]

    return ClientBehaviour(attack, every_ms=every_ms)


def _register_storm(every_ms: int = 60) -> ClientBehaviour:
    """Registers again and again: with a new nonce, with an old one, with one of the far future."""

    def attack(context: ClientContext) -> Strike:
        nonces = (context.time_ns, 1, context.time_ns + 10**15, context.random.randrange(1, 20))
        return context.to_all(context.signer.sign(context.registration(nonce=context.random.choice(nonces))))

    return ClientBehaviour(attack, every_ms=every_ms)


def _other_session(every_ms: int = 100) -> ClientBehaviour:
    """Requests in the sessions of other clients, under its own key."""

    def attack(context: ClientContext) -> Strike:
        strike: Strike = []
        for overheard in context.heard[-2:]:
            stolen = overheard.message
            request = Request(context.key, stolen.session, stolen.number + 1, stolen.number, stolen.kind, (b"stolen",))
            strike += context.to_all(context.signer.sign(request))
        return strike

    return ClientBehaviour(attack, every_ms=every_ms)


def _replay(count: int = 5, every_ms: int = 100) -> ClientBehaviour:
    """What others signed, word for word, again, to one replica each."""

    def attack(context: ClientContext) -> Strike:
        some = context.random.sample(context.heard, min(count, len(context.heard)))
        return [(context.random.randrange(context.n), overheard) for overheard in some]

    return ClientBehaviour(attack, every_ms=every_ms)


def _garbage_certificate(every_ms: int = 100) -> ClientBehaviour:
    """Registers with a certificate that is none, with another's key in it, with nothing."""

    def attack(context: ClientContext) -> Strike:
        others = context.heard[-1].message.client if context.heard else bytes(32)
        certificate = context.random.choice((b"", bytes(64), context.certificate[:-1], context.certificate + others))
        request = context.registration(nonce=context.time_ns, certificate=certificate)
        return context.to_all(context.signer.sign(request))

    return ClientBehaviour(attack, every_ms=every_ms)


_REGISTRY: dict[str, Callable[..., ClientBehaviour]] = {
    "bad_signature": _bad_signature,
    "two_faced": _two_faced,
    "few_backups": _few_backups,
    "number_max": _number_max,
    "acked_beyond": _acked_beyond,
    "huge": _huge,
    "flood": _flood,
    "flood_backups": _flood_backups,
    "register_storm": _register_storm,
    "other_session": _other_session,
    "replay": _replay,
    "garbage_certificate": _garbage_certificate,
}

NAMES = tuple(_REGISTRY)
DESCRIPTIONS = {name: (maker.__doc__ or "").split("\n")[0] for name, maker in _REGISTRY.items()}

# what the simulator's seeds choose from: each alone, and some together
SWARM = (*NAMES, "two_faced+few_backups", "register_storm+acked_beyond", "replay+other_session", "few_backups:reach=1")


def parse(text: str) -> ClientBehaviour:
    """The behaviour written as `name`, `name:key=integer,...` or several joined by `+`.  Raises ValueError."""
    parts = [_parse_one(part) for part in text.split("+")]
    return parts[0] if len(parts) == 1 else Joined(parts)


def _parse_one(text: str) -> ClientBehaviour:
    name, _, arguments = text.partition(":")
    make = _REGISTRY.get(name)
    if make is None:
        raise ValueError(f"there is no client behaviour {name!r}; there are {', '.join(NAMES)}")
    settings: dict[str, int] = {}
    for argument in filter(None, arguments.split(",")):
        key, separator, value = argument.partition("=")
        if not separator or not value.isdecimal():
            raise ValueError(f"{argument!r} is not key=integer")
        settings[key] = int(value)
    try:
        return make(**settings)
    except TypeError as error:
        raise ValueError(f"client behaviour {name!r} takes no such settings: {arguments}") from error
