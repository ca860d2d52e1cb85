"""Receipts from real nodes: through the SDK, through the command line, with a replica that signs badly."""

import asyncio
import json
import os
import sys
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

import bft
from bft.cli import main
from bft.core import effects as fx
from bft.core.messages import Reply
from bft.errors import ExitCode
from bft.statemachine import kv
from bft.statemachine.results import Ok
from tests.integration.harness import EffectsFilter, add_client, make_cluster, replica_config, running, running_cluster


async def cli(*arguments: str | Path) -> int:
    return await asyncio.to_thread(main.run, [str(argument) for argument in arguments])


def public_half(directory: Path, to: Path) -> Path:
    """All that a verifier needs: not even the CA's certificate."""
    to.mkdir()
    (to / "cluster.toml").write_bytes((directory / "cluster.toml").read_bytes())
    return to


async def receipt_of(result: bft.Result) -> bft.Receipt:
    """The receipt, once enough replicas have answered."""
    async with asyncio.timeout(20):
        while True:
            try:
                return result.receipt
            except bft.NoReceipt:
                await asyncio.sleep(0.01)


def signs_badly(effects: list[fx.Effect], _: object) -> list[fx.Effect]:
    """Right outcomes, wrong signatures: no client notices before it asks for a receipt."""

    def spoil(effect: fx.Effect) -> fx.Effect:
        if not isinstance(effect, fx.SendReply) or not isinstance(effect.reply, Reply):
            return effect
        result = replace(effect.reply.result, signature=bytes(64))
        return replace(effect, reply=replace(effect.reply, result=result))

    return [spoil(effect) for effect in effects]


async def test_every_result_of_many_callers_is_proven_offline(tmp_path):
    make_cluster(tmp_path, durability="memory")
    public = public_half(tmp_path, tmp_path / "public")
    async with running_cluster(tmp_path), bft.connect(tmp_path, identity="test", timeout=60) as client:
        operations = [kv.encode_put(b"%d" % i, b"v") for i in range(200)]
        results = await asyncio.gather(*(client.call(operation) for operation in operations))
    receipts = [result.receipt for result in results]
    for operation, result, receipt in zip(operations, results, receipts, strict=True):
        receipt.save(tmp_path / "receipt")
        proven = bft.Receipt.load(tmp_path / "receipt").verify(public)
        assert (proven.operation, proven.result, proven.seq) == (operation, Ok(result.value), result.seq)
        assert len(proven.signers) == 2
    assert len({receipt.request for receipt in receipts}) < len(receipts)  # bundles


async def test_a_replica_that_signs_badly_does_not_keep_others_from_proving(tmp_path):
    make_cluster(tmp_path, durability="memory")
    filters: list[EffectsFilter | None] = [signs_badly, None, None, None]
    async with AsyncExitStack() as stack:
        for replica in range(4):
            await stack.enter_async_context(running(replica_config(tmp_path, replica), filters[replica]))
        async with bft.connect(tmp_path, identity="test", timeout=60) as client:
            for number in range(20):
                result = await client.call(kv.encode_put(b"k", b"%d" % number))
                receipt = await receipt_of(result)
                assert 0 not in receipt.verify(tmp_path).signers


async def test_the_example_of_the_documentation_runs_as_printed(tmp_path):
    document = (Path(__file__).parents[2] / "docs" / "receipts.md").read_text()
    (tmp_path / "example.py").write_text(document.split("```python\n")[1].split("```")[0])
    (tmp_path / "mycluster").mkdir()
    make_cluster(tmp_path / "mycluster", durability="memory")
    add_client(tmp_path / "mycluster", "default")
    async with running_cluster(tmp_path / "mycluster"):
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "example.py",
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(Path(bft.__file__).parents[1])},
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
    assert process.returncode == 0
    assert b"greeting" in out


async def test_the_command_line_saves_and_verifies_what_it_did(tmp_path, capfd):
    make_cluster(tmp_path, durability="memory")
    public = public_half(tmp_path, tmp_path / "public")
    where = ("--cluster", tmp_path, "--identity", "test", "--receipt", tmp_path / "r")
    async with running_cluster(tmp_path):
        for command, code, asked, told in (
            (("put", "greeting", "hello"), ExitCode.OK, "put 'greeting' 'hello'", ""),
            (("get", "greeting"), ExitCode.OK, "get 'greeting'", "'hello'"),
            (
                ("cas", "greeting", "--expect", "x", "--new", "y"),
                ExitCode.FAILED,
                "cas 'greeting' 'x' 'y'",
                "[False, 0",
            ),
            (("del", "greeting"), ExitCode.OK, "delete 'greeting'", "[True, "),
        ):
            assert await cli("kv", *command, *where) == code
            capfd.readouterr()
            assert await cli("receipt", "verify", tmp_path / "r", "--cluster", public) == ExitCode.OK
            shown = capfd.readouterr().out
            assert shown.startswith("valid: replicas ")
            assert f"asked            {asked}\n" in shown
            assert told in shown
        assert (
            await cli("kv", "put", "x", "1", *where[:4], "--receipt", tmp_path / "none" / "r") == ExitCode.ENVIRONMENT
        )
        assert await cli("kv", "get", "x", *where[:4]) == ExitCode.FAILED  # it was not even asked
    assert await cli("receipt", "verify", tmp_path / "r", "--cluster", public / "cluster.toml", "--json") == ExitCode.OK
    document = json.loads(capfd.readouterr().out)
    assert (document["valid"], document["cluster"], len(document["signers"])) == (True, "test-0badcafe", 2)


@pytest.mark.parametrize("commands", [("put", "k", "v"), ("get", "k")])
async def test_the_command_line_says_when_what_it_did_cannot_be_proven(tmp_path, capfd, monkeypatch, commands):
    make_cluster(tmp_path, durability="memory")
    monkeypatch.setattr("bft.cli.recording.LATE_REPLIES_S", 0.1)
    async with AsyncExitStack() as stack:
        for replica in range(4):  # more than f: this cluster is lost, and the client does not see it
            await stack.enter_async_context(running(replica_config(tmp_path, replica), signs_badly))
        where = ("--cluster", tmp_path, "--identity", "test")
        assert await cli("kv", "put", "k", "v", *where) == ExitCode.OK
        capfd.readouterr()
        assert await cli("kv", *commands, *where, "--receipt", tmp_path / "r") == ExitCode.VERIFICATION
    captured = capfd.readouterr()
    assert captured.out.startswith("revision" if commands[0] == "put" else "v")
    assert "carried out, but cannot be proven" in captured.err
    assert captured.err.count("\n") == 1
    assert not (tmp_path / "r").exists()
