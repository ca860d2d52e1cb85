"""What goes wrong in a run is read as it is written, and refused before anything is started if it makes no sense."""

import asyncio
from pathlib import Path

import pytest

from bench.faults import Event, Fault, read_script, stays_down
from bench.links import Profile
from bench.options import Options
from bench.proxy import Line, obey
from bft.errors import ConfigurationError


@pytest.mark.parametrize(
    "text",
    [
        "crash:2@5s",
        "crash:2@5s..8s",
        "restart:2@5s",
        "pause:1@3s..6s",
        "partition:0|1,2,3@3s..6s",
        "partition:0>1@3.5s..6s",
        "network:wan@3s..6s",
        "network:ms=20,mbit=5@3s..6s",
    ],
)
def test_an_event_reads_as_it_is_written(text):
    assert str(Event.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("crash:2", "is no fault"),
        ("crash:two@5s", "is no fault"),
        ("flood:2@5s", "is no fault"),
        ("pause:1@6s..3s", "is no fault"),
        ("pause:1@3s", "needs an end"),
        ("partition:0|1@3s", "needs an end"),
        ("restart:1@3s..4s", "has no end"),
        ("network:moon@3s..4s", "write lan, wan"),
    ],
)
def test_an_event_that_makes_no_sense_is_refused(text, says):
    with pytest.raises(ConfigurationError, match=says):
        Event.parse(text)


def test_a_behaviour_that_does_not_exist_is_refused_before_anything_is_started():
    with pytest.raises(ConfigurationError, match="'sulk' is no behaviour"):
        Fault.parse("0=sulk@3s")


def test_a_behaviour_may_end():
    fault = Fault.parse("0=silent@3s..5s")
    assert (fault.at_s, fault.until_s, fault.specification) == (3.0, 5.0, "0=silent@signal")


@pytest.mark.parametrize(
    ("events", "faults", "says"),
    [
        (["crash:4@1s"], [], "the replicas are 0 to 3"),
        (["partition:0>7@1s..2s"], [], "the replicas are 0 to 3"),
        (["pause:1@20s..21s"], [], "after the end"),
        (["crash:1@1s", "crash:2@1s"], [], "withstand 1 down or misbehaving"),
        (["crash:1@1s"], ["0=silent"], "withstand 1 down or misbehaving"),
        (["crash:0@1s..2s"], ["0=silent"], "misbehaves already"),
    ],
)
def test_a_run_that_its_cluster_cannot_survive_is_refused(events, faults, says):
    with pytest.raises(ConfigurationError, match=says):
        Options(events=tuple(map(Event.parse, events)), faults=tuple(map(Fault.parse, faults)))


def test_all_replicas_may_crash_if_they_come_back():
    Options(events=tuple(Event.parse(f"crash:{replica}@1s..2s") for replica in range(4)))


def test_a_crash_is_for_good_unless_a_restart_follows():
    events = [Event.parse(text) for text in ("crash:1@1s", "restart:1@3s", "restart:2@1s", "crash:2@2s")]
    assert stays_down(events) == {2}


@pytest.mark.parametrize(
    ("text", "disturbed"),
    [
        ("partition:0|1,2,3@1s..2s", {0}),
        ("partition:3@1s..2s", {3}),
        ("partition:0,1|2,3@1s..2s", {0, 1, 2, 3}),
        ("partition:0>1@1s..2s", {1}),
        ("pause:2@1s..2s", {2}),
        ("network:wan@1s..2s", set()),
    ],
)
def test_whoever_may_fall_behind_is_not_counted_on(text, disturbed):
    assert set(range(4)) - set(Options(events=(Event.parse(text),)).undisturbed) == disturbed


def test_a_script_holds_behaviours_and_faults(tmp_path: Path):
    script = tmp_path / "faults.toml"
    script.write_text('behaviours = ["0=silent@1s"]\nfaults = ["pause:1@3s..6s"]\n')
    assert read_script(script) == ((Fault(0, "silent", 1.0),), (Event("pause", "1", 3.0, 6.0),))


@pytest.mark.parametrize("text", ["fault = []", "faults = [3]", "faults = 'crash:1@1s'", "faults = ["])
def test_a_script_that_cannot_be_read_is_refused(tmp_path: Path, text):
    script = tmp_path / "faults.toml"
    script.write_text(text)
    with pytest.raises(ConfigurationError, match=r"faults\.toml"):
        read_script(script)


def test_profiles_have_names():
    assert Profile.parse("wan") == Profile(20, 100)
    assert Profile.parse("ms=5") == Profile(5)


async def test_a_line_delays_and_a_cut_line_keeps_what_waits():
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    line = Line("127.0.0.1", server.sockets[0].getsockname()[1])
    front = await asyncio.start_server(line.serve, "127.0.0.1", 0)
    lines = {(0, 1): line}
    obey(lines, {"delay_ms": 20, "mbit": 0})
    loop = asyncio.get_running_loop()
    reader, writer = await asyncio.open_connection(*front.sockets[0].getsockname())
    began = loop.time()
    writer.write(b"one")
    assert await reader.readexactly(3) == b"one"
    assert loop.time() - began >= 0.04
    obey(lines, {"cut": [[0, 1]]})
    writer.write(b"two")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.readexactly(3), 0.2)
    obey(lines, {"mend": [[0, 1]]})
    assert await reader.readexactly(3) == b"two"
    writer.close()
    await writer.wait_closed()
    for each in (front, server):
        each.close()
        await each.wait_closed()
    await asyncio.sleep(0.05)
