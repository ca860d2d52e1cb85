"""A PBFT replicated state machine service and its SDK.

    async with bft.connect("demo") as client:
        await client.put(b"greeting", b"hello")

Importing `bft` is light: what is used is imported when it is first asked for.  `__init__.pyi` has the types.
"""

from importlib import import_module
from typing import Final

__version__: Final = "0.1.0"

_HOMES: Final = {
    name: module
    for module, names in {
        "bft.client": "Client ClientClosed ClientSettings Compare Delete Event EventKind Get NoProof NoReceipt "
        "NotAuthorised Put Range Result ResultLost connect",
        "bft.errors": "ApplicationError BftError Compacted NoQuorum Overloaded SessionLost Timeout VerificationFailed",
        "bft.receipt": "Receipt",
        "bft.state_proof": "StateProof",
    }.items()
    for name in names.split()
}


def __getattr__(name: str) -> object:
    if name == "sync":
        return import_module("bft.sync")
    if name not in _HOMES:
        raise AttributeError(f"module 'bft' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, "sync"})
