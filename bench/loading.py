"""Classes that a user names on the command line, as module:Class."""

import importlib
import sys
from pathlib import Path
from typing import TypeVar

from bft.errors import ConfigurationError

T = TypeVar("T")


def load(option: str, name: str, base: type[T]) -> type[T]:
    """The class, a subclass of `base`.  Modules of the current directory count, as they do in the processes of a run.

    Raises ConfigurationError.
    """
    module_name, _, class_name = name.partition(":")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(f'{option} "{name}": {error}') from error
    if not (isinstance(found, type) and issubclass(found, base)):
        raise ConfigurationError(f'{option} "{name}": it is no subclass of {base.__module__}.{base.__name__}')
    return found
