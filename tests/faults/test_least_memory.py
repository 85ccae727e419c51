"""The least memory that is documented: bursts are stored or refused, and the kernel ends nobody."""

import contextlib
import os
import socket
from collections import Counter

import httpx
import pika
import pytest
from control_group import control_group
from harness import wait_until

from appliance.machine.allowance import LEAST_BYTES

MIB = 2**20


@pytest.fixture
def group(request):
    with control_group("memory") as made:
        yield made


@pytest.fixture
def little(group, appliance):
    """An appliance that has the least memory; it ends before its group."""
    group.limit(LEAST_BYTES)
    one = appliance().start(preexec_fn=group.join).wait_ready()
    one.client.headers["Authorization"] = f"Bearer {one.token}"
    yield one
    one.end()


def post(one, lines, **how):
    answer = one.client.post("/v1/topics/t/messages?split=lines", content=lines, **how)
    assert answer.status_code in (202, 503), answer.text
    if answer.status_code == 503:
        assert answer.headers["Retry-After"]
    return answer.status_code


def broker_link(one):
    return pika.BlockingConnection(pika.URLParameters(one.broker_url))


@pytest.mark.timeout(300)
def test_bursts_at_the_least_memory_are_stored_or_refused(little, group):
    """A hundred thousand short lines, unfinished batches of 8 MiB, large AMQP messages."""
    sent = Counter()
    for lines, count in ((b"x\n" * 100_000, 100_000), (b"%079d\n" % 7 * 50_000, 50_000)):
        for _ in range(4):
            sent[post(little, lines, timeout=60)] += count
    assert sent[202] > 0
    unfinished(little, 8 * MIB, {413})
    unfinished(little, 4 * MIB, {0, 503})
    assert little.client.post("/v1/topics/t/messages", content=b"one more").status_code == 202
    large(little, 32, 5 * MIB - 1000)
    wait_until(lambda: little.count("t") == sent[202] + 1, "all are stored", 90, little.logs)
    wait_until(lambda: dead(little) == 32, "the large ones are dead letters", 90, little.logs)
    little.wait_ready()
    assert group.killed() == 0


def unfinished(one, size, wanted):
    """Send 60 batches without their last byte; each is refused so, or (0) waited for."""
    host, _, port = one.http.partition(":")
    head = (
        f"POST /v1/topics/t/messages?split=lines HTTP/1.1\r\n"
        f"Authorization: Bearer {one.token}\r\nContent-Length: {size}\r\n\r\n"
    )
    statuses = set()
    with contextlib.ExitStack() as links:
        begun = [
            links.enter_context(socket.create_connection((host, int(port)), 10)) for _ in range(60)
        ]
        for link in begun:
            link.settimeout(2)
            with contextlib.suppress(OSError):
                link.sendall(head.encode() + b"x" * (size - 1))
        for link in begun:
            link.settimeout(0.1)
            try:
                statuses.add(int(link.recv(100)[9:12] or 0))
            except OSError:
                statuses.add(0)
        assert statuses <= wanted | {0}
        assert max(statuses) == max(wanted)
        assert one.client.get("/healthz").status_code == 200


def large(one, count, size):
    with broker_link(one) as link:
        channel = link.channel()
        channel.confirm_delivery()
        for _ in range(count):
            channel.basic_publish(
                "appliance",
                "large",
                os.urandom(size),
                pika.BasicProperties(delivery_mode=2),
                mandatory=True,
            )


def dead(one):
    return one.query("SELECT count(*) FROM dead_letters WHERE topic = 'large'")[0][0]


def test_request_that_does_not_fit_is_refused_with_words(little):
    answer = little.client.post("/v1/topics/t/messages?split=lines", content=b"x" * 5 * MIB)
    assert (answer.status_code, "4194304" in answer.text) == (413, True)
    # Each of these bytes takes six in an envelope, which the broker would not take.
    lines = (b"\x01" * 1000 + b"\n") * 3000
    answer = little.client.post("/v1/topics/t/messages?split=lines", content=lines)
    assert answer.status_code == 413
    assert "send fewer in one request" in answer.text
    assert little.client.post("/v1/topics/t/messages", content=b"x").status_code == 202


def test_less_than_the_least_memory_refuses_the_start_with_words(group, appliance):
    group.limit(LEAST_BYTES - MIB)
    one = appliance().start(preexec_fn=group.join)
    assert one.wait_end(60) == 78
    assert "memory: 383 MiB (limited)" in one.log
    assert "give it 384 MiB" in one.log
    with pytest.raises(httpx.TransportError):
        one.client.get("/healthz")
