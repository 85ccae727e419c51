"""The AMQP door and the MQTT door over TLS, for other machines."""

import contextlib
import json
import ssl
import subprocess

import pika
import pytest
from certificates import make_certificate
from harness import Process, free_port, wait_until
from mqtt import MqttClient, mosquitto_pub

from appliance.broker import base


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("tls")
    make_certificate(made, is_authority=True)
    return made


@pytest.fixture(scope="module")
def running(module_stack, folder):
    made = module_stack(
        start=False,
        workers=1,
        amqps=f"127.0.0.1:{free_port()}",
        mqtts=f"127.0.0.1:{free_port()}",
        broker_tls_cert=folder / "cert.pem",
        broker_tls_key=folder / "key.pem",
    ).start()
    made.password = create(made, "amqp", "till")
    made.device = create(made, "mqtt", "kitchen")
    return made


def create(stack, door, name):
    done = stack.cli("door", door, "user", "create", name)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode().strip()


def trusting(folder):
    context = ssl.create_default_context(cafile=folder / "cert.pem")
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


@contextlib.contextmanager
def channel_of(stack, folder):
    login = pika.PlainCredentials("till", stack.password)
    options = pika.SSLOptions(trusting(folder), "localhost")
    host, port = stack.config.amqps
    with pika.BlockingConnection(
        pika.ConnectionParameters(host, port, credentials=login, ssl_options=options)
    ) as link:
        channel = link.channel()
        channel.confirm_delivery()
        yield channel


def test_client_publishes_over_tls_and_strangers_to_our_queue_are_refused(running, folder):
    with channel_of(running, folder) as channel:
        channel.basic_publish(base.EXCHANGE, "sales", b"7.50", mandatory=True)
        with pytest.raises(pika.exceptions.ChannelClosedByBroker) as refusal:
            channel.basic_publish("", base.QUEUE, b"x", mandatory=True)
    assert refusal.value.reply_code == 403
    assert [row["body"] for row in running.wait_rows(1, "sales")] == ["7.50"]


def test_amqp_tools_publish_over_tls(running, folder):
    url = f"amqps://till:{running.password}@localhost:{running.config.amqps.port}"
    command = ["amqp-publish", f"--url={url}", "--cacert", str(folder / "cert.pem")]
    subprocess.run([*command, "-e", base.EXCHANGE, "-r", "tools", "-b", "hi"], check=True)
    assert [row["body"] for row in running.wait_rows(1, "tools")] == ["hi"]


def device(stack, folder):
    """A client of MQTT that checks the certificate."""
    made = MqttClient(stack.config.mqtts.port, "kitchen", stack.device, host="localhost")
    made.client.tls_set_context(trusting(folder))
    return made


def test_device_publishes_over_tls_and_may_not_subscribe(running, folder):
    with device(running, folder) as client:
        assert client.publish("home/kitchen/temp", "21.5")
        client.client.subscribe("#", 1)
        wait_until(lambda: client.ends or client.subscriptions, "refused", 30)
    assert not [said for said in client.subscriptions if said.startswith("Granted")]
    (row,) = running.wait_rows(1, "home.kitchen.temp")
    assert (row["body"], json.loads(row["meta"])["via"]) == ("21.5", "mqtt")


def test_mosquitto_pub_publishes_over_tls_to_who_has_the_certificate(running, folder):
    make_certificate(folder / "other", is_authority=True)
    port = running.config.mqtts.port
    for name, body in (("other/cert.pem", "lost"), ("cert.pem", "kept")):
        who = ("-u", "kitchen", "-P", running.device, "--cafile", str(folder / name))
        done = mosquitto_pub(port, "-h", "localhost", *who, "-q", "1", "-t", "pub", "-m", body)
        assert bool(done.returncode) is (body == "lost"), done.stderr
    assert [row["body"] for row in running.wait_rows(1, "pub")] == ["kept"]


def test_nothing_listens_for_mqtt_in_plain_text(running):
    plain = MqttClient(running.config.mqtts.port, "kitchen", running.device)
    with pytest.raises((OSError, AssertionError)), plain:
        pass
    assert plain.answer == ""


def old_tls(address):
    command = ["openssl", "s_client", "-connect", str(address), "-tls1_1"]
    return subprocess.run(command, input=b"", capture_output=True, check=False)


def test_neither_plain_text_nor_old_tls_gets_in(running, folder):
    host, port = running.config.amqps
    login = pika.PlainCredentials("till", running.password)
    with (
        pytest.raises(pika.exceptions.AMQPError),
        pika.BlockingConnection(pika.ConnectionParameters(host, port, credentials=login)),
    ):
        pass
    for address in (running.config.amqps, running.config.mqtts):
        done = old_tls(address)
        assert b"Cipher is (NONE)" in done.stdout
        assert done.returncode != 0


def test_doors_say_where_others_are_served(running):
    doors = {door["name"]: door for door in running.get("/v1/doors").json()["doors"]}
    assert doors["amqp"]["where"] == str(running.config.amqps)
    assert doors["mqtt"]["where"] == str(running.config.mqtts)
    assert doors["mqtt"]["open"]


def test_renewed_certificate_is_served_and_a_spoiled_one_is_not(running, folder):
    janitor = Process("janitor", running.env, running.folder)
    janitor.start()
    try:
        make_certificate(folder)
        fresh = (folder / "cert.pem").read_text()
        for address in (running.config.amqps, running.config.mqtts):
            wait_until(
                lambda a=address: served(a) == pem(fresh), "it is served", 90, lambda: janitor.log
            )
        (folder / "key.pem").write_text("spoiled")
        wait_until(lambda: "new certificate refused" in janitor.log, "it is refused", 60)
        assert served(running.config.amqps) == pem(fresh)
    finally:
        janitor.kill()
    with channel_of(running, folder) as channel:
        channel.basic_publish(base.EXCHANGE, "renewed", b"x", mandatory=True)


def served(address):
    return pem(ssl.get_server_certificate(tuple(address), timeout=10))


def pem(text):
    return "".join(text.split())


def test_pair_that_does_not_fit_ends_the_broker_with_a_status_for_settings(stack, tmp_path):
    cert, _ = make_certificate(tmp_path / "one")
    _, key = make_certificate(tmp_path / "other")
    one = stack(
        start=False, amqps=f"127.0.0.1:{free_port()}", broker_tls_cert=cert, broker_tls_key=key
    )
    answer = one.cli("broker")
    assert answer.returncode == 78
    assert "APPLIANCE_BROKER_TLS_CERT" in answer.stderr.decode()
