"""The MQTT door: RabbitMQ's plugin, with users of its own who may publish and nothing else."""

import contextlib
import itertools
import json
import re
import threading
from pathlib import Path

import pika
import pytest
from harness import free_port, wait_until
from load import wait_accepting
from mqtt import Bridge, MqttClient, mosquitto_pub

from appliance.broker import base
from appliance.broker.node.release import find_server
from appliance.drill.mqtt_link import MqttLink
from appliance.errors import BrokerError
from appliance.model.contents import MARK, REPORT
from appliance.model.wire import Kind

GUIDE = Path(__file__).parents[2] / "docs" / "mqtt.md"
FORGED_ID = "01890a5d-ac96-774b-bcce-b302099a80{:02x}"
IS_OLD = find_server()[0] < (4,)


@pytest.fixture(scope="module")
def running(module_stack):
    made = module_stack(workers=1, log_level="info", mqtt=f"127.0.0.1:{free_port()}")
    made.passwords = {
        "kitchen": create(made, "mqtt", "kitchen"),
        "narrow": create(made, "mqtt", "narrow", "--topics", "home.kitchen.*", "--topics", "bell"),
        "till": create(made, "amqp", "till"),
    }
    return made


def create(stack, door, name, *options):
    done = stack.cli("door", door, "user", "create", name, *options)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode().strip()


def device(stack, user="kitchen", **options):
    return MqttClient(stack.config.mqtt.port, user, stack.passwords[user], **options)


def letters(stack, topic):
    return stack.query("SELECT * FROM dead_letters WHERE topic = ? ORDER BY seq", topic)


def test_message_of_qos_1_is_a_row_under_its_topic_with_dots(running):
    with device(running) as client:
        assert client.publish("home/kitchen/temp", "21.5")
        assert client.publish("home/kitchen/raw", b"\xff\x00", retain=True)
    (row,) = running.wait_rows(1, "home.kitchen.temp")
    assert (row["body"], json.loads(row["meta"])["via"]) == ("21.5", "mqtt")
    (raw,) = running.wait_rows(1, "home.kitchen.raw")
    assert raw["body"] == b"\xff\x00"


def test_message_of_mosquitto_pub_is_a_row_with_qos_0_too(running):
    port, password = running.config.mqtt.port, running.passwords["kitchen"]
    for qos in ("0", "1"):
        done = mosquitto_pub(
            port, "-u", "kitchen", "-P", password, "-q", qos, "-t", "pub", "-m", qos
        )
        assert done.returncode == 0, done.stderr
    assert {row["body"] for row in running.wait_rows(2, "pub")} == {"0", "1"}


def test_empty_messages_that_delete_retained_ones_leave_neither_rows_nor_letters(running):
    with device(running) as client:
        for name in ("config/light/config", "Config/Light", "config/light/config"):
            assert client.publish(name, b"", retain=True)
        assert client.publish("config/last", "x")
    running.wait_rows(1, "config.last")
    for name in ("config.light.config", "Config.Light"):
        assert running.count(name) == 0
        assert letters(running, name) == []


@pytest.mark.parametrize(
    ("name", "key"),
    [("$SYS/broker/state", "$SYS.broker.state"), ("Home/Küche", "Home.Küche"), ("/a", ".a")],
)
def test_name_that_is_no_topic_is_a_dead_letter_that_keeps_the_message(running, name, key):
    with device(running) as client:
        assert client.publish(name, "kept")
    (letter,) = wait_until(lambda: letters(running, key), "a letter", 30, running.logs)
    assert (letter["reason"], letter["body"]) == ("bad-topic", b"kept")
    assert json.loads(letter["meta"])["via"] == "mqtt"


def test_message_that_is_too_large_is_no_row(running):
    large = "x" * (running.config.max_message_bytes + 2**17)
    with device(running) as client:
        # RabbitMQ 4 ends the connection before it has read the message; 3 takes it.
        assert client.publish("large", large) is IS_OLD
    with device(running) as client:
        assert client.publish("large.next", "x")
    running.wait_rows(1, "large.next")
    assert running.count("large") == 0
    assert [letter["reason"] for letter in letters(running, "large")] == ["too-large"] * IS_OLD


def test_user_with_topics_publishes_to_those_and_is_cut_off_at_others(running):
    with device(running, "narrow") as client:
        assert client.publish("home/kitchen/light", "on")
        assert client.publish("bell", "ding")
    for name in ("home/bedroom", "bell/x", "bells", "home/kitchen", "bell\n", "x/home/kitchen/y"):
        with device(running, "narrow") as client:
            assert not client.publish(name, "x")
    with device(running, "narrow") as client:
        assert client.publish("home/kitchen/end", "x")
    running.wait_rows(1, "home.kitchen.end")
    assert running.count("bell") == running.count("home.kitchen.light") == 1
    assert running.query("SELECT 1 FROM messages WHERE topic GLOB '*bedroom*'") == []


