"""The CA's certificates and the one verdict on them: who, which role, which cluster, at which time."""

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto.ca import CertificateAuthority
from crypto.certificates import (
    CERTIFICATE_BYTES_MAX,
    Certificate,
    InvalidCertificate,
    Role,
    Subject,
    der_of_pem,
    verify_authority,
    verify_certificate,
)
from crypto.keys import InvalidKey, PrivateKey

CLUSTER = "demo-3f9a2c1b"
KEY = PrivateKey.from_seed(b"\x0b" * 32)
DAY_NS = 86_400 * 10**9
NOW_NS = int(datetime.now(UTC).timestamp()) * 10**9


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return CertificateAuthority.create(tmp_path_factory.mktemp("ca"), CLUSTER)


@pytest.fixture(scope="module")
def other_authority(tmp_path_factory):
    """Another CA with the same names."""
    return CertificateAuthority.create(tmp_path_factory.mktemp("other"), CLUSTER)


def check(authority, pem, *, cluster=CLUSTER, at=NOW_NS, role=None):
    return verify_certificate(der_of_pem(pem), authority.der, cluster=cluster, at_time_ns=at, role=role)


def refusal_of(function, *args, **kwargs) -> str:
    """The message with which InvalidCertificate is raised, or nothing; any other exception fails the test."""
    try:
        function(*args, **kwargs)
    except InvalidCertificate as refusal:
        return str(refusal)
    return ""


class Forge:
    """Certificates that our CA never issues, signed by its key all the same; each part can be replaced or left out."""

    def __init__(self, authority):
        self.authority = authority
        self.key = Ed25519PrivateKey.from_private_bytes(authority._key._seed)

    def __call__(self, *, issuer=None, public=None, signer=None, hash_=None, serial=77, **parts):
        parts = {
            "constraints": (x509.BasicConstraints(ca=False, path_length=None), True),
            "usage": (self.usage(digital_signature=True), True),
            "purposes": (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False),
            "names": (self.uris(f"bft://{CLUSTER}/client/alice"), False),
        } | parts
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(issuer or self.authority.certificate.subject)
            .public_key(public or Ed25519PublicKey.from_public_bytes(KEY.public.raw))
            .serial_number(serial)
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
        )
        for part in parts.values():
            if part is not None:
                builder = builder.add_extension(part[0], critical=part[1])
        return builder.sign(signer or self.key, hash_).public_bytes(Encoding.DER)

    def verify(self, **parts):
        return verify_certificate(self(**parts), self.authority.der, cluster=CLUSTER, at_time_ns=NOW_NS)

    @staticmethod
    def uris(*uris):
        return x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri) for uri in uris])

    @staticmethod
    def usage(*, digital_signature=False, key_cert_sign=False):
        return x509.KeyUsage(
            digital_signature=digital_signature,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=key_cert_sign,
            crl_sign=False,
            encipher_only=False,
            decipher_only=False,
        )


@pytest.fixture(scope="module")
def template(authority):
    """The DER that hostile certificates start from."""
    return der_of_pem(authority.issue_replica(0, KEY.public, ["h"]))


@pytest.fixture(scope="module")
def forge(authority):
    return Forge(authority)


class TestSubject:
    @pytest.mark.parametrize(
        ("subject", "uri"),
        [
            (Subject(CLUSTER, Role.REPLICA, "0"), f"bft://{CLUSTER}/replica/0"),
            (Subject(CLUSTER, Role.CLIENT, "a.b_c-D"), f"bft://{CLUSTER}/client/a.b_c-D"),
            (Subject("c", Role.ADMIN, "x" * 64), f"bft://c/admin/{'x' * 64}"),
        ],
    )
    def test_a_subject_survives_its_uri(self, subject, uri):
        assert subject.uri == uri
        assert Subject.parse(uri) == subject

    @pytest.mark.parametrize(
        "uri",
        [
            "",
            "bft://",
            "bft://c/client",
            "bft://c/client/",
            "bft:///client/a",
            "bft://c//a",
            "bft://c/root/a",
            "bft://c/CLIENT/a",
            "BFT://c/client/a",
            "http://c/client/a",
            "bft://c/client/a/",
            "bft://c/client/a/b",
            "bft://c/client/a\n",
            "bft://c/client/a b",
            "bft://c/client/a%20",
            "bft://c/client/a?x",
            "bft://c/client/é",
            "bft://c/client/..",
            "bft://./client/a",
            "bft://c/client/" + "x" * 65,
            "bft://" + "x" * 65 + "/client/a",
            "bft://u@c/client/a",
            "bft://c:1/client/a",
            "bft://c/replica/00",
            "bft://c/replica/01",
            "bft://c/replica/-1",
            "bft://c/replica/a",
            "bft://c/replica/٣",
        ],
    )
    def test_anything_but_the_one_spelling_is_refused(self, uri):
        with pytest.raises(InvalidCertificate):
            Subject.parse(uri)

    @given(st.text(max_size=30))
    def test_what_parses_is_spelled_back_alike(self, tail):
        uri = "bft://c/" + tail
        try:
            subject = Subject.parse(uri)
        except InvalidCertificate:
            return
        assert subject.uri == uri


