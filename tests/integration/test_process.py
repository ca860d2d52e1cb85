"""Replicas as processes: how they start, how they stop, and what their exit code says."""

import asyncio
import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bft.config import ClusterConfig
from bft.errors import ExitCode
from bft.statemachine.kv import encode_get, encode_put
from tests.integration.harness import RawClient, make_cluster

pytestmark = pytest.mark.e2e
REPOSITORY = Path(__file__).parents[2]
TIMEOUT_S = 30


def launch(directory: Path, replica: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "bft.node", str(directory / f"replica-{replica}")]
    return subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True)


def get(cluster: ClusterConfig, replica: int, path: str) -> str:
    with urllib.request.urlopen(f"http://{cluster.replicas[replica].admin}{path}", timeout=5) as response:
        text: str = response.read().decode()
        return text


async def status(cluster: ClusterConfig, replica: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(await asyncio.to_thread(get, cluster, replica, "/status"))
    return found


async def until_connected(cluster: ClusterConfig, replicas: list[int]) -> None:
    """Every one of them is linked both ways with every other."""
    async with asyncio.timeout(TIMEOUT_S):
        for replica in replicas:
            while True:
                try:
                    found = await status(cluster, replica)
                    if all(peer["connected"] for peer in found["peers"] if peer["id"] in replicas):
                        break
                except (urllib.error.URLError, ConnectionError):
                    pass
                await asyncio.sleep(0.05)


@asynccontextmanager
async def cluster_of_processes(directory: Path, cluster: ClusterConfig) -> AsyncIterator[list[subprocess.Popen[str]]]:
    replicas = range(len(cluster.replicas))
    processes = [launch(directory, replica) for replica in replicas]
    try:
        await until_connected(cluster, list(replicas))
        yield processes
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
        for process in processes:
            process.communicate()


async def stop(process: subprocess.Popen[str], number: int = signal.SIGTERM) -> tuple[int, str]:
    """Exit code and everything said on standard error."""
    process.send_signal(number)
    _, said = await asyncio.to_thread(process.communicate, timeout=TIMEOUT_S)
    return process.returncode, said


def fail_to_start(directory: Path, replica: int = 0) -> tuple[int, list[str]]:
    process = launch(directory, replica)
    _, said = process.communicate(timeout=TIMEOUT_S)
    return process.returncode, [line for line in said.splitlines() if line.startswith("error: ")]


async def test_four_processes_serve_survive_a_kill_of_the_primary_and_stop_cleanly(tmp_path):
    cluster = make_cluster(tmp_path, request_timeout_ns=500_000_000, view_change_timeout_ns=500_000_000)
    async with cluster_of_processes(tmp_path, cluster) as processes:
        async with RawClient(tmp_path, cluster) as client:
            await client.register()
            await client.call(encode_put(b"before", b"1"))
            processes[0].kill()
            await client.call(encode_put(b"after", b"2"))
            assert (await client.call(encode_get(b"before")))[0].endswith(b"1")
        found = await status(cluster, 1)
        assert found["view"] >= 1
        assert found["primary"] == found["view"] % 4
        assert found["pid"] == processes[1].pid
        assert "bft_executed_operations_total" in await asyncio.to_thread(get, cluster, 1, "/metrics")
        assert json.loads(await asyncio.to_thread(get, cluster, 1, "/healthz")) == {"status": "ok"}
        for process, number in zip(processes[1:], (signal.SIGTERM, signal.SIGINT, signal.SIGTERM), strict=True):
            code, said = await stop(process, number)
            assert code == ExitCode.OK, said
            assert "Traceback" not in said


async def test_nothing_acknowledged_is_lost_when_all_replicas_are_killed_at_once(tmp_path):
    cluster = make_cluster(tmp_path)
    async with cluster_of_processes(tmp_path, cluster) as processes, RawClient(tmp_path, cluster) as client:
        await client.register()
        for number in range(20):
            await client.call(encode_put(b"k%d" % number, b"v%d" % number))
        for process in processes:
            process.kill()
        session, used = client.session, client.number
    async with cluster_of_processes(tmp_path, cluster), RawClient(tmp_path, cluster) as client:
        client.session, client.number = session, used
        for number in range(20):
            assert (await client.call(encode_get(b"k%d" % number)))[0].endswith(b"v%d" % number)


async def test_garbage_on_every_port_leaves_the_cluster_unharmed(tmp_path):
    cluster = make_cluster(tmp_path)
    async with cluster_of_processes(tmp_path, cluster), RawClient(tmp_path, cluster) as client:
        await client.register()
        for replica in cluster.replicas:
            for address in (replica.peer, replica.client, replica.admin):
                _, writer = await asyncio.open_connection(address.host, address.port)
                writer.write(b"\xff" * 100_000)
                writer.close()
        client.writers[0].write(b"\xff\xff\xff\xff\x01\x01")
        await client.call(encode_put(b"a", b"1"))
        assert (await status(cluster, 1))["view"] == 0


async def test_a_second_process_on_one_directory_is_refused(tmp_path):
    cluster = make_cluster(tmp_path)
    async with cluster_of_processes(tmp_path, cluster):
        code, (line,) = await asyncio.to_thread(fail_to_start, tmp_path)
    assert code == ExitCode.ENVIRONMENT
    assert "in use by process" in line


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def break_key(home: Path) -> None:
    edit(home / "replica.toml", "id = 0", 'id = 0\nlog_levle = "info"')


def break_service(home: Path) -> None:
    edit(home / "cluster.toml", "kv:KeyValue", "kv:Nothing")


def break_ca(home: Path) -> None:
    other = home / "other"
    other.mkdir()
    make_cluster(other)
    (home / "ca.crt").write_bytes((other / "ca" / "ca.crt").read_bytes())


def break_certificate(home: Path) -> None:
    (home / "replica.crt").unlink()


def break_key_mode(home: Path) -> None:
    (home / "replica.key").chmod(0o644)


def break_cluster(home: Path) -> None:
    edit(home / "replica.toml", "id = 0", "id = 1")


def damage_data(home: Path) -> None:
    (home / "data" / "base-0000000001").write_bytes(b"bft-log\0" + b"\xff" * 5000)


@pytest.mark.parametrize(
    ("break_it", "code", "says"),
    [
        (break_key, ExitCode.CONFIGURATION, 'unknown key "log_levle"; did you mean "log_level"?'),
        (break_service, ExitCode.CONFIGURATION, "has no Nothing"),
        (break_ca, ExitCode.CONFIGURATION, "must be the CA that issued it"),
        (break_key_mode, ExitCode.CONFIGURATION, "run chmod 600"),
        (break_cluster, ExitCode.CONFIGURATION, "is the certificate of replica 0, not of replica 1"),
        (break_certificate, ExitCode.ENVIRONMENT, "replica.crt: No such file or directory"),
        (damage_data, ExitCode.DATA_DIRECTORY, "damaged at byte 0: not a log, or its header"),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_a_replica_that_cannot_start_says_why_in_one_line(tmp_path, break_it, code, says):
    make_cluster(tmp_path)
    break_it(tmp_path / "replica-0")
    found, lines = fail_to_start(tmp_path)
    assert found == code
    assert len(lines) == 1
    assert says in lines[0]


@pytest.mark.parametrize("port", ["peer", "client", "admin"])
def test_a_port_in_use_is_said_in_one_line(tmp_path, port):
    import socket

    cluster = make_cluster(tmp_path)
    address = getattr(cluster.replicas[0], port)
    with socket.create_server((address.host, address.port)):
        code, lines = fail_to_start(tmp_path)
    assert code == ExitCode.ENVIRONMENT
    (line,) = lines
    assert f"{port} port {address} is in use" in line
    assert f"listen_{port}" in line


def test_a_missing_directory_is_said_in_one_line(tmp_path):
    code, (line,) = fail_to_start(tmp_path)
    assert code == ExitCode.ENVIRONMENT
    assert "replica.toml: no such file" in line
