"""Many requests on one connection: however their bytes come, each is answered, in order."""

import contextlib
import http.client
import io
import itertools
import json
import random
import socket
import threading
import time

import pytest
from harness import wait_until
from load import wait_accepting
from standstill import frozen

LIMIT = 4096


@pytest.fixture(scope="module")
def running(module_stack):
    return module_stack(max_message_bytes=LIMIT, max_request_bytes=4 * LIMIT)


def dial(stack, timeout=30.0):
    host, _, port = stack.url.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout)


def request(stack, topic, body=b"", method="POST", query="", more="", token=None, length=None):
    head = (
        f"{method} /v1/topics/{topic}/messages{query} HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: Bearer {token or stack.token}\r\n{more}"
    )
    if "chunked" not in more:
        head += f"Content-Length: {len(body) if length is None else length}\r\n"
    return head.encode() + b"\r\n" + body


class _Answers:
    """What comes on a connection, answer by answer, until it is closed."""

    def __init__(self, link):
        self._file = link.makefile("rb")

    def __iter__(self):
        while (first := self._file.peek(1)[:1]) and first:
            response = http.client.HTTPResponse(_Socket(self._file))
            response.begin()
            yield response.status, response.getheader("connection"), response.read()

    def next(self):
        return next(iter(self))


class _Socket:
    """What HTTPResponse wants of a socket, so that it reads no further than its own answer."""

    def __init__(self, file):
        self._file = file

    def makefile(self, _):
        return _Shared(self._file)


class _Shared(io.RawIOBase):
    def __init__(self, file):
        self._file = file

    def readable(self):
        return True

    def read(self, size=-1):
        return self._file.read(size)

    def readline(self, size=-1):
        return self._file.readline(size)

    def readinto(self, buffer):
        return self._file.readinto(buffer)


def pieces(data, chance):
    """Cut bytes at random places: into single bytes, into a few, or not at all."""
    most = chance.choice([1, 3, 40, 700, len(data)])
    place = 0
    while place < len(data):
        size = chance.randint(1, most)
        yield data[place : place + size]
        place += size


def kinds(stack, topic, number):
    """Requests of every kind that leaves its connection open, each with its status."""
    body = b"%06d" % number
    chunked = "Transfer-Encoding: chunked\r\n"
    return [
        (202, request(stack, topic, body), 1),
        (202, request(stack, topic, body), 1),
        (202, request(stack, topic, body, method="PUT"), 1),
        (202, request(stack, topic, body, more=f"Idempotency-Key: {number}\r\n"), 1),
        (202, request(stack, topic, body, more="Connection: Upgrade\r\nUpgrade: h2c\r\n"), 1),
        (201, request(stack, topic, body, more="Prefer: wait=20\r\n"), 1),
        (202, request(stack, topic, b"3\r\n%b\r\n3;x=y\r\n%b\r\n0\r\n\r\n" % (body[:3], body[3:]),
                      more=chunked), 1),
        (202, request(stack, topic, body + b"\n" + body, query="?split=lines"), 2),
        (400, request(stack, topic, b""), 0),
        (400, request(stack, topic, b"\n\n", query="?split=lines"), 0),
        (400, request(stack, topic, b"{bad", more="Content-Type: application/x-ndjson\r\n"), 0),
        (405, f"PATCH /v1/topics/{topic}/messages HTTP/1.1\r\nAuthorization: Bearer "
              f"{stack.token}\r\n\r\n".encode(), 0),
        (401, b"GET /v1/topics HTTP/1.1\r\nHost: x\r\n\r\n", 0),
        (200, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 0),
        (404, f"GET /none HTTP/1.1\r\nAuthorization: Bearer {stack.token}\r\n\r\n".encode(), 0),
    ]  # fmt: skip


def last_ones(stack, topic):
    """What ends a connection, and its status; what comes behind it is not read any more.

    A refusal ends it where some of the body has not come yet, so these are the last ones too.
    """
    junk = b"POST / HTTP/1.1\r\nHost: x\r\n\r\n"
    chunked = "Transfer-Encoding: chunked\r\n"
    return [
        (None, b""),
        (400, b"\x16\x03\x01 nonsense\r\n\r\n" + junk),
        (400, request(stack, topic, b"5\r\nhello\r\nzz\r\n", more=chunked) + junk),
        (400, request(stack, topic, b"x", more="Content-Length: 1\r\n") + junk),
        (401, request(stack, topic, b"x", token="wrong")),
        (400, request(stack, "NO-TOPIC", b"x" * 500)),
        (413, request(stack, topic, b"x" * (LIMIT + 1))),
        (413, request(stack, topic, (b"ff\r\n" + b"x" * 255 + b"\r\n") * 20 + b"0\r\n\r\n",
                      more=chunked)),
        (431, request(stack, topic, b"x", more=f"X: {'y' * 40_000}\r\n")),
        (202, request(stack, topic, b"%06d" % 999_999, more="Connection: close\r\n")),
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(40))
def test_however_a_stream_of_requests_is_cut_each_is_answered_in_order(running, seed):
    """Every request alone has one right answer; so has the stream, whatever comes at a time."""
    chance, topic = random.Random(seed), f"stream-{seed}"
    chosen = [chance.choice(kinds(running, topic, n)) for n in range(chance.randint(1, 25))]
    last_status, last = chance.choice(last_ones(running, topic))
    wanted = [status for status, _, _ in chosen] + ([last_status] if last_status else [])
    data = b"".join(sent for _, sent, _ in chosen) + last
    with dial(running) as link:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def send():
            try:
                for piece in pieces(data, chance):
                    link.sendall(piece)
                    if chance.random() < 0.02:
                        time.sleep(0.002)
                link.settimeout(30)
            except OSError:
                assert last_status  # it was refused and closed before all of it was sent

        sender = threading.Thread(target=send)
        sender.start()
        answers = list(itertools.islice(_Answers(link), len(wanted)))
        sender.join()
        assert [status for status, _, _ in answers] == wanted
        assert {closed for _, closed, _ in answers[:-1]} <= {None}
        if last_status and answers[-1][1] == "close":
            assert link.recv(1) == b""  # nothing more is said
        else:
            link.sendall(request(running, "probe", b"x"))
            assert _Answers(link).next()[0] == 202
    rows = running.wait_rows(sum(n for _, _, n in chosen) + (last_status == 202), topic)
    bodies = [n for n, (_, _, rows) in enumerate(chosen) for _ in range(rows)]
    bodies += [999_999] if last_status == 202 else []
    assert [int(row["body"]) for row in rows] == bodies