class TestIssued:
    def test_a_replicas_certificate_says_who_it_is(self, authority):
        certificate = check(authority, authority.issue_replica(3, KEY.public, ["127.0.0.1"]), role=Role.REPLICA)
        assert certificate.subject_identity == Subject(CLUSTER, Role.REPLICA, "3")
        assert certificate.public_key == KEY.public

    def test_a_clients_certificate_says_who_it_is(self, authority):
        certificate = check(authority, authority.issue_client("alice", KEY.public), role=Role.CLIENT)
        assert certificate.subject_identity == Subject(CLUSTER, Role.CLIENT, "alice")

    def test_an_admins_certificate_says_who_it_is(self, authority):
        certificate = check(authority, authority.issue_admin("root", KEY.public), role=Role.ADMIN)
        assert certificate.subject_identity == Subject(CLUSTER, Role.ADMIN, "root")

    def test_a_replicas_hosts_are_listed_once_as_addresses_or_names(self, authority):
        pem = authority.issue_replica(0, KEY.public, ["10.0.0.1", "::1", "r0.example", "10.0.0.1"])
        names = x509.load_pem_x509_certificate(pem).extensions.get_extension_for_class(x509.SubjectAlternativeName)
        assert [str(ip) for ip in names.value.get_values_for_type(x509.IPAddress)] == ["10.0.0.1", "::1"]
        assert names.value.get_values_for_type(x509.DNSName) == ["r0.example"]

    def test_serial_numbers_differ(self, authority):
        pems = [authority.issue_client("alice", KEY.public) for _ in range(5)]
        assert len({Certificate.from_pem(pem).serial for pem in pems}) == 5

    def test_the_validity_is_the_days_asked_for(self, authority):
        certificate = check(authority, authority.issue_client("alice", KEY.public, days=10))
        assert abs(certificate.not_after - (NOW_NS + 10 * DAY_NS)) < DAY_NS

    def test_no_certificate_outlives_its_ca(self, authority):
        certificate = check(authority, authority.issue_client("alice", KEY.public, days=100_000))
        end = authority.certificate.not_valid_after_utc.timestamp()
        assert certificate.not_after // 10**9 == end

    def test_a_certificate_survives_pem(self, authority):
        certificate = Certificate.from_pem(authority.issue_client("alice", KEY.public))
        assert Certificate.from_pem(certificate.pem) == certificate

    def test_a_server_certificate_is_p256_and_no_identity(self, authority):
        certificate, key = authority.issue_server(["localhost", "127.0.0.1"])
        parsed = x509.load_pem_x509_certificate(certificate)
        public = parsed.public_key()
        assert isinstance(public, ec.EllipticCurvePublicKey)
        assert isinstance(public.curve, ec.SECP256R1)
        assert load_pem_private_key(key, None).public_key() == public
        with pytest.raises(InvalidCertificate):
            check(authority, certificate)

    @pytest.mark.parametrize("host", ["", "a b", "http://x", "é.example", "x/y"])
    def test_a_host_that_is_none_is_refused(self, authority, host):
        with pytest.raises(ValueError, match="host"):
            authority.issue_replica(0, KEY.public, [host])

    @pytest.mark.parametrize("name", ["", "a/b", "..", "x" * 65, "a\nb"])
    def test_a_name_that_is_none_is_refused(self, authority, name):
        with pytest.raises(ValueError, match="name"):
            authority.issue_client(name, KEY.public)

    def test_a_negative_replica_number_is_refused(self, authority):
        with pytest.raises(ValueError, match="replica number"):
            authority.issue_replica(-1, KEY.public, [])


