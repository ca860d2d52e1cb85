"""`make bench-micro`: codec, signatures, Merkle trees and core, one after the other (pytest-benchmark).

The figures go to bench-results/micro.json as well; `pytest-benchmark compare` reads two of them.
"""

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.micro.quartet import VALUE, Quartet
from bft.codec import Limits, decode_body, encode_body, encode_frame, encode_payload
from bft.core.messages import Authenticated, Request, RequestKind
from bft.core.parameters import Parameters
from bft.statemachine.kv import encode_put
from crypto import merkle
from crypto.keys import PrivateKey, verify

MESSAGE = bytes(200)  # about a vote


def request(operations: int) -> Authenticated[Request]:
    """Signed by nobody: the codec does not look."""
    message = Request(bytes(32), 1, 7, 6, RequestKind.APPLICATION, (encode_put(b"key", VALUE),) * operations)
    return Authenticated(message, encode_payload(message), bytes(64))


@pytest.mark.parametrize("operations", [1, 64])
def test_encode_a_request(benchmark: BenchmarkFixture, operations: int) -> None:
    benchmark(encode_frame, request(operations))


@pytest.mark.parametrize("operations", [1, 64])
def test_decode_a_request(benchmark: BenchmarkFixture, operations: int) -> None:
    kind, body = encode_body(request(operations))
    benchmark(decode_body, kind, body, Limits.of(Parameters(n=4)))


def test_sign(benchmark: BenchmarkFixture) -> None:
    benchmark(PrivateKey.generate().sign, MESSAGE)


def test_verify(benchmark: BenchmarkFixture) -> None:
    key = PrivateKey.generate()
    benchmark(verify, key.public.raw, MESSAGE, key.sign(MESSAGE))


@pytest.mark.parametrize("leaves", [1, 64, 1024])
def test_merkle_root(benchmark: BenchmarkFixture, leaves: int) -> None:
    benchmark(merkle.root, [b"result %d" % number for number in range(leaves)])


@pytest.mark.parametrize("leaves", [64, 1024])
def test_merkle_proofs_of_all_leaves(benchmark: BenchmarkFixture, leaves: int) -> None:
    benchmark(merkle.all_proofs, [b"result %d" % number for number in range(leaves)])


@pytest.mark.parametrize(("width", "bundle"), [(1, 1), (64, 1), (8, 64)])
def test_a_batch_through_four_cores_in_one_thread(benchmark: BenchmarkFixture, width: int, bundle: int) -> None:
    quartet = Quartet()
    benchmark.extra_info["operations"] = width * bundle
    benchmark(quartet.commit, width=width, bundle=bundle)
