"""Real TLS handshakes over loopback: what passes, and above all that nothing passes without a certificate.

In TLS 1.3 a client's handshake may end before the server refused it, so these tests ask what the server's
application got to read and to write, not whether connecting failed.
"""

import asyncio
import ssl
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from crypto.ca import CertificateAuthority
from crypto.certificates import Certificate, InvalidCertificate, Role, Subject
from crypto.keys import InvalidKey, PrivateKey
from crypto.tls import client_context, http_server_context, peer_certificate, server_context

CLUSTER = "demo-3f9a2c1b"


@dataclass
class Files:
    """A CA's directory, with a replica's and a client's certificate and key in it."""

    directory: Path
    authority: CertificateAuthority
    ca: Path = field(init=False)

    def __post_init__(self):
        self.ca = self.directory / "ca.crt"

    def of(self, name):
        return {"certificate": self.directory / f"{name}.crt", "key": self.directory / f"{name}.key", "ca": self.ca}


def issue(directory):
    files = Files(directory, CertificateAuthority.create(directory, CLUSTER))
    for name in ("replica", "client"):
        key = PrivateKey.generate()
        key.save(directory / f"{name}.key")
        pem = (
            files.authority.issue_replica(0, key.public, ["127.0.0.1"])
            if name == "replica"
            else files.authority.issue_client("alice", key.public)
        )
        (directory / f"{name}.crt").write_bytes(pem)
    return files


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return issue(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    """The same names, certified by another CA."""
    return issue(tmp_path_factory.mktemp("stranger"))


@dataclass
class Seen:
    """What the server's application saw."""

    peers: list[Certificate | None] = field(default_factory=list)
    received: bytes = b""


@asynccontextmanager
async def serving(context):
    """An application that sends a greeting, as soon as it is connected, and records what it reads."""
    seen = Seen()

    async def application(reader, writer):
        try:
            seen.peers.append(peer_certificate(writer.get_extra_info("ssl_object")))
            writer.write(b"secret")
            seen.received += await reader.read(100)
        except InvalidCertificate:
            seen.peers.append(None)
        except OSError:
            pass
        finally:
            writer.close()

    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: None)  # refused handshakes are expected here
    server = await asyncio.start_server(application, "127.0.0.1", 0, ssl=context, ssl_handshake_timeout=5)
    try:
        yield server.sockets[0].getsockname()[1], seen
    finally:
        server.close()
        await asyncio.sleep(0.05)  # lets the transports of refused connections close