class TestVerdict:
    def test_a_certificate_of_another_ca_of_the_same_name_is_refused(self, authority, other_authority):
        with pytest.raises(InvalidCertificate, match="not issued by this CA"):
            check(authority, other_authority.issue_client("alice", KEY.public))

    def test_a_certificate_of_another_cluster_is_refused(self, authority):
        with pytest.raises(InvalidCertificate, match="of cluster"):
            check(authority, authority.issue_client("alice", KEY.public), cluster="demo-00000000")

    @pytest.mark.parametrize("role", [Role.REPLICA, Role.ADMIN])
    def test_a_clients_certificate_is_refused_for_another_role(self, authority, role):
        with pytest.raises(InvalidCertificate, match=f"not a {role}'s"):
            check(authority, authority.issue_client("alice", KEY.public), role=role)

    def test_the_time_given_decides_and_both_ends_count(self, authority):
        pem = authority.issue_client("alice", KEY.public, days=10)
        certificate = Certificate.from_pem(pem)
        check(authority, pem, at=certificate.not_before)
        check(authority, pem, at=certificate.not_after)
        # The CA began in the same hour, so a moment before the certificate may be before the CA too.
        with pytest.raises(InvalidCertificate, match="not valid"):
            check(authority, pem, at=certificate.not_before - 1)
        with pytest.raises(InvalidCertificate, match="has expired"):
            check(authority, pem, at=certificate.not_after + 1)

    def test_nothing_is_valid_outside_the_cas_own_time(self, authority):
        pem = authority.issue_client("alice", KEY.public, days=100_000)
        with pytest.raises(InvalidCertificate, match="the CA's certificate"):
            check(authority, pem, at=NOW_NS + 20 * 365 * DAY_NS)

    def test_a_repeated_question_gets_the_same_answer(self, authority):
        pem = authority.issue_client("alice", KEY.public)
        assert check(authority, pem) == check(authority, pem)
        for _ in range(2):
            with pytest.raises(InvalidCertificate):
                check(authority, pem, at=NOW_NS + 900 * DAY_NS)

    def test_the_cas_own_certificate_is_no_identity(self, authority):
        with pytest.raises(InvalidCertificate):
            check(authority, authority.pem)

    def test_a_certificate_does_not_do_as_a_ca(self, authority):
        leaf = der_of_pem(authority.issue_replica(0, KEY.public, []))
        with pytest.raises(InvalidCertificate):
            verify_certificate(leaf, leaf, cluster=CLUSTER, at_time_ns=NOW_NS)

    def test_a_flipped_bit_anywhere_is_refused(self, authority):
        der = der_of_pem(authority.issue_client("alice", KEY.public))
        for position, bit in itertools.product(range(len(der)), range(8)):
            hostile = der[:position] + bytes([der[position] ^ (1 << bit)]) + der[position + 1 :]
            with pytest.raises(InvalidCertificate):
                verify_certificate(hostile, authority.der, cluster=CLUSTER, at_time_ns=NOW_NS)

    def test_a_second_encoding_of_a_certificate_is_refused(self, authority):
        """A bit string may declare zero bits at its end unused, outside of what is signed."""
        ders = (der_of_pem(authority.issue_client("alice", KEY.public)) for _ in range(100))
        der = next(der for der in ders if not der[-1] & 1)
        assert der[-65] == 0
        with pytest.raises(InvalidCertificate, match="not issued by this CA"):
            verify_certificate(der[:-65] + b"\x01" + der[-64:], authority.der, cluster=CLUSTER, at_time_ns=NOW_NS)

    def test_trailing_bytes_are_refused(self, authority):
        der = der_of_pem(authority.issue_client("alice", KEY.public))
        with pytest.raises(InvalidCertificate):
            verify_certificate(der + b"\0", authority.der, cluster=CLUSTER, at_time_ns=NOW_NS)


