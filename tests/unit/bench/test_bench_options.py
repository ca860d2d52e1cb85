"""Options that make no sense are refused in one line, before anything is started."""

import pytest

from bench.faults import Fault
from bench.options import Options
from bft.cli import main
from bft.errors import ConfigurationError, ExitCode


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--value-size", "5"), "--value-size must be at least 12"),
        (("--keys", "3"), "--keys must be at least 64"),
        (("--bundle", "64", "--inflight", "200"), "--inflight is at most 128"),
        (("--behaviour", "equivocate"), "is no behaviour"),
        (("--behaviour", "0=silent@soon"), "is no behaviour"),
        (("--behaviour", "0=silent@-1s"), "is no behaviour"),
        (("--behaviour", "4=silent"), "the replicas are 0 to 3"),
        (("--behaviour", "0=silent", "--behaviour", "1=silent"), "withstand 1 faulty, not more"),
        (("--behaviour", "0=silent@30s"), "after the end"),
        (("--workload", "ycsb-z"), "kv-put, ycsb-a"),
        (("--workload", "bench.options:Options"), "no subclass of bench.workloads.Workload"),
        (("--workload", "ycsb-a", "--reads", "0.5"), "leave out --reads"),
        (("--system", "paxos"), "pbft, pbft-unsigned, unreplicated, etcd"),
        (("--system", "bench.nothing:Here"), "No module named"),
        (("--system", "etcd", "--behaviour", "0=silent"), "leave them out"),
        (("--system", "etcd", "--workload", "null"), "is a key-value store"),
    ],
)
def test_options_that_make_no_sense_are_one_line_and_exit_code_3(capfd, tmp_path, arguments, says):
    assert main.run(["bench", "run", "--out", str(tmp_path / "out"), *arguments]) == ExitCode.CONFIGURATION
    assert_one_line(capfd.readouterr().err, says)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--bundle", "many"),
        ("--cluster", "here", "--replicas", "4"),
        ("--keys", "0"),
        ("--keys", "popular:100"),
        ("--keys", ":100"),
    ],
)
def test_a_senseless_command_line_is_one_line_and_exit_code_2(capfd, arguments):
    assert main.run(["bench", "run", *arguments]) == ExitCode.USAGE
    assert_one_line(capfd.readouterr().err, "--help")


def test_results_are_never_overwritten(capfd, tmp_path):
    (tmp_path / "result.json").write_text("precious")
    assert main.run(["bench", "run", "--out", str(tmp_path)]) == ExitCode.ENVIRONMENT
    assert_one_line(capfd.readouterr().err, "is never overwritten")


def assert_one_line(err: str, says: str) -> None:
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert says in err


@pytest.mark.parametrize("text", ["0=equivocate_split@8s", "3=silent", "1=delay:ms=50@0s"])
def test_a_fault_reads_as_it_is_written(text):
    assert str(Fault.parse(text)) == text


def test_a_fault_with_a_moment_waits_for_the_signal():
    assert Fault.parse("0=silent@8s").specification == "0=silent@signal"
    assert Fault.parse("0=silent").specification == "0=silent"


def test_a_behaviour_is_for_a_cluster_of_the_runs_own(tmp_path):
    with pytest.raises(ConfigurationError, match="leave out --cluster"):
        Options(cluster=tmp_path, faults=(Fault(0, "silent", None),))
