"""What the parts may take of little memory."""

import pytest

from appliance.config import load
from appliance.errors import ConfigError
from appliance.machine import allowance

MIB = 2**20


@pytest.fixture
def memory(monkeypatch):
    def set_to(mib):
        monkeypatch.setattr("appliance.machine.memory.limit", lambda: mib * MIB)

    return set_to


def test_ordinary_memory_leaves_the_settings_as_they_are(memory):
    memory(512)
    config = load({"APPLIANCE_API_PROCESSES": "3"})
    assert allowance.fit(config) is config
    assert allowance.allowance(config).prefetch == 32
    assert allowance.allowance(config).bodies == 64 * MIB


def test_little_memory_makes_the_defaults_smaller_and_says_so(memory):
    memory(511)
    config = allowance.fit(load({}))
    assert (config.workers, config.max_request_bytes, config.max_bodies_bytes) == (
        1,
        4 * MIB,
        8 * MIB,
    )
    for name in ("WORKERS", "MAX_REQUEST_BYTES", "MAX_BODIES_BYTES"):
        assert config.sources[f"APPLIANCE_{name}"] == "little memory"
        assert config.texts[f"APPLIANCE_{name}"]
    assert config.sources["APPLIANCE_MAX_MESSAGE_BYTES"] == "default"
    assert config.api_processes == 1


def test_little_memory_leaves_what_was_set(memory):
    memory(384)
    given = {"APPLIANCE_WORKERS": "2", "APPLIANCE_MAX_REQUEST_BYTES": "16MiB"}
    config = allowance.fit(load(given))
    assert config.workers == 2
    assert config.max_request_bytes == 16 * MIB
    assert config.max_bodies_bytes == 16 * MIB
    assert allowance.allowance(config).amqp_message == 20 * MIB


def test_little_memory_takes_messages_as_large_as_was_set(memory):
    memory(384)
    given = {"APPLIANCE_MAX_MESSAGE_BYTES": "6MiB", "APPLIANCE_MAX_BODIES_BYTES": "32MiB"}
    config = allowance.fit(load(given))
    assert config.max_request_bytes == 6 * MIB
    assert config.max_bodies_bytes == 32 * MIB


def test_machine_itself_may_be_small(monkeypatch):
    monkeypatch.setattr("appliance.machine.memory.limit", lambda: None)
    monkeypatch.setattr("appliance.machine.memory.total", lambda: 400 * MIB)
    assert allowance.is_small()
    assert allowance.usable() == 400 * MIB


def test_bodies_under_way_are_at_least_one_request():
    with pytest.raises(ConfigError, match="APPLIANCE_MAX_BODIES_BYTES: 4194304 is less than"):
        load({"APPLIANCE_MAX_BODIES_BYTES": "4MiB"})


@pytest.mark.parametrize(
    ("cores", "processes"), [(1, 1), (2, 1), (5, 1), (6, 2), (8, 2), (9, 3), (64, 3)]
)
def test_the_cores_say_how_many_api_processes_there_are(memory, monkeypatch, cores, processes):
    memory(2048)
    monkeypatch.setattr("appliance.machine.cores.usable", lambda: cores)
    config = allowance.fit(load({}))
    assert config.api_processes == processes
    assert config.sources["APPLIANCE_API_PROCESSES"] == "the machine's cores"
    assert config.texts["APPLIANCE_API_PROCESSES"] == str(processes)
    assert allowance.fit(load({"APPLIANCE_API_PROCESSES": "4"})).api_processes == 4


def test_api_processes_share_the_memory_for_bodies():
    def share(processes, **settings):
        given = {f"APPLIANCE_{name}": value for name, value in settings.items()}
        return load({"APPLIANCE_API_PROCESSES": str(processes), **given}).api_bodies_bytes

    assert [share(number) for number in (0, 1, 2, 4)] == [64 * MIB, 64 * MIB, 32 * MIB, 16 * MIB]
    assert share(16) == 8 * MIB, "less than one request would refuse it for ever"
