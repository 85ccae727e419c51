"""Who can reach the appliance's addresses, as `appliance doctor` says it."""

import pytest

from appliance.config import Address, load
from appliance.doctor import network
from appliance.doctor.diagnosis import Level
from appliance.machine.ports import is_open_to_others

PAIR = {"APPLIANCE_TLS_CERT": "/c.pem", "APPLIANCE_TLS_KEY": "/k.pem"}
OPEN = {"APPLIANCE_HTTP": "0.0.0.0:8080"}


@pytest.mark.parametrize(
    ("host", "is_open"),
    [
        *(("127.0.0.1", False), ("127.8.9.1", False), ("::1", False), ("localhost", False)),
        *(("0.0.0.0", True), ("::", True), ("192.0.2.1", True), ("no-such-host.invalid", True)),
    ],
)
def test_address_is_open_to_others_unless_it_is_the_loopbacks(host, is_open):
    assert is_open_to_others(Address(host, 8080)) is is_open


@pytest.mark.parametrize(
    ("settings", "level"),
    [
        ({}, Level.OK),
        (OPEN, Level.WARNING),
        ({"APPLIANCE_HTTP": "[::]:8080"}, Level.WARNING),
        (OPEN | PAIR, Level.OK),
        (OPEN | {"APPLIANCE_TRUSTED_PROXIES": "10.0.0.1"}, Level.OK),
        (OPEN | {"APPLIANCE_PUBLIC_URL": "https://example.com"}, Level.OK),
        (OPEN | {"APPLIANCE_PUBLIC_URL": "http://example.com"}, Level.WARNING),
    ],
)
def test_http_that_others_can_reach_asks_for_tls(settings, level):
    finding = network.http(load(settings))
    assert finding.level is level
    assert ("APPLIANCE_TLS_CERT" in finding.advice) is (level is Level.WARNING)


def test_mqtt_that_others_can_reach_is_warned_of():
    assert network.mqtt(load({})).level is Level.OK
    assert network.mqtt(load({"APPLIANCE_MQTT": "127.0.0.1:1883"})).level is Level.OK
    finding = network.mqtt(load({"APPLIANCE_MQTT": "0.0.0.0:1883"}))
    assert finding.level is Level.WARNING
    assert "plain text" in finding.found
    assert "APPLIANCE_MQTTS" in finding.advice
    encrypted = network.mqtt(load(PAIR | {"APPLIANCE_MQTTS": "0.0.0.0:8883"}))
    assert (encrypted.level, encrypted.found) == (Level.OK, "0.0.0.0:8883, encrypted")


def test_broker_that_others_can_reach_is_warned_of():
    assert network.amqp(load({})).level is Level.OK
    finding = network.amqp(load({"APPLIANCE_AMQP": "0.0.0.0:5672"}))
    assert finding.level is Level.WARNING
    assert "plain text" in finding.found
    outside = {"APPLIANCE_AMQP": "0.0.0.0:5672", "APPLIANCE_BROKER_URL": "amqp://a:b@c/"}
    assert network.amqp(load(outside)).level is Level.OK
    encrypted = network.amqp(load(PAIR | {"APPLIANCE_AMQPS": "0.0.0.0:5671"}))
    assert encrypted.level is Level.OK
    assert "0.0.0.0:5671, encrypted" in encrypted.found