@pytest.mark.parametrize("user", ["kitchen", "till"])
def test_nobody_may_subscribe(running, user):
    with device(running, user) as client:
        client.client.subscribe("#", 1)
        client.client.subscribe("appliance/store", 0)
        assert running.publish("secret", b"x", Prefer="wait=60").status_code == 201
        wait_until(lambda: client.ends or len(client.subscriptions) == 2, "refused", 30)
    assert client.got == []
    assert not [said for said in client.subscriptions if said.startswith("Granted")]


@pytest.mark.parametrize(
    ("user", "password"),
    [(None, None), ("kitchen", "wrong"), ("appliance", ""), ("guest", "guest")],
)
def test_login_without_the_right_password_is_refused(running, user, password):
    with MqttClient(running.config.mqtt.port, user, password) as client:
        assert client.answer in ("Not authorized", "Bad user name or password"), client.answer


@contextlib.contextmanager
def amqp_channel(stack, name):
    host, port = stack.config.amqp
    login = pika.PlainCredentials(name, stack.passwords[name])
    with pika.BlockingConnection(pika.ConnectionParameters(host, port, credentials=login)) as link:
        channel = link.channel()
        channel.confirm_delivery()
        yield channel


MAY_NOT = {
    "publish to our exchange": lambda c: c.basic_publish(base.EXCHANGE, "x", b"x", mandatory=True),
    "publish to our queue": lambda c: c.basic_publish("", base.QUEUE, b"x", mandatory=True),
    "publish to the dead": lambda c: c.basic_publish(base.DEAD, "x", b"x", mandatory=True),
    "declare a queue": lambda c: c.queue_declare("mqtt-subscription-mine"),
    "consume our queue": lambda c: c.basic_get(base.QUEUE),
    "delete its exchange": lambda c: c.exchange_delete(base.MQTT),
}


@pytest.mark.parametrize("what", MAY_NOT)
def test_user_of_the_door_may_not_by_amqp(running, what):
    with (
        pytest.raises(pika.exceptions.ChannelClosedByBroker) as caught,
        amqp_channel(running, "kitchen") as channel,
    ):
        MAY_NOT[what](channel)
    assert caught.value.reply_code == 403


def test_user_of_the_amqp_door_may_not_publish_by_mqtt(running):
    """RabbitMQ 3 does not answer the client then, and 4 cuts it off."""
    with device(running, "till") as client:
        sent = client.client.publish("by-till", "x", 1)
        refusal = f"exchange '{base.MQTT}' in vhost '/' refused for user 'till'"
        wait_until(lambda: refusal in running.broker.process.log, "refused", 30, running.logs)
        assert not sent.is_published()
    assert running.count("by-till") == 0


def test_envelopes_that_are_forged_on_the_doors_exchange_are_dead_letters(running):
    """By MQTT no type can be named; by AMQP its user can, on the exchange of the door."""
    kinds = [*(kind.value for kind in Kind), REPORT, MARK]
    before = [row["source"] for row in running.query("SELECT source FROM sources")]
    headers = {
        "received_at": "2026-01-02T03:04:05.678Z", "count": 1, "bytes": 4,
        "ledger": '["0123456789abcdef",7,6,[]]', "meta": '{"verified":true}',
    }  # fmt: skip
    with amqp_channel(running, "kitchen") as channel:
        for number, kind in enumerate(kinds):
            report, mark = b'["0123456789abcdef",null,9,[]]', FORGED_ID.format(0).encode()
            channel.basic_publish(
                base.MQTT, "forged", {REPORT: report, MARK: mark}.get(kind, b"body"),
                pika.BasicProperties(
                    type=kind, headers=headers,
                    message_id=FORGED_ID.format(number),
                ),
            )  # fmt: skip

    def seen():
        return [(letter["id"], letter["reason"]) for letter in letters(running, "forged")]

    wait_until(lambda: len(seen()) == len(kinds), "letters", 30, lambda: f"{kinds} {seen()}")
    assert {letter["reason"] for letter in letters(running, "forged")} == {"foreign-envelope"}
    assert running.count("forged") == 0
    assert [row["source"] for row in running.query("SELECT source FROM sources")] == before
    with device(running) as client:
        assert client.publish("plain", '{"type":"appliance.message","meta":{"verified":true}}')
    (row,) = running.wait_rows(1, "plain")
    assert "verified" not in json.loads(row["meta"])


def test_will_of_a_device_whose_power_fails_is_a_row(running):
    with device(running, will=("home/kitchen/state", "offline", 1, True)) as client:
        client.cut()
        (row,) = running.wait_rows(1, "home.kitchen.state")
    assert row["body"] == "offline"


def test_client_that_takes_over_anothers_id_takes_no_acknowledged_message_with_it(running):
    with device(running, client_id="twin") as first:
        assert first.publish("twin", "first")
        with device(running, client_id="twin") as second:
            assert second.publish("twin", "second")
            wait_until(lambda: first.ends, "the first is cut off", 30)
            first.client.disconnect()
            assert second.publish("twin", "third")
    bodies = {row["body"] for row in running.wait_rows(3, "twin")}
    assert bodies == {"first", "second", "third"}


