"""A lock service with fencing tokens: a lock that expired cannot hurt, as what it guards tells old tokens from new.

Operations: `acquire NAME SECONDS` -> token; `renew NAME TOKEN SECONDS` -> token; `release NAME TOKEN`; `holder NAME` ->
token or nothing.  Time is the agreed time of the cluster, the same on every replica: no single clock decides anything.

A holder may sleep through its own expiry and then act as if it still held the lock: no lock service can prevent that.
So each acquisition gets a token higher than every earlier one, and the guarded resource refuses a token lower than the
highest that it saw (`Guarded`).
"""

from dataclasses import dataclass

from bft.statemachine import ApplicationError, Context, StateMachine

_SECOND_NS = 1_000_000_000
_SECONDS_MAX = 86_400


class Locks(StateMachine):
    """A lock's record is `TOKEN EXPIRY_NS HOLDER`; the token is the operation's revision, which is never used again."""

    def apply(self, ctx: Context, operation: bytes) -> bytes:
        match operation.split():
            case [b"acquire", name, seconds]:
                if _held(ctx, name) is not None:
                    raise ApplicationError("held", "somebody holds this lock")
                return _hold(ctx, name, ctx.revision, seconds)
            case [b"renew", name, token, seconds]:
                return _hold(ctx, name, _own(ctx, name, token), seconds)
            case [b"release", name, token]:
                _own(ctx, name, token)
                ctx.store.delete(name)
                return b""
            case [b"holder", name]:
                held = _held(ctx, name)
                return b"" if held is None else b"%d" % held[0]
            case _:
                raise ApplicationError("bad_operation", "acquire, renew, release or holder")


def _held(ctx: Context, name: bytes) -> tuple[int, bytes] | None:
    """Token and holder of a lock that is held now."""
    record = ctx.store.get(name)
    if record is None:
        return None
    token, expires_ns, holder = record.split(b" ", 2)
    return (int(token), holder) if int(expires_ns) > ctx.time_ns else None


def _own(ctx: Context, name: bytes, token: bytes) -> int:
    held = _held(ctx, name)
    if held is None or held != (_number(token), ctx.client):
        raise ApplicationError("lost", "this lock is not, or no longer, yours")
    return held[0]


def _hold(ctx: Context, name: bytes, token: int, seconds: bytes) -> bytes:
    duration_s = _number(seconds)
    if not 0 < duration_s <= _SECONDS_MAX:
        raise ApplicationError("bad_duration", f"a lock is held for 1..{_SECONDS_MAX} seconds")
    ctx.store.put(name, b"%d %d %s" % (token, ctx.time_ns + duration_s * _SECOND_NS, ctx.client))
    return b"%d" % token


def _number(text: bytes) -> int:
    if not text.isdigit() or len(text) > 18:
        raise ApplicationError("bad_number", "tokens and seconds are whole numbers")
    return int(text)


@dataclass(slots=True)
class Guarded:
    """A resource that a lock guards, such as a file: it knows nothing of the cluster but the tokens it was shown."""

    content: str = ""
    highest: int = 0

    def write(self, content: str, token: int) -> None:
        """Write under the lock.  Raises PermissionError when somebody acquired it since."""
        if token < self.highest:
            raise PermissionError(f"token {token} is old: {self.highest} was used since")
        self.highest = token
        self.content = content