class TestProfile:
    """What our CA would have to sign by mistake is refused as well."""

    def test_the_forged_certificate_is_good_when_nothing_is_replaced(self, forge):
        assert forge.verify().subject_identity == Subject(CLUSTER, Role.CLIENT, "alice")

    def test_two_uris_are_refused(self, forge):
        names = forge.uris(f"bft://{CLUSTER}/client/alice", f"bft://{CLUSTER}/replica/0")
        with pytest.raises(InvalidCertificate, match="2 URIs"):
            forge.verify(names=(names, False))

    def test_no_uri_is_refused(self, forge):
        names = x509.SubjectAlternativeName([x509.DNSName("alice")])
        with pytest.raises(InvalidCertificate, match="0 URIs"):
            forge.verify(names=(names, False))

    def test_no_alternative_name_is_refused(self, forge):
        with pytest.raises(InvalidCertificate, match="0 URIs"):
            forge.verify(names=None)

    def test_a_replica_that_may_not_serve_is_refused(self, forge):
        with pytest.raises(InvalidCertificate, match="extended key usages"):
            forge.verify(names=(forge.uris(f"bft://{CLUSTER}/replica/0"), False))

    def test_missing_extended_key_usages_are_refused(self, forge):
        with pytest.raises(InvalidCertificate, match="extended key usages"):
            forge.verify(purposes=None)

    def test_any_extended_key_usage_is_not_enough(self, forge):
        purposes = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE])
        with pytest.raises(InvalidCertificate, match="extended key usages"):
            forge.verify(purposes=(purposes, False))

    def test_a_subordinate_ca_is_no_identity(self, forge):
        with pytest.raises(InvalidCertificate, match="CA's certificate"):
            forge.verify(constraints=(x509.BasicConstraints(ca=True, path_length=None), True))

    @pytest.mark.parametrize("usage", [{}, {"digital_signature": True, "key_cert_sign": True}])
    def test_another_key_usage_is_refused(self, forge, usage):
        with pytest.raises(InvalidCertificate, match="key usage"):
            forge.verify(usage=(forge.usage(**usage), True))

    def test_a_missing_key_usage_is_refused(self, forge):
        with pytest.raises(InvalidCertificate, match="key usage"):
            forge.verify(usage=None)

    def test_an_unknown_critical_extension_is_refused(self, forge):
        unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
        with pytest.raises(InvalidCertificate, match=r"1\.2\.3\.4"):
            forge.verify(extra=(unknown, True))

    def test_an_unknown_extension_that_is_not_critical_is_ignored(self, forge):
        unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
        assert forge.verify(extra=(unknown, False))

    def test_another_issuer_name_is_refused(self, forge):
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
        with pytest.raises(InvalidCertificate, match="not issued by this CA"):
            forge.verify(issuer=issuer)

    def test_a_key_that_is_not_ed25519_is_refused(self, forge):
        with pytest.raises(InvalidCertificate, match="not Ed25519"):
            forge.verify(public=ec.generate_private_key(ec.SECP256R1()).public_key())

    def test_a_small_order_key_is_refused(self, forge):
        with pytest.raises(InvalidCertificate, match="small order"):
            forge.verify(public=Ed25519PublicKey.from_public_bytes(b"\x01" + bytes(31)))

    def test_a_signature_of_another_algorithm_is_refused(self, forge):
        with pytest.raises(InvalidCertificate, match="not issued by this CA"):
            forge.verify(signer=ec.generate_private_key(ec.SECP256R1()), hash_=SHA256())

    def test_a_certificate_over_the_size_limit_is_refused(self, forge):
        padding = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), bytes(CERTIFICATE_BYTES_MAX))
        with pytest.raises(InvalidCertificate, match="larger than"):
            forge.verify(extra=(padding, False))


