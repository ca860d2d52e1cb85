"""The cluster's certificate authority: one Ed25519 key in a directory, kept off the replicas."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from crypto.certificates import InvalidCertificate, Role, Subject, der_of_pem, is_name, verify_authority
from crypto.files import write_new
from crypto.keys import PrivateKey, PublicKey

KEY_FILE = "ca.key"
CERTIFICATE_FILE = "ca.crt"
LEAF_DAYS = 825
AUTHORITY_DAYS = 3650

_BACKDATE = timedelta(hours=1)  # hosts whose clock is slow must be able to use a fresh certificate
_ORGANIZATION = "bft"
_BOTH_WAYS = (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH)
_CLIENT_ONLY = (ExtendedKeyUsageOID.CLIENT_AUTH,)
_SERVER_ONLY = (ExtendedKeyUsageOID.SERVER_AUTH,)

_LeafKey: TypeAlias = Ed25519PublicKey | ec.EllipticCurvePublicKey


@dataclass(frozen=True, slots=True)
class CertificateAuthority:
    """Issues the cluster's certificates; made by `create` or `load`."""

    cluster: str
    certificate: x509.Certificate
    _key: PrivateKey

    @classmethod
    def create(cls, directory: Path, cluster: str) -> Self:
        """Make a CA for `cluster` in `directory` (ca.key, mode 0600, and ca.crt).

        Raises FileExistsError rather than overwrite, ValueError for a bad cluster name.
        """
        if not is_name(cluster):
            raise ValueError(f"{cluster!r} is no cluster name: use 1 to 64 of A-Z a-z 0-9 . _ -")
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        certificate_path = directory / CERTIFICATE_FILE
        if certificate_path.exists():
            raise FileExistsError(f"{certificate_path} exists: a CA is never overwritten")
        key = PrivateKey.generate()
        certificate = _self_signed(key, cluster)
        key.save(directory / KEY_FILE)
        write_new(certificate_path, certificate.public_bytes(Encoding.PEM), mode=0o644)
        return cls(cluster, certificate, key)

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Open the CA that `create` made.  Raises InvalidKey, InvalidCertificate or OSError."""
        key = PrivateKey.load(directory / KEY_FILE)
        path = directory / CERTIFICATE_FILE
        der = der_of_pem(path.read_bytes())
        verify_authority(der)
        certificate = x509.load_der_x509_certificate(der)
        if certificate.public_key() != _library_public(key.public):
            raise InvalidCertificate(f"{path} does not belong to {KEY_FILE}")
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        if len(names) != 1 or not isinstance(names[0].value, str) or not is_name(names[0].value):
            raise InvalidCertificate(f"{path} names no cluster")
        return cls(names[0].value, certificate, key)

    @property
    def der(self) -> bytes:
        """The CA's own certificate as DER, as `verify_certificate` takes it."""
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pem(self) -> bytes:
        """The CA's own certificate as PEM."""
        return self.certificate.public_bytes(Encoding.PEM)

    def issue_replica(
        self, replica_id: int, public: PublicKey, hosts: Sequence[str], *, days: int = LEAF_DAYS
    ) -> bytes:
        """PEM certificate of replica `replica_id`, which may serve and connect; `hosts` are DNS names or addresses."""
        return self._issue_member(Role.REPLICA, str(replica_id), public, hosts, days)

    def issue_client(self, name: str, public: PublicKey, *, days: int = LEAF_DAYS) -> bytes:
        """PEM certificate of client `name`."""
        return self._issue_member(Role.CLIENT, name, public, (), days)

    def issue_admin(self, name: str, public: PublicKey, *, days: int = LEAF_DAYS) -> bytes:
        """PEM certificate of admin `name`."""
        return self._issue_member(Role.ADMIN, name, public, (), days)

    def issue_server(self, hosts: Sequence[str], *, days: int = LEAF_DAYS) -> tuple[bytes, bytes]:
        """A fresh (PEM certificate, PEM key) for an HTTP or gRPC port at `hosts`.

        ECDSA P-256, since browsers and gRPC stacks refuse Ed25519.  It has no URI and may not act as a client, so it
        is of no use on a protocol link.
        """
        names = _host_names(hosts)
        if not names:
            raise ValueError("a server certificate needs at least one host")
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(hosts[0][:64], unit="server")
        certificate = self._issue(subject, key.public_key(), names, _SERVER_ONLY, days)
        return certificate, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def _issue_member(self, role: Role, name: str, public: PublicKey, hosts: Sequence[str], days: int) -> bytes:
        identity = Subject(self.cluster, role, name)
        names = [x509.UniformResourceIdentifier(identity.uri), *_host_names(hosts)]
        usages = _BOTH_WAYS if role is Role.REPLICA else _CLIENT_ONLY
        return self._issue(_name(name, unit=role), _library_public(public), names, usages, days)

    def _issue(
        self,
        subject: x509.Name,
        public: _LeafKey,
        names: Sequence[x509.GeneralName],
        usages: Sequence[x509.ObjectIdentifier],
        days: int,
    ) -> bytes:
        if days < 1:
            raise ValueError("a certificate is valid for at least one day")
        now = datetime.now(UTC)
        issuer = self.certificate
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer.subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(max(now - _BACKDATE, issuer.not_valid_before_utc))
            .not_valid_after(min(now + timedelta(days=days), issuer.not_valid_after_utc))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(_library_public(self._key.public)), critical=False
            )
        )
        return builder.sign(_library_private(self._key), None).public_bytes(Encoding.PEM)


def _self_signed(key: PrivateKey, cluster: str) -> x509.Certificate:
    now = datetime.now(UTC)
    public = _library_public(key.public)
    name = _name(cluster, unit="ca")
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(now + timedelta(days=AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(_library_private(key), None)
    )


def _name(common_name: str, *, unit: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, _ORGANIZATION),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _host_names(hosts: Sequence[str]) -> list[x509.GeneralName]:
    """Each host once, as an address when it is one, else as a DNS name.  Raises ValueError."""
    names: list[x509.GeneralName] = []
    for host in dict.fromkeys(hosts):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            if not host or not host.isascii() or any(character in host for character in " /:@"):
                raise ValueError(f"{host!r} is no host name or address") from None
            names.append(x509.DNSName(host))
    return names


def _key_usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _library_public(public: PublicKey) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(public.raw)


def _library_private(key: PrivateKey) -> Ed25519PrivateKey:
    loaded = load_pem_private_key(key.to_pem(), password=None)
    if not isinstance(loaded, Ed25519PrivateKey):
        raise TypeError("an Ed25519 key did not read back as one")
    return loaded
