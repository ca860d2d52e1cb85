"""Who may open a session: judged by certificate and agreed time alone, so alike at every replica, whenever it looks."""

import time

import pytest

from bft.node.identity import CertificateAdmission
from crypto.ca import CertificateAuthority
from crypto.certificates import der_of_pem
from crypto.keys import PrivateKey

CLUSTER = "test-0badcafe"
DAY_NS = 86_400 * 10**9
KEY = PrivateKey.from_seed(b"k" * 32)
NAME_OF_KEY = KEY.public.raw


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> CertificateAuthority:
    return CertificateAuthority.create(tmp_path_factory.mktemp("ca"), CLUSTER)


@pytest.fixture
def judge(authority):
    admission = CertificateAdmission(CLUSTER, der_of_pem(authority.pem))

    def name(pem: bytes, *, at_ns: int | None = None, client: bytes = NAME_OF_KEY) -> str | None:
        return admission.client_name(der_of_pem(pem), client=client, time_ns=time.time_ns() if at_ns is None else at_ns)

    return name


def test_clients_and_administrators_are_admitted_under_their_certified_names(authority, judge):
    assert judge(authority.issue_client("ada", KEY.public)) == "ada"
    assert judge(authority.issue_admin("root", KEY.public)) == "root"


def test_validity_is_judged_at_the_agreed_time_and_by_no_clock(authority, judge, monkeypatch):
    now_ns = time.time_ns()
    pem = authority.issue_client("ada", KEY.public, days=10)
    monkeypatch.setattr(time, "time", None)
    monkeypatch.setattr(time, "time_ns", None)
    assert judge(pem, at_ns=now_ns + 9 * DAY_NS) == "ada"
    assert judge(pem, at_ns=now_ns + 11 * DAY_NS) is None
    assert judge(pem, at_ns=now_ns - 2 * DAY_NS) is None


def test_another_key_role_cluster_or_authority_is_not_admitted(authority, judge, tmp_path):
    assert judge(authority.issue_client("ada", KEY.public), client=bytes(32)) is None
    assert judge(authority.issue_replica(0, KEY.public, ["127.0.0.1"])) is None
    for number, cluster in enumerate((CLUSTER, "other-0badcafe")):
        stranger = CertificateAuthority.create(tmp_path / str(number), cluster)
        assert judge(stranger.issue_client("ada", KEY.public)) is None


@pytest.mark.parametrize("garbage", [b"", b"garbage", bytes(1000)])
def test_what_is_no_certificate_is_not_admitted(authority, garbage):
    admission = CertificateAdmission(CLUSTER, der_of_pem(authority.pem))
    assert admission.client_name(garbage, client=NAME_OF_KEY, time_ns=time.time_ns()) is None
