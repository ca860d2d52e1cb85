"""Where a port listens or is reached: `host:port`, an IPv6 address in brackets."""

import re
from dataclasses import dataclass
from typing import Self

_ADDRESS = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.%]+)\]|(?P<host>[^\s:\[\]/@]+)):(?P<port>[0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class Address:
    """A TCP address; `str` gives the form that `parse` reads."""

    host: str
    port: int  # 0..65535; 0 lets the system choose, which makes sense only for listening in tests

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "host:port" or "[::1]:port".  Raises ValueError."""
        match = _ADDRESS.fullmatch(text)
        if match is None or int(match["port"]) > 65535:
            raise ValueError(f'"{text}" is no address: write it as "host:port"')
        return cls(match["six"] or match["host"], int(match["port"]))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
