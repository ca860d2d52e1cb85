"""Real processes, but no replicas: what is started is a module that sleeps."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy import launcher

SLEEPER = """
import signal, sys, time
if "--stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
if "--fail" in sys.argv:
    sys.exit(4)
time.sleep(60)
"""


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    home = tmp_path / "replica-0"
    home.mkdir()
    yield home
    launcher.stop([home], grace_s=0.0)


def start(directory: Path, *arguments: str) -> launcher.Launch:
    launch = launcher.start(directory, "sleeper", arguments)
    wait_for_log(directory, "ready", launch.log_offset)
    return launch


def wait_for_log(directory: Path, line: str, since: int) -> None:
    for _ in range(500):
        if line in launcher.tail(directory / launcher.LOG_FILE, 10, since=since):
            return
        time.sleep(0.02)
    raise AssertionError("the process wrote nothing")


def test_a_started_process_is_found_again(directory):
    launch = start(directory)
    assert launcher.find(directory) == launch.process
    assert not launch.already_running


def test_starting_twice_leaves_the_first_process_alone(directory):
    first = start(directory)
    second = launcher.start(directory, "sleeper")
    assert second.already_running
    assert second.process == first.process


def test_a_started_process_has_a_session_of_its_own(directory):
    pid = start(directory).process.pid
    assert os.getsid(pid) == pid != os.getsid(0)


def test_a_started_process_does_not_inherit_the_clients_cluster(directory, monkeypatch):
    monkeypatch.setenv("BFT_CLUSTER", "somewhere")
    pid = start(directory).process.pid
    assert b"BFT_CLUSTER=" not in Path(f"/proc/{pid}/environ").read_bytes()


def test_a_stopped_process_is_gone_with_its_pid_file(directory):
    start(directory)
    assert launcher.stop([directory]) == {directory: False}
    assert launcher.find(directory) is None
    assert not (directory / launcher.PID_FILE).exists()


def test_a_process_that_ignores_sigterm_is_killed_after_the_grace_period(directory):
    start(directory, "--stubborn")
    assert launcher.stop([directory], grace_s=0.1) == {directory: True}
    assert launcher.find(directory) is None


def test_stopping_what_does_not_run_is_harmless(directory):
    assert launcher.stop([directory]) == {}


def test_a_killed_process_is_started_anew(directory):
    first = start(directory).process
    os.kill(first.pid, signal.SIGKILL)
    os.waitpid(first.pid, 0)
    second = start(directory)
    assert not second.already_running
    assert second.process != first


def test_a_zombie_does_not_count_as_running(directory):
    process = start(directory).process
    os.kill(process.pid, signal.SIGKILL)
    for _ in range(500):
        if launcher.find(directory) is None:
            break
        time.sleep(0.02)
    assert Path(f"/proc/{process.pid}").exists()
    assert launcher.find(directory) is None
    os.waitpid(process.pid, 0)


def test_the_exit_code_of_a_process_that_ended_is_known(directory):
    launch = start(directory, "--fail")
    code = None
    for _ in range(500):
        code = launcher.exit_code(launch.process)
        if code is not None:
            break
        time.sleep(0.02)
    assert code == 4


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A living process that is no replica."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        yield process
        process.kill()


def started(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def test_a_pid_that_another_process_has_now_is_not_signalled(directory, stranger):
    (directory / launcher.PID_FILE).write_text(f"{stranger.pid} {started(stranger.pid) - 1}\n")
    assert launcher.find(directory) is None
    assert launcher.stop([directory], grace_s=0.0) == {}
    assert stranger.poll() is None


def test_a_process_with_another_command_line_is_not_signalled(directory, stranger):
    (directory / launcher.PID_FILE).write_text(f"{stranger.pid} {started(stranger.pid)}\n")
    assert launcher.find(directory) is None
    assert launcher.stop([directory], grace_s=0.0) == {}
    assert stranger.poll() is None


@pytest.mark.parametrize("content", ["", "12", "x y", "1 2 3", "-1 5"])
def test_a_torn_pid_file_is_no_process(directory, content):
    (directory / launcher.PID_FILE).write_text(content)
    assert launcher.find(directory) is None


def test_the_tail_of_a_log_begins_where_the_process_began_to_write(directory):
    log = directory / launcher.LOG_FILE
    log.write_text("old\n")
    since = log.stat().st_size
    with log.open("a") as file:
        file.write("one\ntwo\nthree\n")
    assert launcher.tail(log, 2, since=since) == ["two", "three"]
    assert launcher.tail(log, 9, since=since) == ["one", "two", "three"]


def test_a_missing_log_has_no_tail(directory):
    assert launcher.tail(directory / "none", 5) == []
