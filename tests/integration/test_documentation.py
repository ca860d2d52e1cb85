"""What README.md and the SDK's docstrings show runs against a real cluster, exactly as printed."""

import ast
import asyncio
import doctest
import inspect
import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

import bft
from bft.client import Client
from tests.integration.harness import add_client, make_cluster
from tests.integration.test_sdk_nodes import cluster_on_a_thread

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory in which `mycluster` is a running cluster, as the README leaves its reader."""
    directory = tmp_path_factory.mktemp("readme")
    made = directory / "mycluster"
    made.mkdir()
    make_cluster(made, durability="memory", checkpoint_interval=4, window=8)  # so that there is something to prove
    add_client(made, "default")
    with cluster_on_a_thread(made):
        yield directory


def snippets() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("snippet", snippets(), ids=range(len(snippets())))
def test_a_snippet_of_the_readme_runs_as_it_is_printed_and_prints_what_it_says(home, snippet):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", snippet]
    ran = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == re.findall(r"  # prints (.*)$", snippet, re.MULTILINE)


def test_the_readme_has_snippets_that_say_what_they_print():
    assert sum("# prints" in snippet for snippet in snippets()) >= 2


@pytest.mark.parametrize("line", re.findall(r"^bft kv [^\n|]*--cluster mycluster\b", README, re.MULTILINE))
def test_a_kv_command_of_the_readme_is_one_that_there_is(home, line):
    """Reading without an answer ends with 1: the order of the README's lines is not kept here."""
    if shutil.which("bash") is None:
        pytest.skip("the README's lines are for a shell")
    script = f'bft() {{ {sys.executable} -m bft.cli.main "$@"; }}; number=0; {line}'
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        ["bash", "-c", script], cwd=home, env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert ran.returncode in (0, 1), ran.stderr


def documented() -> list[str]:
    methods = inspect.getmembers(Client, inspect.isfunction)
    return [name for name, method in methods if not name.startswith("_") and ">>>" in (method.__doc__ or "")]


def test_every_public_method_of_a_client_has_an_example():
    methods = inspect.getmembers(Client, inspect.isfunction)
    # `Links` and its owner are what the client is to its own parts.
    internal = {"send", "is_up", "trouble", "on_up", "on_down", "on_frames", "close"}
    assert set(documented()) >= {name for name, _ in methods if not name.startswith("_")} - internal


@pytest.mark.parametrize("name", documented())
def test_the_example_of_a_method_does_what_it_says(home, name):
    text = inspect.cleandoc(getattr(Client, name).__doc__)
    examples = doctest.DocTestParser().get_examples(text)

    async def run_all() -> None:
        async with bft.connect(home / "mycluster", timeout=60) as client:
            for key in [key async for key, _ in client.scan()]:
                await client.delete(key)
            await asyncio.wait_for(run_examples(client, examples), 100)

    asyncio.run(run_all())


async def run_examples(client: Client, examples: list[doctest.Example]) -> None:
    """As doctest would at a prompt that awaits."""
    told: list[str] = []
    names: dict[str, object] = {
        "client": client,
        "bft": bft,
        "print": lambda *words: told.append(" ".join(map(str, words))),
    }
    for example in examples:
        told.clear()
        try:
            code = compile(example.source.strip(), "<example>", "eval", flags=_AWAIT)
        except SyntaxError:
            code = compile(example.source, "<example>", "exec", flags=_AWAIT)
        value = eval(code, names)  # noqa: S307 (the project's own documentation)
        if inspect.iscoroutine(value):
            value = await value
        if value is not None:
            told.append(repr(value))
        assert "\n".join(told) == textwrap.dedent(example.want).rstrip("\n"), example.source


_AWAIT = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
