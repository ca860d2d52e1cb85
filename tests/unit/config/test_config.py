"""Configuration: what is written reads back, and what is wrong is said in one line that names it."""

from dataclasses import replace

import pytest

from bft.config import Address, ClusterConfig, Durability, ReplicaEntry, dump_replica, load_cluster, load_replica
from bft.core.parameters import MS, Parameters
from bft.errors import ConfigurationError, EnvironmentFailure
from crypto.keys import PrivateKey


def entry(replica: int) -> ReplicaEntry:
    key = PrivateKey.from_seed(bytes([replica + 1]) * 32).public.raw
    return ReplicaEntry(
        replica, key, Address("10.0.0.1", 7100 + replica), Address("::1", 7200 + replica), Address("localhost", 7300)
    )


@pytest.fixture
def home(tmp_path):
    """A directory with a valid cluster.toml, CA file and replica.toml."""
    parameters = Parameters(n=4, request_timeout_ns=1500 * MS, window=512)
    cluster = ClusterConfig("c-1", 3, "a.b:C", tmp_path / "ca.crt", tuple(entry(i) for i in range(4)), parameters)
    cluster = replace(cluster, service_options={"history_revisions": 7})
    (tmp_path / "cluster.toml").write_text(cluster.dump(ca="ca.crt"))
    (tmp_path / "ca.crt").write_text("-")
    (tmp_path / "replica.toml").write_text(dump_replica(1, listen_peer="10.9.9.9:9"))
    return tmp_path


def replace_in(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_a_dumped_cluster_reads_back_equal(home):
    found = load_cluster(home)
    assert found == load_cluster(home / "cluster.toml")
    assert found.service_options == {"history_revisions": 7}
    assert found.replicas == tuple(entry(i) for i in range(4))
    assert found.parameters == Parameters(n=4, request_timeout_ns=1500 * MS, window=512)
    assert (found.domain.cluster, found.domain.epoch, found.ca) == ("c-1", 3, home / "ca.crt")


def test_times_are_in_milliseconds_in_the_file(home):
    assert "request_timeout_ms = 1500" in (home / "cluster.toml").read_text()


def test_a_replica_listens_where_it_is_advertised_unless_told_otherwise(home):
    config = load_replica(home, {})
    assert config.listen_peer == Address("10.9.9.9", 9)
    assert config.listen_client == config.entry.client
    assert config.durability is Durability.FSYNC
    assert config.verify_threads is None


def test_environment_variables_override_the_file(home):
    environment = {"BFT_LISTEN_PEER": "[::]:1", "BFT_VERIFY_THREADS": "3", "BFT_DURABILITY": "memory", "BFT_PORT": "x"}
    config = load_replica(home, environment)
    assert config.listen_peer == Address("::", 1)
    assert (config.verify_threads, config.durability) == (3, Durability.MEMORY)


@pytest.mark.parametrize(
    ("file", "old", "new", "says"),
    [
        ("replica.toml", "listen_peer", "listen_per", 'unknown key "listen_per"; did you mean "listen_peer"?'),
        ("replica.toml", "id = 1", "id = 7", '"id" is 7, but the cluster has replicas 0 to 3'),
        ("replica.toml", "10.9.9.9:9", "10.9.9.9", '"listen_peer" is wrong: "10.9.9.9" is no address'),
        ("replica.toml", "id = 1", 'id = 1\ndurability = "maybe"', "must be one of fsync, os, memory"),
        ("replica.toml", "id = 1", "id = true", '"id" must be a whole number'),
        ("cluster.toml", "request_timeout_ms", "request_timeout_m", 'did you mean "request_timeout_ms"?'),
        ("cluster.toml", "window = 512", "window = 5", "window must be at least twice"),
        ("cluster.toml", "id = 2", "id = 5", "replicas are numbered from 0, in order"),
        ("cluster.toml", entry(2).public_key.hex(), entry(1).public_key.hex(), "the same public_key"),
        ("cluster.toml", entry(2).public_key.hex(), "00" * 32, '"public_key" is not usable'),
        ("cluster.toml", 'cluster = "c-1"', "", '"cluster" is missing'),
        ("cluster.toml", "history_revisions = 7", "size = 1.5", "size must be a whole number, a text, true or false"),
        ("cluster.toml", "epoch = 3", "epoch = = 3", "not valid TOML"),
    ],
)
def test_a_wrong_setting_is_named_in_one_line(home, file, old, new, says):
    replace_in(home / file, old, new)
    with pytest.raises(ConfigurationError) as caught:
        load_replica(home, {})
    assert says in str(caught.value)
    assert file in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_clients_cluster_in_the_environment_is_no_setting_of_a_replica(home):
    """BFT_CLUSTER names the cluster that `bft kv` talks to."""
    assert load_replica(home, {"BFT_CLUSTER": "elsewhere"}).cluster == load_replica(home, {}).cluster


def test_a_wrong_environment_variable_is_named(home):
    with pytest.raises(ConfigurationError, match="environment variable BFT_VERIFY_THREADS: must be a whole number"):
        load_replica(home, {"BFT_VERIFY_THREADS": "-1"})


def test_a_missing_file_is_a_failure_of_the_environment(home):
    (home / "ca.crt").unlink()
    with pytest.raises(EnvironmentFailure, match=r"ca\.crt: no such file"):
        load_cluster(home)
    with pytest.raises(EnvironmentFailure, match=r"replica\.toml: no such file"):
        load_replica(home / "nowhere", {})


@pytest.mark.parametrize("text", ["host", "host:", ":1", "host:65536", "a b:1", "::1:80", "[::1]", "host:1:2"])
def test_what_is_no_address_is_refused(text):
    with pytest.raises(ValueError, match="no address"):
        Address.parse(text)


@pytest.mark.parametrize("text", ["example.org:443", "[::1]:80", "127.0.0.1:0"])
def test_an_address_reads_back_as_it_was_written(text):
    assert str(Address.parse(text)) == text
