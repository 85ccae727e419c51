"""The AMQP door over TLS, for other machines."""

import contextlib
import ssl
import subprocess

import pika
import pytest
from certificates import make_certificate
from harness import Process, free_port, wait_until

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
        broker_tls_cert=folder / "cert.pem",
        broker_tls_key=folder / "key.pem",
    ).start()
    done = made.cli("door", "amqp", "user", "create", "till")
    assert done.returncode == 0, done.stderr
    made.password = done.stdout.decode().strip()
    return made


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


def test_neither_plain_text_nor_old_tls_gets_in(running, folder):
    host, port = running.config.amqps
    login = pika.PlainCredentials("till", running.password)
    with (
        pytest.raises(pika.exceptions.AMQPError),
        pika.BlockingConnection(pika.ConnectionParameters(host, port, credentials=login)),
    ):
        pass
    old = ["openssl", "s_client", "-connect", f"{host}:{port}", "-tls1_1"]
    done = subprocess.run(old, input=b"", capture_output=True, check=False)
    assert b"Cipher is (NONE)" in done.stdout
    assert done.returncode != 0


def test_door_says_where_others_are_served(running):
    (door,) = (d for d in running.get("/v1/doors").json()["doors"] if d["name"] == "amqp")
    assert door["where"] == str(running.config.amqps)


def test_renewed_certificate_is_served_and_a_spoiled_one_is_not(running, folder):
    janitor = Process("janitor", running.env, running.folder)
    janitor.start()
    try:
        make_certificate(folder)
        fresh = (folder / "cert.pem").read_text()
        wait_until(lambda: served(running) == pem(fresh), "it is served", 90, lambda: janitor.log)
        (folder / "key.pem").write_text("spoiled")
        wait_until(lambda: "new certificate refused" in janitor.log, "it is refused", 60)
        assert served(running) == pem(fresh)
    finally:
        janitor.kill()
    with channel_of(running, folder) as channel:
        channel.basic_publish(base.EXCHANGE, "renewed", b"x", mandatory=True)


def served(stack):
    return pem(ssl.get_server_certificate(tuple(stack.config.amqps), timeout=10))


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
