"""The parts of the MQTT door: its lines for the node, its users' rights, the drill's client."""

import re
import socket
import threading

import pytest

from appliance.broker import base
from appliance.broker.node import definitions, mqtt_plugin, users
from appliance.broker.node.mqtt_plugin import MqttDoor
from appliance.config import Address, load
from appliance.drill.mqtt_link import MqttLink
from appliance.errors import BrokerError, ConfigError, NodeError

DOOR = MqttDoor(Address("127.0.0.1", 1883), 2**20)
OLD, NEW = (3, 10, 8), (4, 0, 5)
PAIR = {"APPLIANCE_BROKER_TLS_CERT": "/c", "APPLIANCE_BROKER_TLS_KEY": "/k"}


def test_door_is_off_unless_an_address_is_set():
    assert mqtt_plugin.door(load({}), NEW) is None
    assert mqtt_plugin.door(load({"APPLIANCE_MQTT": "off"}), OLD) is None
    with pytest.raises(ConfigError, match="APPLIANCE_MQTT: expected HOST:PORT"):
        load({"APPLIANCE_MQTT": "1883"})


def test_door_of_an_outside_broker_is_refused():
    with pytest.raises(ConfigError, match="APPLIANCE_MQTT"):
        load({"APPLIANCE_MQTT": "127.0.0.1:1883", "APPLIANCE_BROKER_URL": "amqp://u:p@b.example/"})


def test_lines_refuse_strangers_and_keep_nothing_in_memory():
    for release in (OLD, NEW):
        lines = mqtt_plugin.lines(DOOR, release)
        assert lines["mqtt.exchange"] == base.MQTT
        assert lines["mqtt.allow_anonymous"] == "false"
        assert lines["mqtt.retained_message_store"] == "rabbit_mqtt_retained_msg_store_noop"
        assert lines["mqtt.listeners.tcp.local"] == "127.0.0.1:1883"
        assert lines["mqtt.listeners.ssl"] == "none"


def test_a_door_can_be_open_over_tls_only_or_both_ways():
    encrypted = Address("192.0.2.1", 8883)
    both = mqtt_plugin.lines(DOOR._replace(encrypted=encrypted), NEW)
    assert both["mqtt.listeners.tcp.local"] == "127.0.0.1:1883"
    assert both["mqtt.listeners.ssl.others"] == "192.0.2.1:8883"
    tls_only = mqtt_plugin.lines(DOOR._replace(listen=None, encrypted=encrypted), NEW)
    assert tls_only["mqtt.listeners.tcp"] == "none"
    assert tls_only["mqtt.listeners.ssl.others"] == "192.0.2.1:8883"


def test_packets_are_bounded_where_the_release_can():
    new = mqtt_plugin.lines(DOOR, NEW)
    assert new["mqtt.max_packet_size_unauthenticated"] == 16 * 1024
    assert 2**20 < new["mqtt.max_packet_size_authenticated"] < 2 * 2**20
    assert not any("packet" in name for name in mqtt_plugin.lines(DOOR, OLD))


@pytest.mark.parametrize("address", ["0.0.0.0:1883", "[::]:1883", "192.0.2.1:1883"])
def test_release_that_bounds_nothing_is_refused_on_a_network(address):
    config = load({"APPLIANCE_MQTT": address})
    with pytest.raises(NodeError, match=re.escape(address)):
        mqtt_plugin.check(config, OLD)
    mqtt_plugin.check(config, NEW)
    mqtt_plugin.check(load({"APPLIANCE_MQTT": "127.0.0.1:1883"}), OLD)
    encrypted = load(PAIR | {"APPLIANCE_MQTTS": address})
    with pytest.raises(NodeError, match=f"APPLIANCE_MQTTS: .*{re.escape(address)}"):
        mqtt_plugin.check(encrypted, OLD)
    mqtt_plugin.check(encrypted, NEW)


def test_taken_port_is_named_with_its_setting():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(NodeError, match=f"APPLIANCE_MQTT: 127.0.0.1:{port} is taken"):
            mqtt_plugin.door(load({"APPLIANCE_MQTT": f"127.0.0.1:{port}"}), NEW)


def test_exchange_is_imported_with_the_way_on_and_only_where_the_door_is_open():
    def arguments(**options):
        found = definitions.definitions("p", 1, 1, users.imported([]), **options)["exchanges"]
        return {each["name"]: each["arguments"] for each in found}

    assert base.MQTT not in arguments()
    assert arguments(mqtt=True)[base.MQTT] == {"alternate-exchange": base.EXCHANGE}


