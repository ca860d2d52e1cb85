"""The SDK: `connect` gives a `Client`; `bft.sync` has its blocking twin."""

from bft.client.client import Client, ClientStatus, ReplicaStatus, connect
from bft.client.errors import ClientClosed, NoReceipt, NotAuthorised, ResultLost
from bft.client.kv import KeyValueClient
from bft.client.result import Result
from bft.client.settings import ClientSettings
from bft.statemachine.kv import CasResult, DeleteResult, Entry, RangeResult

__all__ = [
    "CasResult",
    "Client",
    "ClientClosed",
    "ClientSettings",
    "ClientStatus",
    "DeleteResult",
    "Entry",
    "KeyValueClient",
    "NoReceipt",
    "NotAuthorised",
    "RangeResult",
    "ReplicaStatus",
    "Result",
    "ResultLost",
    "connect",
]
