"""X.509 certificates of the cluster: who a key belongs to, and in which role.  RFC 5280, RFC 8410

`verify_certificate` is a pure function of its arguments: no clock, no files, no trust store, so that every replica
reaches the same verdict when it executes a registration.  TLS checks chains by itself (OpenSSL); this module then
reads the identity.

A subject is the one URI among the subject alternative names:

    bft://CLUSTER/replica/ID    bft://CLUSTER/client/NAME    bft://CLUSTER/admin/NAME
"""

import re
from calendar import timegm
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from typing import Self, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, SignatureAlgorithmOID

from crypto.digests import sha256
from crypto.keys import InvalidKey, PublicKey, verify

CERTIFICATE_BYTES_MAX = 8 * 1024
NAME_LENGTH_MAX = 64

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_REPLICA_ID = re.compile(r"0|[1-9][0-9]{0,5}")  # one spelling a number
_URI = re.compile(r"bft://([^/]*)/([^/]*)/([^/]*)")
_SIGNATURE_HEAD = bytes.fromhex("300506032b6570 034100")  # AlgorithmIdentifier of Ed25519; BIT STRING of 64 bytes
_CACHE_SIZE = 512  # parsed certificates kept, at most 8 KiB of DER each

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)

# What `cryptography` raises on malformed input, at parse or when a field is first read.  Warning is here because a
# process that turns warnings into errors must reach the same verdict: refused.
_PARSE_ERRORS = (
    ValueError,
    TypeError,
    OverflowError,
    NotImplementedError,
    UnsupportedAlgorithm,
    Warning,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
# Extensions whose meaning is checked below; RFC 5280 §4.2: refuse a critical one that is not understood.
_UNDERSTOOD = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
    }
)


class InvalidCertificate(ValueError):
    """A certificate that is not to be believed; the message is one line and says why."""


class Role(StrEnum):
    """What a certified key may act as."""

    REPLICA = "replica"
    CLIENT = "client"
    ADMIN = "admin"


_USAGES = {
    Role.REPLICA: frozenset({ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH}),
    Role.CLIENT: frozenset({ExtendedKeyUsageOID.CLIENT_AUTH}),
    Role.ADMIN: frozenset({ExtendedKeyUsageOID.CLIENT_AUTH}),
}


def is_name(text: str) -> bool:
    """Whether `text` can name a cluster, client or admin: 1 to 64 of A-Z a-z 0-9 . _ - and no path component."""
    return _NAME.fullmatch(text) is not None and text not in {".", ".."}


@dataclass(frozen=True, slots=True)
class Subject:
    """Who a certificate speaks for.  Raises InvalidCertificate for names that `is_name` refuses."""

    cluster: str
    role: Role
    name: str  # a replica's is its number in decimal, without leading zeros

    def __post_init__(self) -> None:
        if not is_name(self.cluster):
            raise InvalidCertificate(f"{self.cluster!r} is no cluster name")
        if not is_name(self.name):
            raise InvalidCertificate(f"{self.name!r} is no {self.role} name")
        if self.role is Role.REPLICA and _REPLICA_ID.fullmatch(self.name) is None:
            raise InvalidCertificate(f"{self.name!r} is no replica number")

    @property
    def uri(self) -> str:
        """The one spelling that `parse` accepts."""
        return f"bft://{self.cluster}/{self.role}/{self.name}"

    @classmethod
    def parse(cls, uri: str) -> Self:
        """Read a URI; a subject has exactly one spelling.  Raises InvalidCertificate."""
        match = _URI.fullmatch(uri)
        if match is None:
            raise InvalidCertificate(f"{uri!r} is not of the form bft://CLUSTER/ROLE/NAME")
        cluster, role, name = match.groups()
        try:
            return cls(cluster, Role(role), name)
        except InvalidCertificate:
            raise
        except ValueError as error:
            raise InvalidCertificate(f"{role!r} is no role") from error