@pytest.mark.parametrize(
    ("patterns", "may", "may_not"),
    [
        (
            ["home.*", "bell"],
            ["home.a", "home.a.b", "home.", "bell"],
            ["home", "homes", "bell.x", "bells", "a.home.b", "bell\n", "home\n", "Home.a"],
        ),
        (["*"], ["a", "a.b", ""], []),
        (["a-b_c.*.d"], ["a-b_c.x.d"], ["a-bxc.x.d", "a-b_cxx.d"]),
    ],
)
def test_users_topics_are_the_whole_routing_key(tmp_path, patterns, may, may_not):
    made, _ = users.create(tmp_path, "a", door="mqtt", topics=patterns)
    assert users.read(tmp_path) == [made]
    imported = users.imported([made])
    (rights,) = imported["topic_permissions"]
    assert rights["exchange"] == base.MQTT
    # Erlang's `re` knows `\\z` as Perl does; Python's, as `\\Z`.
    written = rights["write"].replace(r"\z", r"\Z")
    assert all(re.search(written, key) for key in may)
    assert not any(re.search(written, key) for key in may_not)


def test_user_of_the_door_has_a_right_to_its_exchange_only(tmp_path):
    made, _ = users.create(tmp_path, "a", door="mqtt")
    imported = users.imported([made])
    (rights,) = imported["permissions"]
    for name in ("appliance", "appliance.store", "appliance.dead", "amq.default", "amq.topic"):
        assert not any(re.search(rights[right], name) for right in ("write", "configure", "read"))
    assert re.search(rights["write"], base.MQTT)
    assert not re.search(rights["read"], base.MQTT)
    assert imported["topic_permissions"] == []


def test_file_of_users_of_an_earlier_version_is_read(tmp_path):
    (tmp_path / "amqp-users.json").write_text(
        '[{"name": "till", "password_hash": "x", "subscribes": false, "created_at": "now"}]'
    )
    (user,) = users.read(tmp_path)
    assert (user.door, list(user.topics)) == ("amqp", [])


class Listener:
    """A server that gives the client the answers of a test, and keeps what the client sent."""

    def __init__(self, *answers):
        self._answers, self.got = answers, []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = Address(*self._socket.getsockname())
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self):
        with self._socket, self._socket.accept()[0] as link:
            for answer in self._answers:
                self.got.append(link.recv(2**20))
                link.sendall(answer)
            link.recv(1)

    def join(self):
        self._thread.join(30)
        assert not self._thread.is_alive()


WELCOME, PUBACK = b"\x20\x02\x00\x00", b"\x40\x02\x00"
WELCOME_5 = b"\x20\x03\x00\x00\x00"


def ended(listener, link, *messages):
    """Send messages; return the error of the last one."""
    try:
        for message in messages[:-1]:
            link.send(*message)
        with pytest.raises((BrokerError, OSError)) as caught:
            link.send(*messages[-1])
        return caught.value
    finally:
        link.close()
        listener.join()


def test_client_sends_what_mqtt_wants_and_takes_the_acknowledgement():
    listener = Listener(WELCOME, PUBACK + b"\x01", PUBACK + b"\x02")
    link = MqttLink(listener.address, "u", "p", version=4, timeout=10)
    link.send("t", b"x" * 200, None)
    link.send("t", b"x" * 200, None)
    link.close()
    listener.join()
    connect, first, again = listener.got
    assert connect == b"\x10\x12\x00\x04MQTT\x04\xc2\x00\x3c\x00\x00\x00\x01u\x00\x01p"
    assert first == b"\x32\xcd\x01\x00\x01t\x00\x01" + b"x" * 200
    assert again == b"\x3a\xcd\x01\x00\x01t\x00\x02" + b"x" * 200  # DUP


def test_client_gives_a_message_its_key_as_a_user_property():
    listener = Listener(WELCOME_5, PUBACK + b"\x01")
    link = MqttLink(listener.address, "u", "p", version=5, timeout=10)
    link.send("t", b"x", "k")
    link.close()
    listener.join()
    assert b"\x15\x26\x00\x0fidempotency-key\x00\x01kx" in listener.got[1]


@pytest.mark.parametrize(
    "answer",
    [
        b"\x40\x03\x00\x01\x87",  # not authorized
        b"\x40\x03\x00\x01\x10",  # no queue took it
        b"\x40\xff\xff\xff\x7f",  # a packet of 256 MiB
        b"\x40\xff\xff\xff\xff\xff",
        b"",
    ],
)
def test_client_takes_nothing_else_for_an_acknowledgement(answer):
    listener = Listener(WELCOME_5, answer)
    link = MqttLink(listener.address, "u", "p", version=5, timeout=0.5)
    assert ended(listener, link, ("t", b"x", None))


def test_client_that_is_not_let_in_says_so():
    listener = Listener(b"\x20\x02\x00\x05")
    link = MqttLink(listener.address, "u", "p", version=4, timeout=10)
    assert "login" in str(ended(listener, link, ("t", b"x", None)))
