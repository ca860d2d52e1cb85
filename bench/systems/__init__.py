"""The systems that can be measured, by the names that `--system` takes."""

from typing import Final

from bench.loading import load
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
    if ":" not in (place := OTHERS.get(name, name)):
        known = ", ".join((*OWN, *OTHERS))
        raise ConfigurationError(f'--system "{name}": write one of {known}, or module:Class of an adapter')
    return load("--system", place, System)  # type: ignore[type-abstract]  # what is found is concrete
