"""The MQTT door of the image, whose RabbitMQ 4 knows MQTT 5 and bounds what it reads."""

import contextlib

import pytest
from engine import HARDENED, docker, wait_until

from appliance.config import Address
from appliance.drill.mqtt_link import MqttLink
from appliance.errors import BrokerError


@pytest.fixture
def container(start, volume):
    options = ("--env", "APPLIANCE_MQTT=0.0.0.0:1883", "--publish", "127.0.0.1::1883")
    return start(volume, *HARDENED, *options).wait_ready()


@pytest.fixture
def connect(container):
    port = int(docker("port", container.name, "1883/tcp").split()[0].rpartition(":")[2])
    # Its words for people are on the other output, which `docker exec` joins to this one.
    told = container.exec("appliance", "door", "mqtt", "user", "create", "kitchen")
    password = max(told.split(), key=len)
    with contextlib.ExitStack() as opened:

        def make(version):
            address = Address("127.0.0.1", port)
            link = MqttLink(address, "kitchen", password, version=version, timeout=30)
            opened.callback(link.close)
            return link

        yield make


def test_message_with_an_idempotency_key_of_mqtt_5_is_stored_once(container, connect):
    link = connect(5)
    for _ in range(3):
        link.send("home/keyed", b"21.5", "one key")
    connect(5).send("home/keyed", b"21.5", "one key")
    connect(4).send("home/plain", b"x", None)
    link.send("home/keyed", b"the last", "another key")
    wait_until(lambda: container.bodies("home.keyed")[-1:] == ["the last"], "the last one")
    assert container.bodies("home.keyed") == ["21.5", "the last"]
    assert container.bodies("home.plain") == ["x"]


def test_message_that_is_too_large_is_cut_off_before_it_is_read(container, connect):
    with pytest.raises((BrokerError, OSError)):
        connect(4).send("home/large", b"x" * (8 * 2**20), None)
    connect(4).send("home/next", b"x", None)
    wait_until(lambda: container.bodies("home.next") == ["x"], "the next one")
    assert container.exec("appliance", "dead", "list", "--json").count("home.large") == 0