@dataclass(frozen=True, slots=True)
class Certificate:
    """A protocol certificate, read and found well-formed; only `verify_certificate` or TLS say who issued it."""

    subject_identity: Subject
    public_key: PublicKey
    not_before: int  # ns since the epoch, inclusive
    not_after: int  # ns since the epoch, inclusive
    serial: int  # positive
    der: bytes

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 of the DER encoding."""
        return sha256(self.der)

    @property
    def pem(self) -> bytes:
        """The certificate as PEM."""
        return x509.load_der_x509_certificate(self.der).public_bytes(Encoding.PEM)

    @staticmethod
    def from_der(der: bytes) -> "Certificate":
        """Read a certificate without asking who issued it.  Raises InvalidCertificate."""
        return _read(der)

    @staticmethod
    def from_pem(pem: bytes) -> "Certificate":
        """Read the one certificate in `pem` without asking who issued it.  Raises InvalidCertificate."""
        return _read(der_of_pem(pem))


def der_of_pem(pem: bytes) -> bytes:
    """The DER of the one certificate in `pem`.  Raises InvalidCertificate."""
    if len(pem) > 2 * CERTIFICATE_BYTES_MAX:
        raise InvalidCertificate("PEM is too large")
    with _malformed_is_invalid():
        certificates = x509.load_pem_x509_certificates(pem)
        if len(certificates) != 1:
            raise InvalidCertificate(f"PEM holds {len(certificates)} certificates instead of one")
        return certificates[0].public_bytes(Encoding.DER)


def verify_certificate(
    der: bytes, ca_der: bytes, *, cluster: str, at_time_ns: int, role: Role | None = None
) -> Certificate:
    """The certificate `der`, proven to be issued by the CA `ca_der` for `cluster` and valid at `at_time_ns`.

    With `role` given, it must also be for that role.  Deterministic: the same arguments give the same verdict
    everywhere.  Raises InvalidCertificate, and nothing else, whatever the bytes.
    """
    certificate = _read_issued(der, ca_der)
    authority = _read_authority(ca_der)
    if not authority.not_before <= at_time_ns <= authority.not_after:
        raise InvalidCertificate("the CA's certificate is not valid at this time")
    if at_time_ns < certificate.not_before:
        raise InvalidCertificate("the certificate is not valid yet")
    if at_time_ns > certificate.not_after:
        raise InvalidCertificate("the certificate has expired")
    subject = certificate.subject_identity
    if subject.cluster != cluster:
        raise InvalidCertificate(f"the certificate is of cluster {subject.cluster!r}, not {cluster!r}")
    if role is not None and subject.role is not role:
        raise InvalidCertificate(f"the certificate is a {subject.role}'s, not a {role}'s")
    return certificate


def verify_authority(ca_der: bytes) -> None:
    """Check that `ca_der` can be a cluster's CA: Ed25519, self-signed, allowed to sign certificates, no more CAs.

    Raises InvalidCertificate.
    """
    _read_authority(ca_der)


@dataclass(frozen=True, slots=True)
class _Authority:
    name: x509.Name
    public_raw: bytes
    not_before: int
    not_after: int


@lru_cache(maxsize=16)
def _read_authority(ca_der: bytes) -> _Authority:
    parsed = _parse(ca_der)
    with _malformed_is_invalid():
        public = _public_key(parsed)
        if not _is_signed_by(parsed, ca_der, public.raw) or parsed.issuer != parsed.subject:
            raise InvalidCertificate("the CA's certificate is not self-signed")
        extensions = parsed.extensions
        _refuse_unknown_critical(extensions)
        constraints = _extension(extensions, x509.BasicConstraints)
        if constraints is None or not constraints.ca or constraints.path_length != 0:
            raise InvalidCertificate("the CA's basic constraints are not those of a CA with path length 0")
        usage = _extension(extensions, x509.KeyUsage)
        if usage is None or not usage.key_cert_sign:
            raise InvalidCertificate("the CA's key usage does not allow to sign certificates")
        return _Authority(parsed.subject, public.raw, *_validity(parsed))


@lru_cache(maxsize=_CACHE_SIZE)
def _read_issued(der: bytes, ca_der: bytes) -> Certificate:
    """The part of `verify_certificate` that depends on the two certificates alone."""
    authority = _read_authority(ca_der)
    parsed = _parse(der)
    # The signature comes first: behind it are only bytes that our own CA wrote.
    with _malformed_is_invalid():
        if not _is_signed_by(parsed, der, authority.public_raw) or parsed.issuer != authority.name:
            raise InvalidCertificate("the certificate is not issued by this CA")
    return _read(der)


@lru_cache(maxsize=_CACHE_SIZE)
def _read(der: bytes) -> Certificate:
    parsed = _parse(der)
    with _malformed_is_invalid():
        if parsed.serial_number <= 0:
            raise InvalidCertificate("the serial number is not positive")
        extensions = parsed.extensions
        _refuse_unknown_critical(extensions)
        constraints = _extension(extensions, x509.BasicConstraints)
        if constraints is not None and constraints.ca:
            raise InvalidCertificate("a CA's certificate is no identity")
        usage = _extension(extensions, x509.KeyUsage)
        if usage is None or not usage.digital_signature or usage.key_cert_sign:
            raise InvalidCertificate("the key usage is not that of a signing key")
        subject = _subject(extensions)
        purposes = _extension(extensions, x509.ExtendedKeyUsage)
        if purposes is None or not _USAGES[subject.role].issubset(purposes):
            raise InvalidCertificate(f"the extended key usages are not those of a {subject.role}")
        not_before, not_after = _validity(parsed)
        return Certificate(subject, _public_key(parsed), not_before, not_after, parsed.serial_number, der)


@contextmanager
def _malformed_is_invalid() -> Iterator[None]:
    try:
        yield
    except InvalidCertificate:
        raise
    except _PARSE_ERRORS as error:
        raise InvalidCertificate(f"malformed certificate ({type(error).__name__})") from error


def _parse(der: bytes) -> x509.Certificate:
    if len(der) > CERTIFICATE_BYTES_MAX:
        raise InvalidCertificate(f"the certificate is larger than {CERTIFICATE_BYTES_MAX} bytes")
    with _malformed_is_invalid():
        parsed = x509.load_der_x509_certificate(der)
        if parsed.version is not x509.Version.v3:
            raise InvalidCertificate("the certificate is not of X.509 version 3")
        return parsed


def _is_signed_by(parsed: x509.Certificate, der: bytes, public_raw: bytes) -> bool:
    """Whether `der`, read as `parsed`, is signed by the key and is the one encoding of what was signed.

    The signature does not cover the outer encoding.  The library accepts, for one, a signature whose last bits are
    declared unused; anybody could so give a certificate a second fingerprint.
    """
    return (
        parsed.signature_algorithm_oid == SignatureAlgorithmOID.ED25519
        and der == _sequence(parsed.tbs_certificate_bytes + _SIGNATURE_HEAD + parsed.signature)
        and verify(public_raw, parsed.tbs_certificate_bytes, parsed.signature)
    )


def _sequence(content: bytes) -> bytes:
    """The DER SEQUENCE of encoded elements, of 128 bytes or more as every certificate's are."""
    length = len(content).to_bytes((len(content).bit_length() + 7) // 8, "big")
    return b"\x30" + bytes((0x80 | len(length),)) + length + content


def _public_key(parsed: x509.Certificate) -> PublicKey:
    key = parsed.public_key()
    if not isinstance(key, Ed25519PublicKey):
        raise InvalidCertificate("the certificate's key is not Ed25519")
    try:
        return PublicKey(key.public_bytes_raw())
    except InvalidKey as error:
        raise InvalidCertificate(str(error)) from error


def _subject(extensions: x509.Extensions) -> Subject:
    names = _extension(extensions, x509.SubjectAlternativeName)
    uris = [] if names is None else names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1:
        raise InvalidCertificate(f"the certificate names {len(uris)} URIs instead of one")
    return Subject.parse(uris[0])


def _extension(extensions: x509.Extensions, kind: type[_Extension]) -> _Extension | None:
    try:
        return extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _refuse_unknown_critical(extensions: x509.Extensions) -> None:
    for extension in extensions:
        if extension.critical and extension.oid not in _UNDERSTOOD:
            raise InvalidCertificate(f"unknown critical extension {extension.oid.dotted_string}")


def _validity(parsed: x509.Certificate) -> tuple[int, int]:
    """(not before, not after); the last second counts whole."""
    return _ns(parsed.not_valid_before_utc), _ns(parsed.not_valid_after_utc) + 10**9 - 1


def _ns(moment: datetime) -> int:
    return timegm(moment.utctimetuple()) * 10**9