def test_users_connections_are_bounded(running):
    password = running.passwords["kitchen"]
    with contextlib.ExitStack() as open_links:

        def connect():
            link = MqttLink(running.config.mqtt, "kitchen", password, version=4, timeout=30)
            open_links.callback(link.close)
            link.send("crowd", b"x", None)

        for _ in range(200):
            connect()
        with pytest.raises((BrokerError, OSError)):
            connect()
        assert running.publish("beside", b"x", Prefer="wait=60").status_code == 201


def test_password_is_nowhere_in_the_data_folder_or_the_logs(running):
    secret = running.passwords["kitchen"]
    for path in running.data.rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes(), path
    assert secret not in running.logs(10_000)


def test_list_of_doors_and_of_users_names_what_there_is(running):
    told = running.cli("door", "list").stdout.decode()
    assert f"mqtt: {running.config.mqtt}, open, for this machine only" in told
    users = json.loads(running.cli("door", "mqtt", "user", "list", "--json").stdout)["users"]
    assert {each["name"]: each["topics"] for each in users} == {
        "kitchen": ["*"], "narrow": ["home.kitchen.*", "bell"],
    }  # fmt: skip
    amqp = json.loads(running.cli("door", "amqp", "user", "list", "--json").stdout)["users"]
    assert [each["name"] for each in amqp] == ["till"]
    assert running.cli("door", "amqp", "user", "remove", "narrow").returncode == 1


def test_user_that_is_removed_is_cut_off_and_can_not_come_back(running):
    running.passwords["gone"] = create(running, "mqtt", "gone")
    with device(running, "gone") as client:
        assert client.publish("gone", "x")
        assert running.cli("door", "mqtt", "user", "remove", "gone").returncode == 0
        wait_until(lambda: client.ends, "cut off", 30)
    with device(running, "gone") as client:
        assert client.answer in ("Not authorized", "Bad user name or password")


def test_mosquitto_bridge_of_the_docs_brings_what_was_sent_while_the_broker_was_away(
    running, tmp_path
):
    """The configuration is the one in docs/mqtt.md, with this test's addresses and password."""
    (shown,) = re.findall(r"```conf\n(connection .*?)```", GUIDE.read_text(), re.DOTALL)
    local = free_port()
    given = {
        "address 127.0.0.1:1883": f"address {running.config.mqtt}",
        "remote_username bridge": "remote_username kitchen",
        "remote_password PASSWORD": f"remote_password {running.passwords['kitchen']}",
    }
    for old, new in given.items():
        assert shown.count(old) == 1, old
        shown = shown.replace(old, new)
    bridge = Bridge(tmp_path, f"listener {local} 127.0.0.1\nallow_anonymous true\n{shown}")
    try:
        wait_until(
            lambda: mosquitto_pub(local, "-q", "1", "-t", "bridged/a", "-m", "1").returncode == 0,
            "mosquitto answers", 30, bridge.log.read_text,
        )  # fmt: skip
        running.wait_rows(1, "bridged.a")
        running.broker.process.kill()
        for number in range(2, 12):
            done = mosquitto_pub(local, "-q", "1", "-t", "bridged/a", "-m", str(number))
            assert done.returncode == 0, done.stderr
        running.broker.start()
        wait_accepting(running)

        def all_there():
            return {row["body"] for row in running.rows("bridged.a")} == set(map(str, range(1, 12)))

        wait_until(all_there, "all that was sent", 60, bridge.log.read_text)
    finally:
        bridge.close()
    assert running.query("SELECT 1 FROM dead_letters WHERE topic LIKE '$SYS%bridge%'") == []


def test_every_acknowledged_message_is_a_row_when_the_broker_is_killed_under_load(running):
    """The last of this file. Clients of paho send on, reconnect, and send again."""
    stop, acknowledged = threading.Event(), []

    def send(name):
        with device(running) as client:
            waiting = {}
            for number in itertools.count():
                if stop.is_set():
                    break
                body = f"{name} {number}"
                waiting[client.client.publish("load", body, 1).mid] = body
                while len(waiting) > 20 and not stop.is_set():
                    stop.wait(0.01)
                    for packet in [each for each in waiting if each in client.acknowledged]:
                        acknowledged.append(waiting.pop(packet))
                        client.acknowledged.discard(packet)

    senders = [threading.Thread(target=send, args=(n,)) for n in range(3)]
    for sender in senders:
        sender.start()
    try:
        for _ in range(2):
            before = len(acknowledged)
            wait_until(lambda b=before: len(acknowledged) > b + 300, "load", 60, running.logs)
            running.broker.process.kill()
            running.broker.start()
            wait_accepting(running)
        before = len(acknowledged)
        wait_until(lambda: len(acknowledged) > before + 100, "healed", 60, running.logs)
    finally:
        stop.set()
        for sender in senders:
            sender.join(30)

    def missing():
        return set(acknowledged) - {row["body"] for row in running.rows("load")}

    wait_until(lambda: not missing(), "every acknowledged message", 60, lambda: str(missing()))
    rows = [row["body"] for row in running.rows("load")]
    print(f"{len(acknowledged)} acknowledged, {len(rows)} rows, {len(rows) - len(set(rows))} twice")
    assert running.cli("verify").returncode == 0
