"""Reading through the real server: what only a connection can show."""

import json
import socket
import time
from pathlib import Path

import pytest
from harness import wait_until

ROWS = 150_000


@pytest.fixture(scope="module")
def appliance(module_stack):
    stack = module_stack()
    stack.publish("t", b"hello").raise_for_status()
    for start in range(0, ROWS, 30_000):
        lines = b"".join(b"%09d %s\n" % (n, b"x" * 190) for n in range(start, start + 30_000))
        stack.publish("big", lines, {"split": "lines"}).raise_for_status()
    stack.wait_rows(ROWS, "big", timeout=60)
    return stack


def connect(appliance, **options):
    host, port = appliance.url.removeprefix("http://").split(":")
    link = socket.create_connection((host, int(port)), 20)
    if buffer := options.get("buffer"):
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    return link


def head(appliance, target, method=b"GET"):
    token = appliance.token.encode()
    return b"%s %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nConnection: close\r\n\r\n" % (
        method,
        target,
        token,
    )


def ask(appliance, request):
    """Send bytes as they are; return the answer's status, head and body."""
    with connect(appliance) as link:
        link.sendall(request)
        answer = b"".join(iter(lambda: link.recv(65536), b""))
    top, _, body = answer.partition(b"\r\n\r\n")
    return int(top.split(b" ", 2)[1]), top.lower(), body


def cpu_seconds(process):
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


@pytest.mark.parametrize(
    "target",
    [
        b"/v1/topics?limit=\xff",
        b"/v1/topics?\xc3\xbc=1",
        b"/v1/topics?a=%",
        b"/v1/topics?limit=1;limit=2",
        b"/v1/topics/\xff/messages",
        b"/v1/topics/%FF/messages",
        b"/v1/topics/%ED%B3%BF/messages",
        b"/v1/topics/%00/messages",
        b"/v1/topics/a%0d%0aX-Evil:%201/messages",
        b"/v1/topics/t/messages?before=%ED%B3%BF",
        b"/v1/topics/t/messages?since=%0d%0aX-Evil:%201",
        b"/v1/messages/%0d%0a",
        b"/v1/messages/\xff",
        b"/v1/topics/a%2Fb/messages",
        b"/v1/../etc/passwd",
        b"/%2e%2e/etc/passwd",
        b"*",
        b"/" + b"a" * 60_000,
        b"/v1/topics?" + b"a" * 60_000,
    ],
)
def test_a_hostile_address_is_a_4xx(appliance, target):
    status, top, body = ask(appliance, head(appliance, target))
    assert 400 <= status < 500
    assert b"content-type: application/problem+json" in top
    assert json.loads(body)["status"] == status
    assert b"x-evil" not in top


@pytest.mark.parametrize(
    "header",
    [
        b"X: a\0b",
        b"X: \xff",
        b"X_Y: 1",
        b"Cookie: \xff=1",
        b"Content-Type: \xff",
        b"Range: bytes=x",
    ],
)
def test_a_hostile_header_is_no_fault(appliance, header):
    request = head(appliance, b"/v1/topics")[:-2] + header + b"\r\n\r\n"
    assert ask(appliance, request)[0] in (200, 400)


def test_a_large_body_where_none_belongs_is_refused(appliance):
    request = head(appliance, b"/v1/topics")[:-2] + b"Content-Length: 100000\r\n\r\n"
    assert ask(appliance, request + b"x" * 100_000)[0] == 413


def test_without_a_token_only_the_open_addresses_are_answered(appliance):
    for target, expected in (
        (b"/", 200),
        (b"/favicon.ico", 200),
        (b"/healthz", 200),
        (b"/openapi.json", 200),
        (b"/readyz", 200),
        (b"/v1/topics", 401),
        (b"/v1/backup", 401),
        (b"/none", 401),
    ):
        request = b"GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % target
        assert ask(appliance, request)[0] == expected
    refused = {ask(appliance, head(appliance, b"/x").replace(b"Bearer", b"Basic"))[0]}
    assert refused == {401}


@pytest.mark.parametrize("target", [b"/v1/topics", b"/v1/topics/big/messages?format=csv"])
def test_head_has_no_body(appliance, target):
    status, top, body = ask(appliance, head(appliance, target, b"HEAD"))
    assert (status, body) == (200, b"")
    assert b"content-type: " in top


def test_one_connection_serves_one_read_after_another(appliance):
    for _ in range(3):
        assert appliance.get("/v1/topics").status_code == 200
        assert appliance.get("/nothing").status_code == 404
        assert appliance.get("/v1/topics/t/messages?format=ndjson").json()["body"] == "hello"


def test_an_export_of_everything_is_complete_and_in_order(appliance):
    with appliance.client.stream("GET", "/v1/topics/big/messages?format=ndjson&after=0") as answer:
        numbers = [int(json.loads(line)["body"][:9]) for line in answer.iter_lines()]
    assert numbers == list(range(ROWS))


def test_clients_that_read_nothing_keep_nobody_else_waiting(appliance):
    links = [connect(appliance, buffer=4096) for _ in range(20)]
    try:
        for link in links:
            link.sendall(head(appliance, b"/v1/topics/big/messages?format=ndjson"))
        time.sleep(0.5)
        for path in ("/healthz", "/readyz", "/v1/topics/t/messages"):
            started = time.monotonic()
            assert appliance.get(path).status_code == 200
            assert time.monotonic() - started < 3
        assert appliance.publish("t", b"more").status_code == 202
    finally:
        for link in links:
            link.close()


def test_exports_at_once_are_bounded_and_the_place_is_given_back(appliance):
    links = [connect(appliance, buffer=4096) for _ in range(40)]
    try:
        for link in links:
            link.sendall(head(appliance, b"/v1/topics/big/messages?format=ndjson"))
        answers = [link.recv(12) for link in links]
        # Those of the test before may still be ending.
        assert 20 <= answers.count(b"HTTP/1.1 200") <= 32
        assert set(answers) == {b"HTTP/1.1 200", b"HTTP/1.1 503"}
    finally:
        for link in links:
            link.close()

    def free():
        return appliance.get("/v1/topics/t/messages?format=ndjson").status_code == 200

    wait_until(free, "an export is answered again", 10)


def test_an_export_whose_client_has_gone_ends(appliance):
    for _ in range(10):
        with connect(appliance, buffer=4096) as link:
            link.sendall(head(appliance, b"/v1/topics/big/messages?format=csv"))
            link.recv(1000)
    time.sleep(0.5)
    before = cpu_seconds(appliance.api)
    time.sleep(1)
    assert cpu_seconds(appliance.api) - before < 0.5


def test_an_export_that_breaks_off_does_not_look_complete(appliance):
    with connect(appliance, buffer=4096) as link:
        link.sendall(head(appliance, b"/v1/topics/big/messages?format=ndjson"))
        received = link.recv(1000)
        appliance.database.rename(appliance.data / "moved")
        while part := link.recv(65536):
            received += part
        appliance.database.with_name("moved").rename(appliance.database)
    assert received.startswith(b"HTTP/1.1 200")
    assert not received.endswith(b"0\r\n\r\n")
