"""docs/receipts.md is true: its example is the file that this program writes."""

from pathlib import Path

from bft.receipt import FILE_BYTES_MAX, Receipt
from bft.statemachine import kv
from bft.statemachine.results import Ok, encode_ok
from tests.unit.client.world import signed_request
from tests.unit.receipts import CLUSTER, receipt_of

DOCUMENT = (Path(__file__).parents[2] / "docs" / "receipts.md").read_text()


def example() -> bytes:
    """The bytes of the last block, without its remarks."""
    block = DOCUMENT.rsplit("```\n", 2)[1]
    return bytes.fromhex("".join(line.split("#")[0] for line in block.splitlines()))


def test_the_example_is_the_file_that_is_written():
    put = signed_request(kv.encode_put(b"greeting", b"hello"))
    assert example() == receipt_of(put, results=(encode_ok(b"\xce\x00\x05\x00\x00"),), others=1).encode()


def test_the_example_verifies():
    proven = Receipt.decode(example()).verify(CLUSTER)
    assert isinstance(proven.result, Ok)
    assert kv.decode_put(proven.result.value) == 327_680


def test_the_greatest_size_is_the_one_documented():
    assert f"at most {FILE_BYTES_MAX >> 20} MiB" in DOCUMENT
