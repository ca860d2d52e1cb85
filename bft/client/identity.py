"""Who a client is: a key and a certificate in one directory, checked before anything is sent."""

import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bft.config import ClusterConfig
from bft.errors import ConfigurationError, EnvironmentFailure
from crypto import tls
from crypto.certificates import InvalidCertificate, Role, Subject, der_of_pem, is_name, verify_certificate
from crypto.keys import InvalidKey, PrivateKey

CLIENTS: Final = "clients"  # beside cluster.toml: one directory a client
CERTIFICATE_FILE: Final = "client.crt"
KEY_FILE: Final = "client.key"


@dataclass(frozen=True, slots=True)
class Identity:
    """A client's key, and the certificate that admits it."""

    key: PrivateKey
    subject: Subject
    certificate: bytes  # DER
    context: ssl.SSLContext


def identity_directory(cluster_path: Path, identity: str | Path) -> Path:
    """Where an identity is: a bare name is one of the cluster directory's clients, anything else a path."""
    if isinstance(identity, str) and is_name(identity):
        home = cluster_path if cluster_path.is_dir() else cluster_path.parent
        return home / CLIENTS / identity
    return Path(identity)


def load_identity(directory: Path, cluster: ClusterConfig) -> Identity:
    """Read and check the identity in ``directory``.  Raises ConfigurationError or EnvironmentFailure."""
    certificate_path, key_path = directory / CERTIFICATE_FILE, directory / KEY_FILE
    try:
        ca_der = der_of_pem(_read(cluster.ca))
    except InvalidCertificate as error:
        raise ConfigurationError(f"{cluster.ca}: not a cluster's CA certificate: {error}") from error
    try:
        der = der_of_pem(_read(certificate_path))
        certificate = verify_certificate(der, ca_der, cluster=cluster.cluster, at_time_ns=time.time_ns())
    except InvalidCertificate as error:
        raise ConfigurationError(f"{certificate_path}: {error}; {cluster.ca} must be the CA that issued it") from error
    subject = certificate.subject_identity
    if subject.role not in (Role.CLIENT, Role.ADMIN):
        raise ConfigurationError(f"{certificate_path} is the certificate of a {subject.role}, not of a client")
    try:
        key = PrivateKey.load(key_path)
        if key.public != certificate.public_key:
            raise ConfigurationError(f"{key_path} is not the key of {certificate_path}")
        context = tls.client_context(certificate=certificate_path, key=key_path, ca=cluster.ca)
    except (InvalidKey, InvalidCertificate) as error:
        raise ConfigurationError(str(error)) from error
    except OSError as error:
        raise _unreadable(key_path, error) from error
    return Identity(key, subject, der, context)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> EnvironmentFailure:
    return EnvironmentFailure(f"{error.filename or path}: {error.strerror}")
