"""A replica's own key and certificates, checked against the cluster before it opens a port."""

import ssl
import time
from dataclasses import dataclass
from pathlib import Path

from bft.config import ReplicaConfig
from bft.core.messages import ClientKey
from bft.errors import ConfigurationError, EnvironmentFailure
from crypto import tls
from crypto.certificates import (
    Certificate,
    InvalidCertificate,
    Role,
    Subject,
    der_of_pem,
    verify_authority,
    verify_certificate,
)
from crypto.keys import InvalidKey, PrivateKey


@dataclass(frozen=True, slots=True)
class OwnIdentity:
    """Who this replica is, proven to fit the cluster's configuration."""

    key: PrivateKey
    subject: Subject
    ca_der: bytes
    server_context: ssl.SSLContext
    client_context: ssl.SSLContext


def load_identity(config: ReplicaConfig) -> OwnIdentity:
    """Read and check keys and certificates.  Raises ConfigurationError or EnvironmentFailure."""
    cluster = config.cluster
    try:
        ca_der = der_of_pem(_read(cluster.ca))
        verify_authority(ca_der)
    except InvalidCertificate as error:
        raise ConfigurationError(f"{cluster.ca}: not a cluster's CA certificate: {error}") from error
    try:
        der = der_of_pem(_read(config.certificate))
        certificate = verify_certificate(
            der, ca_der, cluster=cluster.cluster, at_time_ns=time.time_ns(), role=Role.REPLICA
        )
    except InvalidCertificate as error:
        raise ConfigurationError(
            f"{config.certificate}: {error}; {cluster.ca} must be the CA that issued it"
        ) from error
    _check_own(config, certificate)
    try:
        key = PrivateKey.load(config.key)
        if key.public != certificate.public_key:
            raise ConfigurationError(f"{config.key} is not the key of {config.certificate}")
        server = tls.server_context(certificate=config.certificate, key=config.key, ca=cluster.ca)
        client = tls.client_context(certificate=config.certificate, key=config.key, ca=cluster.ca)
    except (InvalidKey, InvalidCertificate) as error:
        raise ConfigurationError(str(error)) from error
    except OSError as error:
        raise _unreadable(config.key, error) from error
    return OwnIdentity(key, certificate.subject_identity, ca_der, server, client)


class CertificateAdmission:
    """The core's `Admission`: a client is who the cluster's CA says, at the agreed time."""

    def __init__(self, cluster: str, ca_der: bytes) -> None:
        self._cluster = cluster
        self._ca_der = ca_der

    def client_name(self, certificate: bytes, *, client: ClientKey, time_ns: int) -> str | None:
        """The certified name of the holder of this key; None if the certificate does not admit it."""
        try:
            found = verify_certificate(certificate, self._ca_der, cluster=self._cluster, at_time_ns=time_ns)
        except InvalidCertificate:
            return None
        subject = found.subject_identity
        if subject.role not in (Role.CLIENT, Role.ADMIN) or found.public_key.raw != client:
            return None
        return subject.name


def _check_own(config: ReplicaConfig, certificate: Certificate) -> None:
    name = certificate.subject_identity.name
    if name != str(config.id):
        raise ConfigurationError(
            f"{config.certificate} is the certificate of replica {name}, not of replica {config.id}"
        )
    if certificate.public_key.raw != config.entry.public_key:
        raise ConfigurationError(
            f"{config.certificate} holds another key than cluster.toml pins for replica {config.id}: "
            "give every replica the same cluster.toml"
        )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> EnvironmentFailure:
    return EnvironmentFailure(f"{error.filename or path}: {error.strerror}")
