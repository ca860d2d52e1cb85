"""Scripts that drive one replica and say what it does: `tests/datadriven/*.txt`.

A block is commands, `----`, and what they print.  `BFT_REWRITE=1 pytest tests/datadriven` writes what they print now;
read the difference before you commit it.
"""

import os
from pathlib import Path

import pytest

from tests.datadriven.stage import Stage

_SCRIPTS = sorted(Path(__file__).parent.glob("*.txt"))


def played(text: str) -> str:
    """The script with what its commands print now."""
    stage = Stage()
    blocks = []
    for block in text.strip("\n").split("\n\n"):
        head = block.split("\n----")[0]
        commands = [line for line in head.splitlines() if not line.startswith("#")]
        if not commands:
            blocks.append(head)
            continue
        printed = [line for command in commands for line in stage.run(command)]
        blocks.append("\n".join([head, "----", *printed]))
    return "\n\n".join(blocks) + "\n"


@pytest.mark.parametrize("script", _SCRIPTS, ids=lambda path: path.stem)
def test_the_replica_does_what_the_script_says(script):
    text = script.read_text()
    now = played(text)
    if os.environ.get("BFT_REWRITE"):
        script.write_text(now)
    else:
        assert now == text


def test_a_script_that_expects_something_else_fails():
    script = "replica id=1\n----\nbroadcast nothing\n"
    assert played(script) != script


def test_a_command_with_a_word_that_it_does_not_take_is_an_error():
    with pytest.raises(ValueError, match="takes no colour"):
        played("replica id=1 colour=red\n----\n")
