"""A PBFT replicated state machine service and its SDK."""

from typing import Final

__version__: Final = "0.1.0"
