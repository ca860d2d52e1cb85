# The types of what `__init__.py` imports lazily. A stub, so that the modules below never seem to import the client.
from bft import sync as sync
from bft.client import Client as Client
from bft.client import ClientClosed as ClientClosed
from bft.client import ClientSettings as ClientSettings
from bft.client import Compare as Compare
from bft.client import Delete as Delete
from bft.client import Event as Event
from bft.client import EventKind as EventKind
from bft.client import Get as Get
from bft.client import NoProof as NoProof
from bft.client import NoReceipt as NoReceipt
from bft.client import NotAuthorised as NotAuthorised
from bft.client import Put as Put
from bft.client import Range as Range
from bft.client import Result as Result
from bft.client import ResultLost as ResultLost
from bft.client import connect as connect
from bft.errors import ApplicationError as ApplicationError
from bft.errors import BftError as BftError
from bft.errors import Compacted as Compacted
from bft.errors import NoQuorum as NoQuorum
from bft.errors import Overloaded as Overloaded
from bft.errors import SessionLost as SessionLost
from bft.errors import Timeout as Timeout
from bft.errors import VerificationFailed as VerificationFailed
from bft.receipt import Receipt as Receipt
from bft.state_proof import StateProof as StateProof

__version__: str
