"""The entry point of faulty replica processes: when a behaviour begins."""

import time

import pytest

from bft.core.effects import Effect, TruncateLog
from bft.core.events import Instant
from bft.errors import ConfigurationError, ExitCode
from bft.testing.byzantine import Behaviour, BehaviourContext
from bft.testing.run_byzantine import Trigger, main, make_filter, parse_spec
from tests.integration.harness import make_cluster, replica_config

EFFECTS: list[Effect] = [TruncateLog(1)]


class Mute(Behaviour):
    def transform(self, effects: list[Effect], context: BehaviourContext) -> list[Effect]:
        return []


@pytest.fixture
def config(tmp_path):
    make_cluster(tmp_path)
    return replica_config(tmp_path, 0)


def now() -> Instant:
    return Instant(time.monotonic_ns(), time.time_ns())


def test_without_a_condition_the_replica_misbehaves_from_the_start(config):
    _, trigger = parse_spec("silent")
    assert make_filter(config, Mute(), trigger)(EFFECTS, now()) == []


def test_until_the_signal_the_replica_is_correct(config):
    _, trigger = parse_spec("silent@signal")
    effects_filter = make_filter(config, Mute(), trigger)
    assert effects_filter(EFFECTS, now()) == EFFECTS
    trigger.pull()
    assert effects_filter(EFFECTS, now()) == []


def test_before_its_time_the_replica_is_correct(config):
    begins_ns = time.monotonic_ns() + 10**12
    effects_filter = make_filter(config, Mute(), Trigger(begins_ns))
    assert effects_filter(EFFECTS, Instant(begins_ns - 1, 0)) != []
    assert effects_filter(EFFECTS, Instant(begins_ns, 0)) == []


@pytest.mark.parametrize("spec", ["nonsense", "silent@soon", "silent@after=x", "silent@after=nan", "silent@after=-1"])
def test_a_senseless_behaviour_is_refused(spec):
    with pytest.raises(ConfigurationError, match=spec.split("@")[0]):
        parse_spec(spec)


def test_a_senseless_behaviour_is_one_line_and_exit_code_3(tmp_path, capsys):
    assert main([str(tmp_path), "--behaviour", "nonsense"]) == ExitCode.CONFIGURATION
    err = capsys.readouterr().err
    assert err.startswith("error: behaviour nonsense")
    assert err.count("\n") == 1
