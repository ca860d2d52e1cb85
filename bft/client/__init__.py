"""The SDK: `connect` gives a `Client`; `bft.sync` has its blocking twin."""

from bft.client.client import Client, connect
from bft.client.errors import ClientClosed, NoProof, NoReceipt, NotAuthorised, ResultLost
from bft.client.kv import KeyValueClient, ProvenEntry
from bft.client.proving import Stored
from bft.client.result import Consistency, Read, Result
from bft.client.retry import RetryPolicy
from bft.client.settings import ClientSettings
from bft.client.status import ClientStatus, ReplicaStatus
from bft.statemachine.kv import (
    CasResult,
    Compare,
    Delete,
    DeleteResult,
    Entry,
    Event,
    EventKind,
    Get,
    Put,
    Range,
    RangeResult,
    StoreStatus,
    TxnOperation,
    TxnResult,
)

__all__ = [
    "CasResult",
    "Client",
    "ClientClosed",
    "ClientSettings",
    "ClientStatus",
    "Compare",
    "Consistency",
    "Delete",
    "DeleteResult",
    "Entry",
    "Event",
    "EventKind",
    "Get",
    "KeyValueClient",
    "NoProof",
    "NoReceipt",
    "NotAuthorised",
    "ProvenEntry",
    "Put",
    "Range",
    "RangeResult",
    "Read",
    "ReplicaStatus",
    "Result",
    "ResultLost",
    "RetryPolicy",
    "StoreStatus",
    "Stored",
    "TxnOperation",
    "TxnResult",
    "connect",
]
