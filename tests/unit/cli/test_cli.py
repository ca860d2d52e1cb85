"""The command line as a whole: help, versions, and how failures look."""

import os
import subprocess
import sys

import click
import pytest

from bft import __version__
from bft.cli import main
from bft.errors import ExitCode

GROUPS = {
    "cluster": ("init", "up", "down", "status", "logs"),
    "replica": ("run",),
    "kv": ("put", "get", "del", "range", "cas"),
    "bench": ("run", "suite"),
    "ca": ("show", "issue"),
    "evidence": ("list", "verify"),
    "receipt": ("verify",),
}
COMMANDS = [(group, command) for group, commands in GROUPS.items() for command in commands] + [("doctor",)]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_explains_itself_with_an_example(bft, command):
    result = bft(*command, "--help")
    assert result.code == ExitCode.OK
    assert "Example" in result.out
    assert f"bft {' '.join(command)}" in result.out.split("Example")[1]


def test_the_help_of_bft_lists_every_group(bft):
    result = bft("--help")
    assert result.code == ExitCode.OK
    assert all(f"  {name}" in result.out for name in (*GROUPS, "doctor", "sim"))


def test_help_loads_nothing_but_the_command_line():
    """`bft --help` must come at once: no cryptography, no rich, no event loop."""
    code = (
        "import sys; from bft.cli.main import run; run(['--help']); "
        "print([m for m in ('rich', 'cryptography', 'asyncio', 'nacl', 'aiohttp') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=_environment())
    assert done.stdout.splitlines()[-1] == "[]"


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def test_the_version_is_the_packages(bft):
    assert __version__ in bft("--version").out


@pytest.mark.parametrize(
    "arguments",
    [("nonsense",), ("cluster", "nonsense"), ("cluster", "init"), ("cluster", "init", "x", "--replicas", "3")],
    ids=["no such group", "no such command", "missing argument", "value out of range"],
)
def test_a_senseless_command_line_is_one_line_and_exit_code_2(bft, arguments):
    result = bft(*arguments)
    assert result.code == ExitCode.USAGE
    assert_one_error_line(result.err)
    assert "--help" in result.err


def test_every_exit_code_is_explained_in_the_help(bft):
    text = bft("--help").out
    assert all(f"  {code.value}  " in text for code in ExitCode)


def test_an_interrupt_is_one_line_and_exit_code_130(bft, monkeypatch):
    def interrupted(*_: object, **__: object) -> None:
        raise click.Abort

    monkeypatch.setattr(main.bft, "main", interrupted)
    result = bft("cluster")
    assert result.code == 130
    assert result.err == "error: interrupted\n"


def test_a_failure_of_the_system_is_one_line_with_the_file(bft, monkeypatch):
    def failing(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "/some/file")

    monkeypatch.setattr(main.bft, "main", failing)
    result = bft("cluster")
    assert result.code == ExitCode.ENVIRONMENT
    assert result.err == "error: /some/file: Permission denied\n"


def assert_one_error_line(text: str) -> None:
    assert text.startswith("error: ")
    assert text.count("\n") == 1
    assert text.endswith("\n")
