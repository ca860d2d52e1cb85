"""TLS contexts: 1.3 only, both sides certified by the cluster's CA.

Host names are not checked on protocol links, on purpose.  A peer's identity is the URI in its certificate and, for a
replica, the key pinned in the configuration; the caller compares both (`peer_certificate`) before the first
application byte.  A host name would add nothing to that, and would break a replica that moves to another address.

TLS 1.3 lets a client's handshake end before the server has judged the client's certificate: a refused client sees its
connection succeed and then fail on the first read.  No application byte passes either way.

Sessions are not resumed, so that every connection proves its certificate anew.
"""

import ssl
from pathlib import Path

from crypto.certificates import Certificate, InvalidCertificate
from crypto.files import UnsafeFile, read_secret
from crypto.keys import InvalidKey


def server_context(*, certificate: Path, key: Path, ca: Path) -> ssl.SSLContext:
    """Context of a listening protocol port: clients must hold a certificate of `ca`.

    Raises InvalidKey, InvalidCertificate or OSError.
    """
    return _mutual(ssl.PROTOCOL_TLS_SERVER, certificate, key, ca)


def client_context(*, certificate: Path, key: Path, ca: Path) -> ssl.SSLContext:
    """Context of a connecting protocol link: the server must hold a certificate of `ca`.

    Raises InvalidKey, InvalidCertificate or OSError.
    """
    return _mutual(ssl.PROTOCOL_TLS_CLIENT, certificate, key, ca)


def http_server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """Context of an HTTPS or gRPC port, with a certificate of `CertificateAuthority.issue_server`.

    Asks for no client certificate.  Raises InvalidKey, InvalidCertificate or OSError.
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER)
    _load_identity(context, certificate, key)
    return context


def peer_certificate(ssl_object: ssl.SSLObject | ssl.SSLSocket) -> Certificate:
    """The peer's certificate after a handshake in which TLS verified its chain.

    Raises InvalidCertificate: without certificate, before the handshake, or for one that is no protocol certificate.
    """
    try:
        der = ssl_object.getpeercert(binary_form=True)
    except ValueError as error:
        raise InvalidCertificate("the TLS handshake is not complete") from error
    if der is None:
        raise InvalidCertificate("the peer has no certificate")
    return Certificate.from_der(der)


def _mutual(protocol: ssl._SSLMethod, certificate: Path, key: Path, ca: Path) -> ssl.SSLContext:
    context = _context(protocol)
    context.check_hostname = False  # the identity is the URI and the pinned key, see above
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    try:
        context.load_verify_locations(cafile=ca)
    except ssl.SSLError as error:
        raise InvalidCertificate(f"{ca} is no PEM certificate") from error
    _load_identity(context, certificate, key)
    return context


def _context(protocol: ssl._SSLMethod) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_TICKET
    if protocol == ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0
    return context


def _load_identity(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    try:
        read_secret(key)  # for its checks alone: ssl reads the file itself
    except UnsafeFile as error:
        raise InvalidKey(f"private key {error}") from error
    certificate.stat()  # so that a missing file is reported with its name
    try:
        # Without a password, OpenSSL would stop at the terminal to ask for one.
        context.load_cert_chain(certificate, key, password="")
    except (ssl.SSLError, ValueError) as error:
        raise InvalidCertificate(f"{certificate} and {key} are no certificate and its private key") from error
