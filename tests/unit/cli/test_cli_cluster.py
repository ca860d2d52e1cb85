"""`bft cluster`, as far as it can be seen without a running replica; tests/e2e has those."""

import json
import os
import shutil
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from bft.config import Address, load_cluster, load_replica
from bft.errors import ExitCode
from crypto.certificates import Certificate, Role


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


def files(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


# --- init


def test_every_replicas_directory_is_complete_in_itself(cluster, tmp_path):
    """Moved elsewhere, alone, it still loads: that is how it gets to another machine."""
    for replica in range(4):
        moved = tmp_path / "elsewhere" / f"replica-{replica}"
        shutil.move(cluster / f"replica-{replica}", moved)
        config = load_replica(moved, {})
        assert config.id == replica
        assert config.cluster.ca.parent == moved
        assert config.key.is_file()
        assert config.certificate.is_file()
        assert (config.data / "GENESIS").is_file()


def test_the_ca_key_is_in_no_replicas_directory(cluster):
    secret = (cluster / "ca" / "ca.key").read_bytes()
    assert all(secret not in files(cluster / f"replica-{replica}").values() for replica in range(4))


def test_all_replicas_get_the_same_cluster_file(cluster):
    texts = {path.read_bytes() for path in (cluster / "cluster.toml", *cluster.glob("replica-*/cluster.toml"))}
    assert len(texts) == 1


def test_keys_are_readable_by_their_owner_alone(cluster):
    keys = list(cluster.rglob("*.key"))
    assert len(keys) == 4 + 1 + 2
    assert all(stat.S_IMODE(key.stat().st_mode) == 0o600 for key in keys)


def test_the_certificates_say_who_everybody_is(cluster):
    config = load_cluster(cluster)
    for entry in config.replicas:
        certificate = Certificate.from_pem((cluster / f"replica-{entry.id}" / "replica.crt").read_bytes())
        assert certificate.subject_identity.uri == f"bft://{config.cluster}/replica/{entry.id}"
        assert certificate.public_key.raw == entry.public_key
    for name, role in (("default", Role.CLIENT), ("admin", Role.ADMIN)):
        certificate = Certificate.from_pem((cluster / "clients" / name / "client.crt").read_bytes())
        assert certificate.subject_identity.role is role


def test_the_clusters_id_is_its_name_and_something_random(bft, cluster, tmp_path):
    first = load_cluster(cluster).cluster
    assert first.startswith("acme-")
    bft("cluster", "init", tmp_path / "b", "--replicas", "4", "--name", "acme")
    second = load_cluster(tmp_path / "b").cluster
    assert second.startswith("acme-")
    assert first != second


def test_init_refuses_to_overwrite(bft, cluster):
    before = files(cluster)
    result = bft("cluster", "init", cluster, "--replicas", "4")
    assert result.code == ExitCode.ENVIRONMENT
    assert "never overwritten" in result.err
    assert files(cluster) == before


def test_an_init_that_fails_leaves_nothing(bft, tmp_path):
    result = bft("cluster", "init", tmp_path / "c", "--replicas", "4", "--host", "no such host")
    assert result.code == ExitCode.CONFIGURATION
    assert list(tmp_path.iterdir()) == []


def test_init_fills_an_empty_directory(bft, tmp_path):
    (tmp_path / "empty").mkdir()
    assert bft("cluster", "init", tmp_path / "empty", "--replicas", "4").code == ExitCode.OK


def test_replicas_of_one_host_have_ports_of_their_own(bft, tmp_path):
    bft("cluster", "init", tmp_path / "c", "--replicas", "7", "--base-port", "9000")
    config = load_cluster(tmp_path / "c")
    assert [replica.peer.port for replica in config.replicas] == list(range(9000, 9007))
    addresses = [address for r in config.replicas for address in (r.peer, r.client, r.admin)]
    assert len(set(addresses)) == 3 * 7


def test_replicas_of_several_hosts_listen_elsewhere_than_they_advertise(bft, tmp_path):
    hosts = [part for i in range(1, 5) for part in ("--host", f"10.0.0.{i}")]
    bft("cluster", "init", tmp_path / "c", "--replicas", "4", "--listen", "10.9.9.9", *hosts)
    config = load_replica(tmp_path / "c" / "replica-2", {})
    assert config.entry.peer == Address("10.0.0.3", 7100)
    assert config.listen_peer == Address("10.9.9.9", 7100)
    assert config.listen_client == Address("10.9.9.9", 7200)
    assert config.listen_admin == Address("127.0.0.1", 7300)


def test_hosts_are_given_once_or_once_for_each_replica(bft, tmp_path):
    result = bft("cluster", "init", tmp_path / "c", "--replicas", "4", "--host", "a", "--host", "b")
    assert result.code == ExitCode.USAGE
    assert result.err.startswith("error: --host is given once")


# --- what goes wrong


def run_replica(directory: Path) -> Outcome:
    """`bft replica run`, in a process of its own as it configures logging, signals and the event loop."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-m", "bft.cli.main", "replica", "run", str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=60)
    return Outcome(done.returncode, done.stdout, done.stderr)


def assert_one_line(result: Outcome, code: ExitCode, *words: str) -> None:
    assert result.code == code, result.err
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    assert all(word in result.err for word in words), result.err


@pytest.mark.parametrize("command", ["up", "down", "status", "logs"])
def test_a_missing_directory_is_one_line(bft, command, tmp_path):
    assert_one_line(bft("cluster", command, tmp_path / "none"), ExitCode.ENVIRONMENT, "bft cluster init")


def test_an_unknown_key_of_the_cluster_is_one_line(bft, cluster):
    with (cluster / "cluster.toml").open("r+") as file:
        text = file.read()
        file.seek(0)
        file.write('sevrice = "x"\n' + text)
    result = bft("cluster", "status", cluster)
    assert_one_line(result, ExitCode.CONFIGURATION, 'unknown key "sevrice"', 'did you mean "service"')


def test_an_unknown_key_of_a_replica_stops_up_before_anything_is_started(bft, cluster):
    with (cluster / "replica-3" / "replica.toml").open("a") as file:
        file.write("lisen_peer = 1\n")
    result = bft("cluster", "up", cluster)
    assert_one_line(result, ExitCode.CONFIGURATION, 'unknown key "lisen_peer"', 'did you mean "listen_peer"')
    assert not list(cluster.glob("replica-*/replica.pid"))


def test_a_replica_with_an_unknown_key_does_not_run(cluster):
    with (cluster / "replica-3" / "replica.toml").open("a") as file:
        file.write("lisen_peer = 1\n")
    assert_one_line(run_replica(cluster / "replica-3"), ExitCode.CONFIGURATION, "lisen_peer")


def test_a_missing_file_is_one_line(cluster):
    (cluster / "replica-0" / "replica.crt").unlink()
    assert_one_line(run_replica(cluster / "replica-0"), ExitCode.ENVIRONMENT, "replica.crt", "No such file")


def test_the_certificate_of_another_ca_is_one_line(bft, cluster, tmp_path):
    bft("cluster", "init", tmp_path / "other", "--replicas", "4")
    for name in ("replica.crt", "replica.key"):
        shutil.copy(tmp_path / "other" / "replica-0" / name, cluster / "replica-0" / name)
    result = run_replica(cluster / "replica-0")
    assert_one_line(result, ExitCode.CONFIGURATION, "not issued by this CA")


def test_a_port_in_use_is_one_line(bft, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        bft("cluster", "init", tmp_path / "c", "--replicas", "4", "--base-port", "1")
        (tmp_path / "c/replica-0/replica.toml").write_text(f'id = 0\nlisten_peer = "127.0.0.1:{port}"\n')
        result = run_replica(tmp_path / "c" / "replica-0")
    assert_one_line(result, ExitCode.ENVIRONMENT, f"peer port 127.0.0.1:{port} is in use", "listen_peer")


def test_up_tells_which_replica_stopped_and_why(bft, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        bft("cluster", "init", tmp_path / "c", "--replicas", "4", "--base-port", "1")
        (tmp_path / "c/replica-2/replica.toml").write_text(f'id = 2\nlisten_peer = "127.0.0.1:{port}"\n')
        result = bft("cluster", "up", tmp_path / "c", "--replica", "2")
    assert result.code == ExitCode.ENVIRONMENT
    *tail, last = result.err.splitlines()
    assert last.startswith(f"error: replica 2 stopped: peer port 127.0.0.1:{port} is in use")
    assert any("is in use" in line for line in tail)


def test_a_replica_that_is_not_here_cannot_be_started(bft, cluster):
    shutil.rmtree(cluster / "replica-1")
    assert_one_line(bft("cluster", "up", cluster, "--replica", "1"), ExitCode.ENVIRONMENT, "replica 1 is not here")


@pytest.mark.parametrize("behaviour", ["equivocate_split", "x=equivocate_split", "0=", "7=equivocate_split"])
def test_a_senseless_behaviour_is_one_line(bft, cluster, behaviour):
    result = bft("cluster", "up", cluster, "--behaviour", behaviour)
    assert_one_line(result, ExitCode.CONFIGURATION, behaviour)


# --- a cluster that does not run


def test_the_status_of_a_cluster_that_does_not_run(bft, cluster):
    result = bft("cluster", "status", cluster, "--json")
    assert result.code == ExitCode.UNAVAILABLE
    document = json.loads(result.out)
    assert document["progress"] is False
    assert document["summary"] == "no progress: 0 of 4 replicas answer, 3 are needed"
    wanted = (
        "id",
        "address",
        "pid",
        "reachable",
        "view",
        "primary",
        "last_executed",
        "stable_checkpoint",
        "state_root",
    )
    assert [replica["id"] for replica in document["replicas"]] == [0, 1, 2, 3]
    assert all(key in replica for replica in document["replicas"] for key in wanted)
    assert not any(replica["reachable"] for replica in document["replicas"])


def test_the_status_names_every_replica_that_does_not_answer(bft, cluster):
    out = bft("cluster", "status", cluster).out
    assert all(f"replica {replica} does not answer at 127.0.0.1" in out for replica in range(4))


def test_down_without_anything_running_succeeds(bft, cluster):
    result = bft("cluster", "down", cluster)
    assert result.code == ExitCode.OK
    assert "nothing runs" in result.out


def test_logs_are_marked_with_their_replica(bft, cluster):
    (cluster / "replica-1" / "replica.log").write_text("one\ntwo\n")
    assert bft("cluster", "logs", cluster, "--lines", "1").out == "1 | two\n"


def test_the_start_script_says_which_directory_is_missing(tmp_path):
    script = Path(__file__).parents[3] / "deploy" / "replica.sh"
    done = subprocess.run([script, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == ExitCode.ENVIRONMENT
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
