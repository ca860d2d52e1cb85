"""A PBFT replicated state machine service and its SDK.

    async with bft.connect("demo") as client:
        await client.put(b"greeting", b"hello")

Importing `bft` is light: what is used is imported when it is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from bft.client import Client, ClientClosed, ClientSettings, NotAuthorised, Result, ResultLost, connect
    from bft.errors import ApplicationError, BftError, NoQuorum, Overloaded, SessionLost, Timeout

__all__ = [
    "ApplicationError",
    "BftError",
    "Client",
    "ClientClosed",
    "ClientSettings",
    "NoQuorum",
    "NotAuthorised",
    "Overloaded",
    "Result",
    "ResultLost",
    "SessionLost",
    "Timeout",
    "__version__",
    "connect",
]

__version__: Final = "0.1.0"

_IN_ERRORS: Final = frozenset({"ApplicationError", "BftError", "NoQuorum", "Overloaded", "SessionLost", "Timeout"})


def __getattr__(name: str) -> object:
    if name in __all__:
        return getattr(import_module("bft.errors" if name in _IN_ERRORS else "bft.client"), name)
    if name == "sync":  # `bft.sync.connect` without a further import
        return import_module("bft.sync")
    raise AttributeError(f"module 'bft' has no attribute {name!r}")