def test_a_head_that_came_before_is_not_taken_for_one_that_is_like_it(running):
    """The same bytes are served without reading them again; one byte less alike, and they are."""
    good = request(running, "alike", b"0")
    head = good[:-1]
    stranger = head.replace(running.token.encode(), b"x" * len(running.token))
    assert len(stranger) == len(head)
    with dial(running) as link:
        answers = iter(_Answers(link))
        for number in range(5):
            link.sendall(head + b"%d" % number)
            assert next(answers)[0] == 202
        link.sendall(head.replace(b"alike", b"other") + b"5")
        assert json.loads(next(answers)[2])["topic"] == "other"
        link.sendall(head)  # its body comes later
        time.sleep(0.05)
        link.sendall(b"6" + head + b"7" + head)
        assert [next(answers)[0] for _ in range(2)] == [202, 202]
        link.sendall(b"8")
        assert next(answers)[0] == 202
        link.sendall(stranger + b"9")
        assert next(answers)[:2] == (401, "close")
    rows = running.wait_rows(8, "alike")
    assert [row["body"] for row in rows] == list("01234678")


def test_many_refusals_behind_a_request_that_waits_are_answered_in_order(running):
    waits = request(running, "behind", b"x", more="Prefer: wait=20\r\n")
    refused = request(running, "behind", b"")
    with dial(running) as link:
        link.sendall(waits + refused * 3000)
        statuses = [status for status, _, _ in itertools.islice(_Answers(link), 3001)]
    assert statuses == [201] + [400] * 3000


def test_a_client_that_reads_no_answers_is_not_read_from_either(running):
    """Answers wait in the kernel's buffers, not without bound in the API."""
    one = request(running, "unread", b"")
    sent = 0
    with dial(running) as link:
        link.settimeout(2.0)
        try:
            while sent < 400_000_000:
                sent += link.send(one * 200)
        except TimeoutError:
            link.settimeout(30.0)
        assert sent < 400_000_000
        rest = one[sent % len(one) :] if sent % len(one) else b""
        reader = threading.Thread(target=link.sendall, args=(rest,))
        reader.start()
        count = -(-sent // len(one))
        statuses = [status for status, _, _ in itertools.islice(_Answers(link), count)]
        reader.join()
    assert statuses == [400] * count


def test_a_request_whose_sender_has_gone_is_kept_all_the_same(running):
    """It was whole; whoever sends without waiting for the answer is no reason to forget it."""
    for number in range(20):
        with dial(running) as link:
            link.sendall(request(running, "gone", b"%d" % number))
            if number % 2:  # with a reset
                link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            else:
                time.sleep(0.02)
    assert running.publish("gone", b"last").status_code == 202
    whole = {str(number) for number in range(0, 20, 2)} | {"last"}
    # Of those that were reset any number may have come, and none holds up another connection.
    wait_until(
        lambda: whole <= {row["body"] for row in running.rows("gone")},
        "each request that came whole",
        more=running.logs,
    )
    assert "Traceback" not in running.api.log


@pytest.fixture
def stoppable(running):
    """The stack of this module; what a test has stopped is started again."""
    yield running
    for process in running.processes:
        if not process.running:
            process.start()
    running.wait_ready()


def test_a_stop_answers_who_waits_for_the_broker(stoppable):
    """What is on its way to the broker is answered honestly before the API ends."""
    running = stoppable
    with contextlib.ExitStack() as dialled:
        links = [dialled.enter_context(dial(running)) for _ in range(10)]
        dialled.enter_context(frozen(running.broker.process.pid))
        for link in links:
            link.sendall(request(running, "stop", b"x"))
        time.sleep(0.5)
        stopper = threading.Thread(target=running.api.stop)
        stopper.start()
        dialled.callback(stopper.join)
        answers = [_Answers(link).next() for link in links]
        assert {(status, connection) for status, connection, _ in answers} == {(503, "close")}
    assert "Traceback" not in running.api.log


def test_a_stop_does_not_wait_for_rows(stoppable):
    """Who asked to wait for the row is told that the message is kept."""
    running = stoppable
    wait_until(lambda: "broker connected" in running.workers[0].log_now, "it consumes", 30)
    assert running.workers[0].stop() == 0
    wait_accepting(running)
    with dial(running) as link:
        link.sendall(request(running, "stop", b"x", more="Prefer: wait=60\r\n"))
        time.sleep(0.5)
        stopper = threading.Thread(target=running.api.stop)
        stopper.start()
        status, connection, content = _Answers(link).next()
        stopper.join()
    assert (status, connection) == (202, "close")
    assert json.loads(content)["status"] == "queued"
    assert "Traceback" not in running.api.log
