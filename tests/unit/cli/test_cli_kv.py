"""`bft kv` where no cluster answers; tests/e2e has the rest."""

import json

import pytest

from bft.cli.asking import as_line, entry_document
from bft.client import Entry
from bft.errors import ExitCode


def assert_one_line(err: str) -> None:
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_a_cluster_that_does_not_answer_is_one_line_and_exit_code_7(bft, cluster):
    result = bft("kv", "get", "x", "--cluster", cluster, "--timeout", "0.2")
    assert result.code == ExitCode.UNAVAILABLE
    assert_one_line(result.err)
    assert "0 of 4 replicas could be reached, 2 are needed" in result.err


def test_a_missing_cluster_is_one_line(bft, tmp_path):
    result = bft("kv", "get", "x", "--cluster", tmp_path / "none")
    assert result.code == ExitCode.ENVIRONMENT
    assert_one_line(result.err)


def test_a_missing_identity_is_one_line(bft, cluster):
    result = bft("kv", "get", "x", "--cluster", cluster, "--identity", "nobody")
    assert result.code == ExitCode.ENVIRONMENT
    assert_one_line(result.err)


def test_the_cluster_comes_from_the_environment_too(bft, cluster, monkeypatch):
    monkeypatch.setenv("BFT_CLUSTER", str(cluster))
    result = bft("kv", "get", "x", "--timeout", "0.2")
    assert result.code == ExitCode.UNAVAILABLE


def test_without_a_cluster_the_command_line_makes_no_sense(bft, monkeypatch):
    monkeypatch.delenv("BFT_CLUSTER", raising=False)
    result = bft("kv", "get", "x")
    assert result.code == ExitCode.USAGE
    assert_one_line(result.err)
    assert "--cluster" in result.err


@pytest.mark.parametrize(
    "options",
    [(), ("--expect", "a"), ("--new", "b"), ("--expect", "a", "--expect-absent", "--new", "b"),
     ("--expect", "a", "--new", "b", "--delete")],
)  # fmt: skip
def test_a_compare_and_swap_says_what_is_expected_and_what_is_new(bft, cluster, options):
    result = bft("kv", "cas", "x", *options, "--cluster", cluster)
    assert result.code == ExitCode.USAGE
    assert_one_line(result.err)


def test_what_is_not_text_is_base64_in_json():
    shown = entry_document(b"k", Entry(value=b"\xff\x00", mod_revision=3, create_revision=2, version=1))
    assert json.loads(json.dumps(shown)) == {
        "key": "k", "value_base64": "/wA=", "mod_revision": 3, "create_revision": 2, "version": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((), "at least one --then or --else"),
        (("--if", "exits k", "--then", "get k"), "is none of"),
        (("--if", "value k <= 1", "--then", "get k"), "not <="),
        (("--if", "mod k == x", "--then", "get k"), "invalid literal"),
        (("--then", "put k"), "is none of"),
        (("--then", "put k v ttl=soon"), "could not convert"),
        (("--then", "put k 'v"), "No closing quotation"),
    ],
)
def test_a_transaction_that_makes_no_sense_is_one_line(bft, cluster, options, says):
    result = bft("kv", "txn", *options, "--cluster", cluster)
    assert result.code == ExitCode.USAGE
    assert_one_line(result.err)
    assert says in result.err


@pytest.mark.parametrize(
    ("options", "code"),
    [((), 2), (("a", "--hex", "00"), 2), (("--hex", "0"), 2), (("--file", "/nowhere/at/all"), 4), (("a",), 7)],
)
def test_a_call_that_cannot_be_made_is_one_line(bft, cluster, options, code):
    result = bft("call", *options, "--cluster", cluster, "--timeout", "0.2")
    assert result.code == code
    assert_one_line(result.err)


def test_a_watch_of_a_prefix_or_of_a_key(bft, cluster):
    result = bft("kv", "watch", "a", "--key", "b", "--cluster", cluster)
    assert result.code == ExitCode.USAGE
    assert_one_line(result.err)
    assert bft("kv", "watch", "a", "--cluster", cluster, "--timeout", "0.2").code == ExitCode.UNAVAILABLE


def test_what_steers_a_terminal_is_escaped_in_a_line():
    assert as_line("é\x1b[2J\n".encode() + b"\xff") == "é\\x1b[2J\\n\\xff"


@pytest.mark.parametrize(
    "command",
    [
        ("get", "x", "--timeout", "nan"), ("watch", "--timeout", "nan"), ("put", "x", "1", "--ttl", "nan"),
        ("get", "x", "--consistency", "stale", "--max-age", "nan"), ("watch", "--since", str(1 << 64)),
    ],
)  # fmt: skip
def test_what_is_no_number_or_none_of_64_bits_is_one_line(bft, cluster, command):
    result = bft("kv", *command, "--cluster", cluster)
    assert result.code == ExitCode.USAGE
    assert_one_line(result.err)


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("bft ", ["cluster", "replica", "kv", "call"]),
        ("bft kv wa", ["watch"]),
        ("bft kv get x --cons", ["--consistency"]),
        ("bft kv get x --consistency l", ["linearizable"]),
        ("bft kv txn --", ["--if", "--then", "--else", "--receipt", "--json"]),
    ],
)
def test_shells_are_told_what_can_be_completed(bft, capfd, monkeypatch, typed, offered):
    monkeypatch.setenv("_BFT_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(typed.count(" ")))
    with pytest.raises(SystemExit):
        bft()
    completed = [line.partition(",")[2] for line in capfd.readouterr().out.splitlines()]
    assert set(offered) <= set(completed)
