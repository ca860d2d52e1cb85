"""What cryptography costs at best: everything is measured, and set against what the run took."""

import pytest

from bench.floor import crypto_floor, share

FLOOR = {"sign_us": 10.0, "verify_us": 100.0, "tls_record_1k_us": 4.0}
REPLICA = {
    "signatures_made_per_operation": 1.0,
    "signatures_verified_per_operation": 2.0,
    "peer_bytes_sent_per_operation": 1024,
    "client_bytes_sent_per_operation": 1024,
}


def test_every_primitive_takes_time_and_a_handshake_more_than_its_signatures():
    floor = crypto_floor()
    assert all(value > 0 for value in floor.values())
    assert floor["tls_handshake_us"] > 2 * floor["sign_us"]


def test_the_floor_is_what_all_replicas_sign_verify_and_encrypt():
    found = share(FLOOR, [REPLICA, REPLICA], cpu_us=864.0)
    assert found == {"signatures_us": 420.0, "tls_us": 12.0, "ratio": 2.0}


@pytest.mark.parametrize("replicas", [[], [{"id": 0}], [{"signatures_made_per_operation": None}]])
def test_replicas_that_were_not_counted_give_no_ratio(replicas):
    assert share(FLOOR, replicas, cpu_us=1.0) == {"signatures_us": 0, "tls_us": 0, "ratio": None}
