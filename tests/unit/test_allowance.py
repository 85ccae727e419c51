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
    config = load({})
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
