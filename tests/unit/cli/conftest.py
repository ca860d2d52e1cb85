from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from bft.cli import main


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def bft(capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Carries out a command line as the console script does."""

    def carry_out(*arguments: str | Path) -> Outcome:
        capfd.readouterr()
        code = main.run([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return Outcome(code, captured.out, captured.err)

    return carry_out


@pytest.fixture(scope="session")
def _made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("clusters") / "acme"
    assert main.run(["cluster", "init", str(directory), "--replicas", "4", "--base-port", "1"]) == 0
    return directory


@pytest.fixture
def cluster(_made: Path, tmp_path: Path) -> Path:
    """A cluster's directory of the test's own; nothing listens on its ports."""
    import shutil

    return Path(shutil.copytree(_made, tmp_path / "acme"))
