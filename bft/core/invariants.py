"""Our own bugs: a broken invariant stops the replica, also under ``python -O``."""

from __future__ import annotations


class InvariantViolated(Exception):
    """The replica's own logic is wrong, or more than f replicas are faulty; it must not go on."""


def invariant(condition: object, message: str) -> None:
    """Raise ``InvariantViolated`` unless the condition is true."""
    if not condition:
        raise InvariantViolated(message)
