"""Finds the service that a configuration names."""

import importlib
from collections.abc import Mapping

from bft.statemachine.api import StateMachine


class ServiceNotFound(ValueError):
    """`app` names no usable service; the message says why in one line."""


def load_service(name: str, options: Mapping[str, object] | None = None) -> StateMachine:
    """Return a new instance of the service that `name`, as "package.module:Class", says, made with `options`.

    Raises ServiceNotFound.
    """
    module_name, colon, class_name = name.partition(":")
    parts = [*module_name.split("."), class_name]
    if not colon or not all(part.isidentifier() for part in parts):
        raise ServiceNotFound(f'app = "{name}": write it as "package.module:Class"')
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # the module is the operator's code and may raise anything when imported
        raise ServiceNotFound(f'app = "{name}": importing {module_name} failed: {_one_line(error)}') from error
    service_class = getattr(module, class_name, None)
    if service_class is None:
        raise ServiceNotFound(f'app = "{name}": module {module_name} has no {class_name}')
    if not (isinstance(service_class, type) and issubclass(service_class, StateMachine)):
        raise ServiceNotFound(f'app = "{name}": {class_name} is not a subclass of bft.statemachine.StateMachine')
    try:
        return service_class(**(options or {}))
    except Exception as error:  # as above
        raise ServiceNotFound(f'app = "{name}": {class_name}() failed: {_one_line(error)}') from error


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
