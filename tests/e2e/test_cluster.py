"""Real replica processes, handled through the command line and the SDK.

Nothing here claims how fast anything is: tests wait for what must happen, and the test's own time-out is the bound.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from bft.client import connect
from bft.codec import Hello, encode_frame
from bft.config import load_cluster
from bft.errors import ExitCode
from crypto import tls
from crypto.certificates import Role
from deploy import launcher
from tests.e2e.harness import ENVIRONMENT, ROOT, Cluster, kill, load, read_back, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e")]  # one after the other: each has four processes

FOUR_GIB_HEADER = b"\xff\xff\xff\xff\x01\x20"
GARBAGE = b"\x00\x00\x00\x10\x01\x20" + b"\xc1" * 14


# --- a day in the life


def test_a_cluster_goes_up_serves_and_goes_down(cluster: Cluster) -> None:
    where = ("--cluster", cluster.directory)
    assert "answers" in cluster.up()
    assert cluster.bft("kv", "put", "greeting", "hello", *where).startswith("revision")
    assert cluster.bft("kv", "get", "greeting", *where) == "hello\n"
    cluster.bft("kv", "cas", "greeting", "--expect", "hello", "--new", "goodbye", *where)
    cluster.bft("kv", "cas", "greeting", "--expect", "hello", "--new", "never", *where, code=ExitCode.FAILED)
    assert cluster.bft("kv", "range", *where) == "greeting\tgoodbye\n"
    cluster.bft("kv", "del", "greeting", *where)
    cluster.bft("kv", "get", "greeting", *where, code=ExitCode.FAILED)
    status = cluster.status()
    assert status["progress"]
    assert [replica["pid"] for replica in status["replicas"]] == [cluster.pid(i) for i in range(4)]
    assert {(replica["reachable"], replica["view"], replica["primary"]) for replica in status["replicas"]} == {
        (True, 0, 0)
    }
    processes = [launcher.find(cluster.replica(i)) for i in range(4)]
    assert cluster.bft("cluster", "down", cluster.directory).count("stopped") == 4
    assert not any(launcher.is_replica(process, cluster.replica(i)) for i, process in enumerate(processes) if process)
    assert cluster.status()["reachable"] == 0


def test_the_key_value_commands_do_what_they_say(running: Cluster) -> None:
    where = ("--cluster", running.directory)
    running.bft("kv", "put", "user/ada", "1", "--ttl", "60", *where)
    running.bft("kv", "put", "user/bob", "\x1b[2J", *where)
    page = json.loads(running.bft("kv", "range", "--prefix", "user/", "--limit", "1", "--json", *where))
    assert ([item["key"] for item in page["items"]], page["next"]) == (["user/ada"], "user/bob")
    assert page["items"][0]["expires_ns"] > 0
    swap = ("kv", "txn", "--if", "value user/ada == 1", "--then", "put user/ada '2 3'", "--else", "get user/ada")
    done = json.loads(running.bft(*swap, "--json", *where))
    assert done["results"] == [{"revision": done["revision"]}]
    assert "2 3" in running.bft(*swap, *where, code=ExitCode.FAILED)
    watched = running.bft("kv", "watch", "user/", "--since", str(page["revision"]), "--count", "2", *where)
    kinds = [line.split("\t")[1:] for line in watched.splitlines()]
    assert kinds == [["put", "user/bob", "\\x1b[2J"], ["put", "user/ada", "2 3"]]
    event = json.loads(running.bft("kv", "watch", "user/", "--since", "1", "--count", "1", "--json", *where))
    assert (event["kind"], event["key"], event["version"]) == ("put", "user/ada", 1)
    assert json.loads(running.bft("kv", "status", "--json", *where))["revision"] == done["revision"]
    assert running.bft("call", "--hex", "9203c408757365722f626f62", "--print-hex", *where).startswith("92c3")
    assert "result_base64" in running.bft("call", "--hex", "9108", "--json", *where)
    too_large = running.directory / "too-large"
    too_large.write_bytes(bytes(2 << 20))
    assert "at most" in running.bft("call", "--file", too_large, *where, code=ExitCode.USAGE)
    for branch in ("put x 1 ttl=-1", "put x 1 ttl=nan"):
        assert "a ttl is" in running.bft("kv", "txn", "--then", branch, *where, code=ExitCode.USAGE)
    never = ("kv", "txn", "--if", f"mod x == {1 << 64}", "--then", "get x")
    assert "64 bits" in running.bft(*never, *where, code=ExitCode.USAGE)
    history = running.directory / "history.receipt"
    running.bft("call", "--hex", "940701c400c0", "--json", "--receipt", history, *where)
    assert "events 1 '' None" in running.bft("receipt", "verify", history, *where)
    assert "bad_operation: not an operation of the key-value service" in running.bft(
        "call", "nonsense", *where, code=ExitCode.FAILED
    )


def test_up_starts_only_what_does_not_run(running: Cluster) -> None:
    before = [running.pid(i) for i in range(4)]
    kill(running, 2)
    out = running.up()
    after = [running.pid(i) for i in range(4)]
    assert out.count("runs already") == 3
    assert after[2] != before[2]
    assert [after[i] for i in (0, 1, 3)] == [before[i] for i in (0, 1, 3)]


def test_what_was_acknowledged_survives_a_kill_of_all_replicas(running: Cluster) -> None:
    where = ("--cluster", running.directory)
    running.bft("kv", "put", "greeting", "hello", *where)
    for replica in range(4):
        kill(running, replica)
    running.up()
    assert running.bft("kv", "get", "greeting", *where) == "hello\n"


def test_the_start_script_runs_one_replica(cluster: Cluster) -> None:
    environment = ENVIRONMENT | {"BFT": str(cluster.directory / "bft")}
    (cluster.directory / "bft").write_text(f'#!/bin/sh\nexec {sys.executable} -m bft.cli.main "$@"\n')
    (cluster.directory / "bft").chmod(0o700)
    command = [ROOT / "deploy" / "replica.sh", cluster.replica(1)]
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: cluster.status()["replicas"][1]["reachable"])
        assert cluster.status()["replicas"][1]["pid"] == process.pid
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == ExitCode.OK


# --- kill -9 under load


@pytest.mark.parametrize("victim", [0, 3], ids=["primary", "backup"])
async def test_a_killed_replica_costs_no_client_an_error(running: Cluster, victim: int) -> None:
    async with connect(running.directory, timeout=60.0) as client:
        async with load(client) as work:
            await work.grows(by=200)
            kill(running, victim)
            await work.grows(by=400)
        held = await read_back(client)
    assert {key: held.get(key) for key in work.done} == work.done
    status = running.status()
    assert status["progress"]
    assert not status["replicas"][victim]["reachable"]
    assert {replica["primary"] != victim for replica in status["replicas"] if replica["reachable"]} == {True}


async def test_a_killed_replica_catches_up_when_it_is_started_again(running: Cluster) -> None:
    async with connect(running.directory, timeout=60.0) as client, load(client) as work:
        await work.grows(by=100)
        kill(running, 2)
        await work.grows(by=200)
        await asyncio.to_thread(running.up)
        await work.grows(by=100)
    await asyncio.to_thread(wait_until, lambda: same_state(running))


async def test_load_goes_on_when_the_primary_is_stopped_and_continued(running: Cluster) -> None:
    """SIGSTOP is a replica that is merely slow: it comes back and believes that it is still primary."""
    pid = running.pid(0)
    async with connect(running.directory, timeout=60.0) as client, load(client) as work:
        await work.grows(by=100)
        os.kill(pid, signal.SIGSTOP)
        try:
            await work.grows(by=200)
        finally:
            os.kill(pid, signal.SIGCONT)
        await work.grows(by=100)
    await asyncio.to_thread(wait_until, lambda: same_state(running))


# --- bad input


def test_garbage_without_tls_is_counted_and_harms_nobody(shared: Cluster) -> None:
    config = load_cluster(shared.directory)
    for address in (config.replicas[0].peer, config.replicas[0].client):
        for garbage in (GARBAGE, FOUR_GIB_HEADER, b"GET / HTTP/1.1\r\n\r\n"):
            with socket.create_connection((address.host, address.port)) as connection:
                connection.sendall(garbage)
                until_closed(connection)
    refused = shared.status()["replicas"][0]["refused_connections"]
    assert refused["peer"]["TLS handshake"] >= 3
    assert refused["client"]["TLS handshake"] >= 3
    serves(shared)


@pytest.mark.parametrize("frame", [GARBAGE, FOUR_GIB_HEADER], ids=["garbage", "4 GiB"])
def test_a_bad_frame_of_a_certified_client_is_counted_and_harms_nobody(shared: Cluster, frame: bytes) -> None:
    config = load_cluster(shared.directory)
    home = shared.directory / "clients" / "default"
    context = tls.client_context(certificate=home / "client.crt", key=home / "client.key", ca=config.ca)
    hello = encode_frame(Hello(config.cluster, config.epoch, Role.CLIENT, "default"))
    address = config.replicas[0].client
    with (
        socket.create_connection((address.host, address.port)) as plain,
        context.wrap_socket(plain) as connection,
    ):
        connection.sendall(hello + frame)
        until_closed(connection)
    assert counted(shared.status()["replicas"][0], "client")
    serves(shared)


@pytest.mark.parametrize("frame", [GARBAGE, FOUR_GIB_HEADER], ids=["garbage", "4 GiB"])
def test_a_bad_frame_of_a_certified_replica_is_counted_and_harms_nobody(shared: Cluster, frame: bytes) -> None:
    config = load_cluster(shared.directory)
    home = shared.replica(3)
    context = tls.client_context(certificate=home / "replica.crt", key=home / "replica.key", ca=config.ca)
    hello = encode_frame(Hello(config.cluster, config.epoch, Role.REPLICA, "3"))
    address = config.replicas[0].peer
    with (
        socket.create_connection((address.host, address.port)) as plain,
        context.wrap_socket(plain) as connection,
    ):
        connection.sendall(hello + frame)
        until_closed(connection)
    assert counted(shared.status()["replicas"][0], "peer")
    serves(shared)


def test_the_client_of_another_ca_is_told_in_one_line_and_harms_nobody(shared: Cluster, tmp_path: Path) -> None:
    stranger = Cluster(tmp_path / "stranger")
    stranger.bft("cluster", "init", stranger.directory, "--replicas", "4", "--name", "stranger")
    identity = stranger.directory / "clients" / "default"
    text = shared.bft(
        "kv", "get", "x", "--cluster", shared.directory, "--identity", identity, code=ExitCode.CONFIGURATION
    )
    assert text.startswith("error: ")
    assert text.count("\n") == 1
    config = load_cluster(shared.directory)
    context = tls.client_context(certificate=identity / "client.crt", key=identity / "client.key", ca=config.ca)
    address = config.replicas[0].client
    with (
        contextlib.suppress(OSError),
        socket.create_connection((address.host, address.port)) as plain,
        context.wrap_socket(plain) as connection,
    ):
        assert connection.recv(1) == b""
    assert shared.status()["replicas"][0]["refused_connections"]["client"]["TLS handshake"] >= 1
    serves(shared)


# --- the demo


def test_the_demo_holds_and_leaves_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "deploy.demo", "--seconds", "2"]
    environment = ENVIRONMENT | {"TMPDIR": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "verdict" in done.stdout
    assert list(tmp_path.iterdir()) == []


# --- helpers


def until_closed(connection: socket.socket) -> None:
    """Read until the other end closes."""
    connection.settimeout(30.0)
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while connection.recv(4096):
            pass


def counted(replica: dict[str, dict[str, int]], port: str) -> bool:
    """Whether the replica shows that it closed a link, or refused a frame."""
    return bool(replica["invalid_frames"]) or bool(replica["closed_links"][port])


def serves(cluster: Cluster) -> None:
    where = ("--cluster", cluster.directory)
    cluster.bft("kv", "put", "still", "here", *where)
    assert cluster.bft("kv", "get", "still", *where) == "here\n"
    status = cluster.status()
    assert status["reachable"] == 4
    assert {replica["view"] for replica in status["replicas"]} == {0}


def same_state(cluster: Cluster) -> bool:
    replicas = cluster.status()["replicas"]
    stands = {(replica["reachable"], replica["last_executed"], replica["state_root"]) for replica in replicas}
    return len(stands) == 1
