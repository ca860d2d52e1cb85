"""Reads TOML tables key by key: types checked, unknown keys refused with the key that was probably meant."""

import tomllib
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from bft.config.addresses import Address
from bft.errors import ConfigurationError, EnvironmentFailure


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file.  Raises ConfigurationError, or EnvironmentFailure when it cannot be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise EnvironmentFailure(f"{path}: no such file; `bft cluster init` makes a cluster's files") from error
    except OSError as error:
        raise EnvironmentFailure(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: not valid TOML: {' '.join(str(error).split())}") from error


class Table:
    """One table of a file, in which only `keys` may appear.

    `origin` says in messages where the values are from: the file, and the table within.  `overrides` are texts that
    replace values; each has an origin of its own.
    """

    def __init__(
        self,
        values: Mapping[str, Any],
        origin: str,
        keys: Collection[str],
        overrides: Mapping[str, tuple[str, str]] | None = None,
    ) -> None:
        for key in values:
            if key not in keys:
                near = get_close_matches(key, keys, n=1, cutoff=0.0)
                hint = f'; did you mean "{near[0]}"?' if near else ""
                raise ConfigurationError(f'{origin}: unknown key "{key}"{hint}')
        self._values = values
        self._origin = origin
        self._overrides = overrides or {}

    def __contains__(self, key: str) -> bool:
        return key in self._values or key in self._overrides

    def fail(self, key: str, problem: str) -> ConfigurationError:
        """The error that says what is wrong with the value of `key`."""
        if key in self._overrides:
            return ConfigurationError(f"{self._overrides[key][0]}: {problem}")
        return ConfigurationError(f'{self._origin}: "{key}" {problem}')

    def text(self, key: str, default: str | None = None) -> str:
        """A text that is not empty."""
        value = self._get(key, default)
        if not isinstance(value, str) or not value:
            raise self.fail(key, "must be a text in quotes that is not empty")
        return value

    def integer(self, key: str, default: int | None = None, *, least: int = 0) -> int:
        value = self._get(key, default)
        if isinstance(value, str) and key in self._overrides and value.isdecimal():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 2**63:
            raise self.fail(key, f"must be a whole number from {least} up")
        return value

    def flag(self, key: str, *, default: bool) -> bool:
        value = self._get(key, default)
        if not isinstance(value, bool):
            raise self.fail(key, "must be true or false")
        return value

    def says(self, key: str, word: str, *, default: str) -> bool:
        """Whether the value of `key` is `word`."""
        return bool(self._get(key, default) == word)

    def choice(self, key: str, choices: Collection[str], default: str) -> str:
        value = self._get(key, default)
        if value not in choices:
            raise self.fail(key, f"must be one of {', '.join(choices)}")
        return str(value)

    def address(self, key: str, default: Address | None = None) -> Address:
        value = self._get(key, None if default is None else str(default))
        if not isinstance(value, str):
            raise self.fail(key, 'must be an address as "host:port"')
        try:
            return Address.parse(value)
        except ValueError as error:
            raise self.fail(key, f"is wrong: {error}") from error

    def path(self, key: str, base: Path, default: str | None = None) -> Path:
        """A path; a relative one starts at `base`."""
        return base / self.text(key, default)

    def tables(self, key: str) -> list[Mapping[str, Any]]:
        value = self._get(key, None)
        if not isinstance(value, list) or not value or not all(isinstance(item, dict) for item in value):
            raise self.fail(key, f"must be one table or more, each headed [[{key}]]")
        return value

    def table(self, key: str) -> Mapping[str, Any]:
        """A table that may be absent."""
        value = self._values.get(key, {})
        if not isinstance(value, dict):
            raise self.fail(key, f"must be a table, headed [{key}]")
        return value

    def _get(self, key: str, default: object) -> Any:
        if key in self._overrides:
            return self._overrides[key][1]
        value = self._values.get(key, default)
        if value is None:
            raise ConfigurationError(f'{self._origin}: "{key}" is missing')
        return value