class TestAuthority:
    def test_a_created_ca_loads_and_issues_for_its_cluster(self, tmp_path):
        created = CertificateAuthority.create(tmp_path / "new" / "ca", CLUSTER)
        loaded = CertificateAuthority.load(tmp_path / "new" / "ca")
        assert loaded.cluster == CLUSTER
        assert check(created, loaded.issue_client("alice", KEY.public))

    def test_the_cas_key_file_has_mode_0600(self, tmp_path):
        CertificateAuthority.create(tmp_path, CLUSTER)
        assert (tmp_path / "ca.key").stat().st_mode & 0o7777 == 0o600

    @pytest.mark.parametrize("kept", ["ca.key", "ca.crt"])
    def test_a_ca_is_never_overwritten(self, tmp_path, kept):
        (tmp_path / kept).write_bytes(b"precious")
        with pytest.raises(FileExistsError, match=kept):
            CertificateAuthority.create(tmp_path, CLUSTER)
        assert [path.name for path in tmp_path.iterdir()] == [kept]
        assert (tmp_path / kept).read_bytes() == b"precious"

    def test_a_bad_cluster_name_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match="cluster name"):
            CertificateAuthority.create(tmp_path, "a/b")
        assert not list(tmp_path.iterdir())

    def test_a_ca_whose_key_others_can_read_is_refused(self, tmp_path):
        CertificateAuthority.create(tmp_path, CLUSTER)
        (tmp_path / "ca.key").chmod(0o644)
        with pytest.raises(InvalidKey, match="chmod 600"):
            CertificateAuthority.load(tmp_path)

    def test_a_ca_whose_files_do_not_belong_together_is_refused(self, tmp_path, other_authority):
        CertificateAuthority.create(tmp_path, CLUSTER)
        (tmp_path / "ca.crt").write_bytes(other_authority.pem)
        with pytest.raises(InvalidCertificate, match="does not belong"):
            CertificateAuthority.load(tmp_path)

    @pytest.mark.parametrize("path_length", [None, 1])
    def test_a_ca_that_may_have_subordinates_is_refused(self, path_length):
        key = Ed25519PrivateKey.generate()
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, CLUSTER)])
        now = datetime.now(UTC)
        ca = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(5)
            .not_valid_before(now)
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
            .add_extension(Forge.usage(key_cert_sign=True), critical=True)
            .sign(key, None)
        )
        with pytest.raises(InvalidCertificate, match="path length"):
            verify_authority(ca.public_bytes(Encoding.DER))

    @pytest.mark.parametrize("count", [0, 2])
    def test_pem_with_no_or_two_certificates_is_refused(self, authority, count):
        with pytest.raises(InvalidCertificate):
            der_of_pem(authority.pem * count)


class TestHostileBytes:
    """Whatever the bytes, the answer is InvalidCertificate (or a certificate), never another exception."""

    @staticmethod
    def read(der, authority):
        for read in (Certificate.from_der, verify_authority):
            assert "\n" not in refusal_of(read, der)
        with pytest.raises(InvalidCertificate):
            verify_certificate(der, authority.der, cluster=CLUSTER, at_time_ns=NOW_NS)

    @given(der=st.binary(max_size=200))
    @settings(max_examples=200, deadline=None)
    def test_random_bytes(self, authority, der):
        self.read(der, authority)

    @given(data=st.data())
    @settings(max_examples=800, deadline=None)
    def test_a_certificate_with_bytes_changed(self, authority, template, data):
        der = bytearray(template)
        for _ in range(data.draw(st.integers(1, 4))):
            position = data.draw(st.integers(0, len(der) - 1))
            der[position] = der[position] ^ data.draw(st.integers(1, 255))
        if bytes(der) != template:
            self.read(bytes(der), authority)

    @given(data=st.data())
    @settings(max_examples=200, deadline=None)
    def test_a_certificate_cut_or_spliced(self, authority, template, data):
        start, end = sorted(data.draw(st.tuples(st.integers(0, len(template)), st.integers(0, len(template)))))
        hostile = template[:start] + data.draw(st.binary(max_size=20)) + template[end:]
        if hostile != template:
            self.read(hostile, authority)

    @given(tail=st.binary(max_size=60), kind=st.sampled_from(["2.5.29.17", "2.5.29.15", "2.5.29.37", "2.5.29.19"]))
    @settings(max_examples=300, deadline=None)
    def test_an_understood_extension_with_arbitrary_content_that_our_ca_signed(self, forge, tail, kind):
        """Beyond the signature check too: extensions parse lazily."""
        part = {"2.5.29.17": "names", "2.5.29.15": "usage", "2.5.29.37": "purposes", "2.5.29.19": "constraints"}[kind]
        hostile = (x509.UnrecognizedExtension(x509.ObjectIdentifier(kind), tail), False)
        assert "\n" not in refusal_of(forge.verify, **{part: hostile})

    @pytest.mark.parametrize(
        "pem", [b"", b"x" * 100_000, b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"]
    )
    def test_pem_that_is_none(self, pem):
        with pytest.raises(InvalidCertificate):
            Certificate.from_pem(pem)
