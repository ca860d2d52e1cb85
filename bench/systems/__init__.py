"""The systems that can be measured, by the names that `--system` takes."""

import importlib
from typing import Final

from bench.systems.interface import System
from bft.errors import ConfigurationError

PBFT: Final = "pbft"  # this project's, everything on
UNSIGNED: Final = "pbft-unsigned"  # the same without signatures: no guarantee, for comparison alone
OWN: Final = (PBFT, UNSIGNED)  # what `bench.cluster` runs
OTHERS: Final = {
    "unreplicated": "bench.systems.unreplicated:Unreplicated",
    "etcd": "bench.systems.etcd:Etcd",
}


def find(name: str) -> type[System]:
    """The adapter of a system that is not ours.  Raises ConfigurationError."""
    module_name, colon, class_name = OTHERS.get(name, name).partition(":")
    if not colon:
        known = ", ".join((*OWN, *OTHERS))
        raise ConfigurationError(f'--system "{name}": write one of {known}, or module:Class of an adapter')
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(f'--system "{name}": {error}') from error
    if not (isinstance(found, type) and issubclass(found, System)):
        raise ConfigurationError(f'--system "{name}": it is no subclass of bench.systems.interface.System')
    return found