async def talk(port, context, *, server_hostname=None):
    """Connect, send, and return (what was read, the transport's ssl object); raises what the connection raises."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname=server_hostname or "", ssl_handshake_timeout=5
    )
    try:
        writer.write(b"hello")
        read = await asyncio.wait_for(reader.read(100), 5)
        return read, writer.get_extra_info("ssl_object")
    finally:
        writer.close()


async def assert_nothing_passes(server, client):
    async with serving(server) as (port, seen):
        try:
            read, _ = await talk(port, client)
        except OSError:  # ssl.SSLError is one
            read = b""
    assert read == b""
    assert seen == Seen()


async def test_both_sides_learn_who_the_other_is(files):
    async with serving(server_context(**files.of("replica"))) as (port, seen):
        read, ssl_object = await talk(port, client_context(**files.of("client")))
        server = peer_certificate(ssl_object)
    assert read == b"secret"
    assert seen.received == b"hello"
    assert server.subject_identity == Subject(CLUSTER, Role.REPLICA, "0")
    assert [peer.subject_identity for peer in seen.peers] == [Subject(CLUSTER, Role.CLIENT, "alice")]


async def test_the_connection_is_tls_1_3_and_cannot_be_resumed(files):
    async with serving(server_context(**files.of("replica"))) as (port, _):
        _, ssl_object = await talk(port, client_context(**files.of("client")))
    assert ssl_object.version() == "TLSv1.3"
    assert ssl_object.compression() is None
    assert not ssl_object.session.has_ticket


async def test_a_replica_connects_to_a_replica(files):
    async with serving(server_context(**files.of("replica"))) as (port, seen):
        read, _ = await talk(port, client_context(**files.of("replica")))
    assert read == b"secret"
    assert seen.peers[0].subject_identity.role is Role.REPLICA


async def test_no_application_byte_passes_to_a_client_without_certificate(files):
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.load_verify_locations(files.ca)
    await assert_nothing_passes(server_context(**files.of("replica")), client)


async def test_no_application_byte_passes_to_a_client_of_another_ca(files, stranger):
    client = client_context(**(stranger.of("client") | {"ca": files.ca}))
    await assert_nothing_passes(server_context(**files.of("replica")), client)


async def test_no_application_byte_passes_to_a_server_of_another_ca(files, stranger):
    server = server_context(**(stranger.of("replica") | {"ca": files.ca}))
    await assert_nothing_passes(server, client_context(**files.of("client")))


async def test_no_application_byte_passes_over_tls_1_2(files):
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.load_verify_locations(files.ca)
    client.load_cert_chain(files.of("client")["certificate"], files.of("client")["key"])
    await assert_nothing_passes(server_context(**files.of("replica")), client)


async def test_a_tls_1_2_server_is_refused(files):
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.maximum_version = ssl.TLSVersion.TLSv1_2
    server.load_cert_chain(files.of("replica")["certificate"], files.of("replica")["key"])
    await assert_nothing_passes(server, client_context(**files.of("client")))


async def test_a_clients_certificate_does_not_serve(files):
    """A client could otherwise pose as a replica whose key is not pinned."""
    await assert_nothing_passes(server_context(**files.of("client")), client_context(**files.of("replica")))


async def test_plain_bytes_do_not_reach_the_application(files):
    async with serving(server_context(**files.of("replica"))) as (port, seen):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        answer = await reader.read(100)
        writer.close()
    assert b"secret" not in answer
    assert seen == Seen()


async def test_https_serves_a_client_without_certificate_that_checks_the_host(files, tmp_path):
    certificate, key = files.authority.issue_server(["127.0.0.1", "localhost"])
    (tmp_path / "s.crt").write_bytes(certificate)
    (tmp_path / "s.key").touch(mode=0o600)
    (tmp_path / "s.key").write_bytes(key)
    client = ssl.create_default_context(cafile=files.ca)
    async with serving(http_server_context(tmp_path / "s.crt", tmp_path / "s.key")) as (port, seen):
        _, ssl_object = await talk(port, client, server_hostname="localhost")
        with pytest.raises(ssl.SSLCertVerificationError):
            await talk(port, client, server_hostname="elsewhere.example")
    assert ssl_object.version() == "TLSv1.3"
    assert seen.peers == [None]  # no identity, and `peer_certificate` says so


async def test_an_https_certificate_does_not_connect_as_a_peer(files, tmp_path):
    certificate, key = files.authority.issue_server(["127.0.0.1"])
    (tmp_path / "s.crt").write_bytes(certificate)
    (tmp_path / "s.key").touch(mode=0o600)
    (tmp_path / "s.key").write_bytes(key)
    client = client_context(certificate=tmp_path / "s.crt", key=tmp_path / "s.key", ca=files.ca)
    await assert_nothing_passes(server_context(**files.of("replica")), client)


def test_before_the_handshake_there_is_no_peer(files):
    context = client_context(**files.of("client"))
    ssl_object = context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO())
    with pytest.raises(InvalidCertificate, match="handshake"):
        peer_certificate(ssl_object)


@pytest.mark.parametrize("make", [server_context, client_context])
class TestFiles:
    def test_a_key_open_to_others_is_refused(self, tmp_path, make):
        files = issue(tmp_path)
        (tmp_path / "client.key").chmod(0o640)
        with pytest.raises(InvalidKey, match="chmod 600"):
            make(**files.of("client"))

    @pytest.mark.parametrize("part", ["certificate", "key", "ca"])
    def test_a_missing_file_is_an_os_error(self, files, make, part):
        absent = files.directory / "absent"
        with pytest.raises(FileNotFoundError):
            make(**(files.of("client") | {part: absent}))

    def test_a_key_of_another_certificate_is_refused(self, files, make):
        with pytest.raises(InvalidCertificate, match="are no certificate"):
            make(**(files.of("client") | {"key": files.of("replica")["key"]}))

    def test_a_ca_file_without_certificate_is_refused(self, files, make, tmp_path):
        (tmp_path / "empty").touch()
        with pytest.raises(InvalidCertificate, match="no PEM certificate"):
            make(**(files.of("client") | {"ca": tmp_path / "empty"}))

    def test_an_encrypted_key_is_refused_without_asking_for_a_password(self, files, make, tmp_path):
        from cryptography.hazmat.primitives.serialization import (
            BestAvailableEncryption,
            Encoding,
            PrivateFormat,
            load_pem_private_key,
        )

        key = load_pem_private_key(files.of("client")["key"].read_bytes(), None)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
        (tmp_path / "k").touch(mode=0o600)
        (tmp_path / "k").write_bytes(pem)
        with pytest.raises(InvalidCertificate):
            make(**(files.of("client") | {"key": tmp_path / "k"}))
