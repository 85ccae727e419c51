"""Publishing over real HTTP: what is taken, what bad input gets, and that nothing of it is kept."""

import contextlib
import http.client
import json
import re
import shutil
import socket
import subprocess
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from load import connect, depth, post, wait_accepting, wait_drained

MIB = 2**20
HEAD = "Host: test\r\nAuthorization: Bearer {token}\r\n"


@pytest.fixture(scope="module")
def running(module_stack):
    return module_stack(max_batch_messages=2000, max_message_bytes=64 * 1024, max_request_bytes=MIB)


@pytest.fixture(scope="module", autouse=True)
def slow_heads(running):
    """Connections whose heads never end; each name -> seconds until it was closed.

    Opened before all other tests, so that nobody waits for them.
    """
    host, _, port = running.url.removeprefix("http://").partition(":")
    good = head(running, more="Content-Length: 1\r\n").encode() + b"x"
    begun = {
        "says nothing": b"",
        "stops amid its head": good[:40],
        "stops amid its second head": good + b"POST ",
    }
    closed: dict[str, float] = {}

    def wait(name, link):
        began = time.monotonic()
        while link.recv(1024):
            pass
        closed[name] = time.monotonic() - began

    def end(link):
        with contextlib.suppress(OSError):  # the API was first
            link.shutdown(socket.SHUT_RDWR)

    with contextlib.ExitStack() as links:
        threads = []
        for name, data in begun.items():
            link = links.enter_context(socket.create_connection((host, int(port)), 30))
            link.sendall(data)
            threads.append(threading.Thread(target=wait, args=(name, link)))
            threads[-1].start()
            links.callback(threads[-1].join)
            links.callback(end, link)
        yield threads, closed


@pytest.fixture(autouse=True)
def nothing_is_left_half_done(running):
    """Whatever a test sent, the appliance is as well afterwards as before."""
    yield
    assert running.get("/readyz").status_code == 200
    for process in running.processes:
        assert process.running
        assert "Traceback" not in process.log


def raw(stack, data, *more, timeout=20.0):
    """Send bytes as they are; return status, headers and body of the one answer."""
    host, _, port = stack.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout) as link:
        link.sendall(data.encode() if isinstance(data, str) else data)
        for part in more:
            link.sendall(part)
        return answer_on(link)


def answer_on(link):
    response = http.client.HTTPResponse(link)
    response.begin()
    content = response.read()
    return response.status, {k.lower(): v for k, v in response.getheaders()}, content


def head(stack, topic="t", method="POST", query="", more=""):
    token = HEAD.format(token=stack.token)
    return f"{method} /v1/topics/{topic}/messages{query} HTTP/1.1\r\n{token}{more}\r\n"


def check_problem(answer, status, name=None):
    """Assert that it is a problem+json of this status; return its detail."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    if name:
        assert body["type"] == f"urn:queue-appliance:problem:{name}"
    return body["detail"]


# --- what is taken -----------------------------------------------------------------------------


def test_a_message_is_answered_with_its_id_and_becomes_a_row(running):
    answer = running.publish("first", b"hello")
    assert answer.status_code == 202
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert set(body) == {"id", "topic", "status", "received_at"}
    assert (body["topic"], body["status"]) == ("first", "queued")
    assert uuid.UUID(body["id"]).version == 7
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", body["received_at"])
    assert answer.headers["location"] == f"/v1/messages/{body['id']}"
    (row,) = running.wait_rows(1, "first")
    assert (row["id"], row["body"], row["received_at"]) == (
        body["id"], "hello", body["received_at"],
    )  # fmt: skip


@pytest.mark.parametrize(
    "body",
    [
        b"\0",
        bytes(range(256)),
        b"\xff\xfe",
        b"ends with a newline\n",
        b"\r\n",
        b" ",
        "\u2028 \ufeff \U0001f980".encode(),
        b"{broken json",
        b"a=1&b=2",
        b"x" * 65536,
    ],
    ids=lambda b: repr(b[:12]),
)
def test_any_bytes_come_back_as_they_were(running, body):
    answer = running.publish("bytes", body, Prefer="wait=20")
    assert answer.status_code == 201, answer.text
    (row,) = running.query("SELECT body FROM messages WHERE id = ?", answer.json()["id"])
    stored = row["body"].encode() if isinstance(row["body"], str) else row["body"]
    assert stored == body
    assert running.get(answer.headers["location"] + "/body").content == body


@pytest.mark.parametrize(
    "media_type",
    [
        None,
        "application/x-www-form-urlencoded",
        "application/json",
        "text/plain",
        "multipart/mixed; boundary=x",
        "nonsense",
    ],
)
def test_the_body_is_taken_as_it_is_whatever_its_type_is_said_to_be(running, media_type):
    headers = {"Content_Type": media_type} if media_type else {}
    answer = running.publish("types", b"one\ntwo", **headers)
    assert answer.status_code == 202
    assert "id" in answer.json()


def test_put_is_post(running):
    path = "/v1/topics/put/messages"
    assert running.client.put(path, content=b"by put").status_code == 202
    assert running.wait_rows(1, "put")[0]["body"] == "by put"


@pytest.mark.parametrize("topic", ["a", "0", "x" * 100, "a.b-c_d..e"])
def test_a_topics_name_may_be_all_that_it_may_be(running, topic):
    assert running.publish(topic, b"x").status_code == 202


def test_a_percent_encoded_name_is_the_name_it_encodes(running):
    answer = running.client.post("/v1/topics/%61bc/messages", content=b"x")
    assert answer.json()["topic"] == "abc"


def curl(stack, *arguments, data=None):
    assert shutil.which("curl"), "curl is not installed"
    done = subprocess.run(
        ["curl", "-sS", "-m", "20", "-H", f"Authorization: Bearer {stack.token}", *arguments],
        input=data,
        capture_output=True,
        check=True,
    )
    assert json.loads(done.stdout).get("status") == "queued", (arguments, done.stdout)


def test_curl_works_as_in_the_readme(running, tmp_path):
    url = f"{running.url}/v1/topics/curl/messages"
    file = tmp_path / "file"
    file.write_bytes(b"from a file\0\n" * 100)
    large = b"y" * 60_000
    curl(running, "-d", "a=1&b=2", url)
    curl(running, "-T", str(file), url)
    curl(running, "-H", "Transfer-Encoding: chunked", "--data-binary", "@-", url, data=large)
    curl(running, "-T", "-", url, data=b"streamed")
    curl(running, "-H", "Expect: 100-continue", "--data-binary", "@-", url, data=b"expected")
    curl(running, "--http2", "-d", "asks for an upgrade", url)
    curl(running, "-0", "-d", "http 1.0", url)
    rows = running.wait_rows(7, "curl")
    assert [row["body"] for row in rows] == [
        "a=1&b=2", file.read_bytes(), large.decode(), "streamed", "expected",
        "asks for an upgrade", "http 1.0",
    ]  # fmt: skip


@pytest.mark.parametrize("cut", [0, 30, 200])
def test_an_upgrade_that_is_asked_for_is_ignored(running, cut):
    """Java's client asks for one with every first request."""
    more = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    request = head(running, f"upgrade-{cut}", more=more + "Content-Length: 5\r\n") + "hello"
    with contextlib.closing(connect(running)) as link:
        link.connect()
        link.sock.sendall(request[:cut].encode())
        time.sleep(0.05)
        link.sock.sendall(request[cut:].encode())
        assert answer_on(link.sock)[0] == 202
        assert post(link, running, f"upgrade-{cut}", b"again")[0] == 202
    rows = running.wait_rows(2, f"upgrade-{cut}")
    assert [row["body"] for row in rows] == ["hello", "again"]


def test_many_requests_on_one_connection_are_each_answered(running):
    with contextlib.closing(connect(running)) as link:
        for number in range(50):
            assert post(link, running, "kept", b"%d" % number)[0] == 202
            assert link.sock is not None  # it was not closed
    assert [row["body"] for row in running.wait_rows(50, "kept")] == [str(n) for n in range(50)]


def test_pipelined_requests_are_answered_in_order(running):
    one = head(running, "piped", more="Content-Length: 1\r\n")
    host, _, port = running.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), 20) as link:
        link.sendall("".join(f"{one}{n}" for n in range(5)).encode())
        file = link.makefile("rb")
        for _ in range(5):
            assert b" 202 " in file.readline()
            length = 0
            while (line := file.readline()) != b"\r\n":
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            file.read(length)
    rows = running.wait_rows(5, "piped")
    assert [row["body"] for row in rows] == list("01234")


def test_a_chunked_body_is_put_together(running):
    parts = [b"5\r\nhello\r\n", b"1;ext=1\r\n \r\n", b"5\r\nworld\r\n", b"0\r\nTrailer: x\r\n\r\n"]
    status, _, content = raw(
        running, head(running, "chunked", more="Transfer-Encoding: chunked\r\n"), *parts
    )
    assert status == 202, content
    assert running.wait_rows(1, "chunked")[0]["body"] == "hello world"


# --- batches -----------------------------------------------------------------------------------


def test_lines_become_messages_in_order_with_ids_that_count_up(running):
    answer = running.publish("lines", b"one\r\n\ntwo\n three \n", params={"split": "lines"})
    assert answer.status_code == 202
    body = answer.json()
    assert set(body) == {"topic", "status", "received_at", "count", "ids"}
    assert body["count"] == 3
    rows = running.wait_rows(3, "lines")
    assert [row["body"] for row in rows] == ["one", "two", " three "]
    assert [row["id"] for row in rows] == body["ids"]
    assert {row["received_at"] for row in rows} == {body["received_at"]}
    assert "location" not in answer.headers


def test_lines_may_be_any_bytes(running):
    body = b"text\n\xff\xfe\n\0nul\n"
    answer = running.publish("lines-of-bytes", body, params={"split": "lines"}, Prefer="wait=20")
    assert answer.status_code == 201
    rows = running.rows("lines-of-bytes")
    assert [row["body"] for row in rows] == ["text", b"\xff\xfe", b"\0nul"]
    assert [row["id"] for row in rows] == answer.json()["ids"]


@pytest.mark.parametrize("media_type", ["application/x-ndjson", "Application/X-NDJSON; charset=x"])
def test_ndjson_lines_are_kept_as_they_were_written(running, media_type):
    topic = f"ndjson-{len(media_type)}"
    body = b'{"b": 1,  "a":2}\n\n"text"\r\n[1, 2.50]\n null'
    answer = running.publish(topic, body, Content_Type=media_type)
    assert answer.json()["count"] == 4
    rows = running.wait_rows(4, topic)
    assert [row["body"] for row in rows] == ['{"b": 1,  "a":2}', '"text"', "[1, 2.50]", " null"]


def test_a_large_batch_names_its_first_and_last_id(running):
    body = b"\n".join(b"%d" % n for n in range(2000))
    answer = running.publish("large", body, params={"split": "lines"}, Prefer="wait=20")
    assert answer.status_code == 201
    rows = running.rows("large")
    assert [row["body"] for row in rows] == [str(n) for n in range(2000)]
    assert answer.json()["count"] == 2000
    assert answer.json()["ids"] == [rows[0]["id"], rows[-1]["id"]]


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (b'{"a":1}\n{bad\n{"b":1}', 2),
        (b'\n\n{"a":1}\r\n\nnope', 5),
        (b'{"a":NaN}', 1),
        (b'{"a":1}\n\xff', 2),
        (b'"\\ud800"', 1),
        (b"1\n" + b"[" * 10_000, 2),
        (b"1\n\0", 2),
    ],
    ids=lambda v: repr(v)[:16],
)
def test_a_bad_ndjson_line_is_named_and_nothing_of_the_batch_is_kept(running, body, line):
    answer = running.publish("bad-ndjson", body, Content_Type="application/x-ndjson")
    assert check_problem(answer, 400, "bad-body").startswith(f"line {line} is not JSON")
    assert_nothing_kept(running, "bad-ndjson")


def test_too_many_lines_are_refused_and_none_is_kept(running):
    body = b"x\n" * 2001
    answer = running.publish("too-many", body, params={"split": "lines"})
    assert "2001 messages" in check_problem(answer, 413, "too-large")
    assert_nothing_kept(running, "too-many")


def test_a_line_that_is_too_long_is_named_and_none_is_kept(running):
    body = b"short\n\n" + b"x" * 65537 + b"\nshort"
    answer = running.publish("long-line", body, params={"split": "lines"})
    assert "line 3 " in check_problem(answer, 413, "too-large")
    assert_nothing_kept(running, "long-line")


def assert_nothing_kept(stack, topic):
    """A message sent after it is stored, and so whatever would have been kept before it."""
    assert stack.publish("probe", b"x", Prefer="wait=20").status_code == 201
    assert stack.count(topic) == 0


# --- what bad input gets -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/topics/t/messages"),
        ("PUT", "/v1/topics/t/messages"),
        ("DELETE", "/v1/topics/t/messages"),
        ("POST", "/v1/topics/NOT-A-TOPIC/messages"),
        ("GET", "/v1/topics"),
        ("GET", "/v1/status"),
        ("GET", "/v1/messages/x"),
        ("GET", "/nowhere"),
        ("POST", "/"),
    ],
)
def test_no_token_a_wrong_one_and_a_malformed_one_get_the_same_answer(running, method, path):
    token = running.token
    values = [
        None, "", "Bearer", "Bearer ", "Bearer wrong", f"Bearer {token}x", f"Bearer {token[:-1]}",
        f"Basic {token}", token, f"Bearer  x {token}", f"Bearer {token} {token}", "Bearer \xff",
    ]  # fmt: skip

    def ask(value):
        more = "" if value is None else f"Authorization: {value}\r\n"
        request = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n{more}\r\nx"
        status, headers, content = raw(running, request.encode("latin-1"))
        headers.pop("date")
        return status, headers, content

    with ThreadPoolExecutor(len(values)) as pool:  # many refusals are slow ones
        answers = list(pool.map(ask, values))
    assert all(answer == answers[0] for answer in answers)
    status, headers, content = answers[0]
    assert status == json.loads(content)["status"] == 401
    assert json.loads(content)["type"] == "urn:queue-appliance:problem:unauthorized"
    assert headers["content-type"] == "application/problem+json"
    assert "Bearer" in headers["www-authenticate"]


def test_the_scheme_may_be_written_in_any_case(running):
    for scheme in ("bearer", "BEARER"):
        headers = {"Authorization": f"{scheme} {running.token}"}
        path = "/v1/topics/scheme/messages"
        assert running.client.post(path, content=b"x", headers=headers).status_code == 202


def test_health_needs_no_token(running):
    for path in ("/healthz", "/readyz"):
        assert raw(running, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")[0] == 200


@pytest.mark.parametrize(
    "topic",
    ["Upper", ".dot", "-dash", "_under", "a%20b", "a%2Fb", "%00", "a%0d%0ab", "%C3%A4", "%FF",
     "x" * 101, "a/b", "", "%D9%A1"],
)  # fmt: skip
def test_a_name_that_is_no_topics_is_refused(running, topic):
    answer = running.client.post(f"/v1/topics/{topic}/messages", content=b"x")
    check_problem(answer, 400, "bad-topic")


@pytest.mark.parametrize("params", [None, {"split": "lines"}])
def test_an_empty_body_is_refused(running, params):
    check_problem(running.publish("empty", b"", params=params), 400, "bad-body")
    assert_nothing_kept(running, "empty")


@pytest.mark.parametrize("body", [b"\n", b"\r\n\n\r\n"])
def test_lines_that_are_all_empty_are_refused(running, body):
    check_problem(running.publish("empty", body, params={"split": "lines"}), 400, "bad-body")
    answer = running.publish("empty", body, Content_Type="application/x-ndjson")
    check_problem(answer, 400, "bad-body")


@pytest.mark.parametrize(
    "query",
    ["?x=1", "?split=", "?split=words", "?split=lines&x=1", "?split=lines&split=lines", "?split",
     "?%FF=%FF", "?" + "&".join(f"a{n}=1" for n in range(100)), "?key=x", "?\xff"],
)  # fmt: skip
def test_an_unknown_parameter_is_refused(running, query):
    status, headers, content = raw(
        running, (head(running, query=query, more="Content-Length: 1\r\n") + "x").encode("latin-1")
    )
    assert status == 400, content
    if "\xff" not in query:
        assert headers["content-type"] == "application/problem+json"


def test_too_large_a_message_is_refused_before_it_is_sent(running):
    """Only its length is announced; the answer comes though no byte of the body does."""
    began = time.monotonic()
    for length in (64 * 1024 + 1, 10**12, 10**30):
        status, headers, content = raw(running, head(running, more=f"Content-Length: {length}\r\n"))
        # A number beyond 64 bits is no length to the parser.
        assert status == (413 if length < 10**20 else 400), content
        assert headers["connection"] == "close"
    assert time.monotonic() - began < 5


def test_the_largest_message_is_taken_and_one_byte_more_is_not(running):
    assert running.publish("size", b"x" * 65536).status_code == 202
    check_problem(running.publish("size", b"x" * 65537), 413, "too-large")


def test_the_largest_batch_is_taken_and_one_byte_more_is_not(running):
    line = b"x" * 1023 + b"\n"
    split = {"split": "lines"}
    assert running.publish("size-b", line * 1024, params=split).status_code == 202
    check_problem(running.publish("size-b", line * 1024 + b"x", params=split), 413, "too-large")


def test_an_endless_chunked_body_is_refused_early_and_cut_off(running):
    """The answer comes while the client still sends; and it can't send for ever."""
    host, _, port = running.url.removeprefix("http://").partition(":")
    sent, cut = 0, threading.Event()
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    with socket.create_connection((host, int(port)), 20) as link:
        link.sendall(head(running, "endless", more="Transfer-Encoding: chunked\r\n").encode())

        def send_for_ever():
            nonlocal sent
            with contextlib.suppress(OSError):
                while True:
                    link.sendall(chunk)
                    sent += len(chunk)
            cut.set()

        sender = threading.Thread(target=send_for_ever, daemon=True)
        sender.start()
        status, headers, content = answer_on(link)
        assert status == 413
        assert headers["connection"] == "close"
        assert json.loads(content)["type"].endswith(":too-large")
        assert cut.wait(20), "it may send for ever"
        sender.join()
    assert sent < 160 * MIB  # what is read after the refusal, and what buffers hold
    assert_nothing_kept(running, "endless")


def test_a_client_that_waits_for_100_continue_is_refused_without_sending(running):
    more = "Content-Length: 1000000\r\nExpect: 100-continue\r\n"
    status, _, _ = raw(running, head(running, more=more))
    assert status == 413  # and not 100


def test_a_client_that_waits_for_100_continue_is_told_to_go_on(running):
    host, _, port = running.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), 20) as link:
        more = "Content-Length: 5\r\nExpect: 100-continue\r\n"
        link.sendall(head(running, "expect", more=more).encode())
        assert link.recv(1024).startswith(b"HTTP/1.1 100")
        link.sendall(b"hello")
        assert answer_on(link)[0] == 202


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, br", "x"])
def test_a_coding_that_is_not_taken_is_refused(running, coding):
    answer = running.publish("gzip", b"\x1f\x8b", Content_Encoding=coding)
    check_problem(answer, 415, "encoding")
    assert answer.headers["accept-encoding"] == "gzip, deflate"
    assert running.publish("t", b"x", Content_Encoding="identity").status_code == 202


@pytest.mark.parametrize("method", ["PATCH", "OPTIONS"])
def test_a_method_that_is_not_there_names_those_that_are(running, method):
    answer = running.client.request(method, "/v1/topics/t/messages")
    check_problem(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == "GET, HEAD, POST, PUT"


@pytest.mark.parametrize("path", ["/v1/topics", "/v1/messages/x", "/healthz"])
def test_posting_where_nothing_is_taken_is_405(running, path):
    answer = running.client.post(path, content=b"x")
    check_problem(answer, 405, "method-not-allowed")
    assert "GET" in answer.headers["allow"]


def test_an_unknown_id_is_404_and_says_when_to_come_again(running):
    answer = running.get(f"/v1/messages/{uuid.uuid4()}")
    check_problem(answer, 404, "not-found")
    assert int(answer.headers["retry-after"]) >= 1


@pytest.mark.parametrize("size", [40_000, 100_000, 1_000_000])
@pytest.mark.parametrize("pieces", [1, 50])
def test_huge_headers_are_refused(running, size, pieces):
    value = "x" * (size // pieces)
    more = "".join(f"X-Header-{n}: {value}\r\n" for n in range(pieces))
    status, headers, content = raw(running, head(running, more=more + "Content-Length: 0\r\n"))
    assert status == 431, content
    assert headers["content-type"] == "application/problem+json"
    assert headers["connection"] == "close"


def test_headers_that_never_end_are_refused(running):
    host, _, port = running.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), 20) as link:
        link.sendall(head(running).encode()[:-2])
        for number in range(100):
            with contextlib.suppress(OSError):
                link.sendall(f"X-{number}: {'y' * 1000}\r\n".encode())
            time.sleep(0.001)
        assert answer_on(link)[0] == 431


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n\r\n\r\n nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",  # TLS
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/topics/\xff\xfe/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx",
        b"POST /v1/topics/t/messages HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
        b"POST /v1/topics/t/messages HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/topics/t/messages HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        (
            b"POST /v1/topics/t/messages HTTP/1.1\r\nContent-Length: 1\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
        ),
        b"POST /v1/topics/t/messages HTTP/1.1\r\nA\0b: c\r\n\r\n",
        b"POST /v1/topics/t/messages HTTP/1.1\r\n folded: c\r\n\r\n",
        b"CONNECT t:80 HTTP/1.1\r\nHost: t:80\r\n\r\n",
    ],
    ids=range(11),
)
def test_bytes_that_are_no_http_are_refused(running, data):
    assert raw(running, data)[0] in (400, 401, 404, 505)


def test_a_bad_chunk_is_refused_and_nothing_is_kept(running):
    status, _, _ = raw(
        running,
        head(running, "bad-chunk", more="Transfer-Encoding: chunked\r\n"),
        b"5\r\nhello\r\n",
        b"zz\r\n",
    )
    assert status == 400
    assert_nothing_kept(running, "bad-chunk")


def test_a_client_that_leaves_amid_its_body_leaves_nothing(running):
    host, _, port = running.url.removeprefix("http://").partition(":")
    for more, body in [
        ("Content-Length: 10\r\n", b"half"),
        ("Transfer-Encoding: chunked\r\n", b"4\r\nhalf\r\n"),
    ]:
        with socket.create_connection((host, int(port)), 20) as link:
            link.sendall(head(running, "left", more=more).encode() + body)
            time.sleep(0.1)
    assert_nothing_kept(running, "left")


# --- Prefer: wait ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prefer", "applied"),
    [
        ("wait=20", "20"),
        ("respond-async, wait=20", "20"),
        ('Wait="20"', "20"),
        ("wait=99999", "60"),
    ],
)
def test_waiting_ends_when_the_row_is_there(running, prefer, applied):
    answer = running.publish("wait", b"x", Prefer=prefer)
    assert answer.status_code == 201
    assert answer.json()["status"] == "stored"
    assert answer.headers["preference-applied"] == f"wait={applied}"
    assert running.query("SELECT 1 FROM messages WHERE id = ?", answer.json()["id"])


@pytest.mark.parametrize("prefer", ["return=minimal", "wait", "wait=soon", "wait=-1", "await=5"])
def test_a_preference_that_is_no_wait_is_ignored(running, prefer):
    answer = running.publish("wait", b"x", Prefer=prefer)
    assert answer.status_code == 202
    assert "preference-applied" not in answer.headers


def test_waiting_ends_in_time_when_nothing_is_stored(running):
    worker = running.workers[0]
    worker.stop()
    try:
        began = time.monotonic()
        answer = running.publish("wait-in-vain", b"x", Prefer="wait=1")
        assert 0.9 < time.monotonic() - began < 4
        assert answer.status_code == 202
        assert answer.json()["status"] == "queued"
        assert answer.headers["preference-applied"] == "wait=1"
        assert running.publish("wait-in-vain", b"y", Prefer="wait=0").status_code == 202
    finally:
        worker.start()
        running.wait_ready()
    running.wait_rows(2, "wait-in-vain")


def test_many_may_wait_at_once(running):
    answers = []

    def send(number):
        answers.append(running.publish("waiters", f"{number}", Prefer="wait=20").status_code)

    threads = [threading.Thread(target=send, args=(n,)) for n in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [201] * 40


@pytest.mark.slow
def test_a_head_that_comes_too_slowly_is_cut_off(slow_heads):
    """Waits for what is left of the 15 s that a head may take, before the API is restarted."""
    threads, closed = slow_heads
    for thread in threads:
        thread.join()
    assert len(closed) == 3
    assert all(10 < seconds < 25 for seconds in closed.values()), closed


def test_small_batches_of_many_senders_are_each_whole_and_in_order(running):
    """They share envelopes with one another and with messages, of the same topic and of others."""
    kept: dict[str, list[list[str]]] = {}

    def send(sender):
        own = kept[f"small-{sender}"] = []
        for number in range(25):
            bodies = [f"{sender} {number} {line}" for line in range(1 + number % 4)]
            for topic in (f"small-{sender}", "small-shared"):
                answer = running.publish(topic, "\n".join(bodies), {"split": "lines"})
                assert answer.status_code == 202, answer.text
                own.append([topic, bodies, answer.json()["ids"]])
                running.publish(f"small-{sender}", f"{sender} {number} alone")

    threads = [threading.Thread(target=send, args=(n,)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_drained(running)
    rows = {row["id"]: row for row in running.query("SELECT * FROM messages ORDER BY seq")}
    for own in kept.values():
        assert len(own) == 50
        seqs = []
        for topic, bodies, ids in own:
            batch = [rows[each] for each in ids]
            assert [(row["topic"], row["body"]) for row in batch] == [(topic, b) for b in bodies]
            assert [row["seq"] - batch[0]["seq"] for row in batch] == list(range(len(bodies)))
            seqs.append(batch[0]["seq"])
        assert seqs == sorted(seqs)


# --- idempotency -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header", ["Idempotency_Key", "webhook_id", "X_GitHub_Delivery", "idempotency_KEY"]
)
def test_the_same_key_and_body_is_the_same_message(running, header):
    topic = f"key-{header.lower()}"
    answers = [
        running.publish(topic, b"x", Prefer="wait=20", **{header: key})
        for key in ("k-1", "k-1", '"k-1"')
    ]
    assert [a.status_code for a in answers] == [201] * 3
    assert len({a.json()["id"] for a in answers}) == 1
    assert len({a.json()["received_at"] for a in answers}) == 1
    assert uuid.UUID(answers[0].json()["id"]).version == 8
    wait_drained(running)
    assert running.count(topic) == 1


def test_a_key_belongs_to_its_topic(running):
    ids = {running.publish(t, b"x", Idempotency_Key="k").json()["id"] for t in ("key-a", "key-b")}
    assert len(ids) == 2


@pytest.mark.parametrize("key", ["", "two words", '""', "x" * 256, "\xe4", "tab\there"])
def test_a_key_that_is_none_is_refused(running, key):
    more = f"Idempotency-Key: {key}\r\nContent-Length: 1\r\n"
    status, headers, content = raw(
        running, (head(running, "bad-key", more=more) + "x").encode("latin-1")
    )
    assert status == 400, content
    assert headers["content-type"] == "application/problem+json"


def test_the_same_key_with_another_body_is_refused(running):
    assert running.publish("other", b"x", Idempotency_Key="k").status_code == 202
    answer = running.publish("other", b"y", Idempotency_Key="k")
    check_problem(answer, 422, "key-reused")
    answer = running.publish("other", b"x", params={"split": "lines"}, Idempotency_Key="k")
    check_problem(answer, 422, "key-reused")
    wait_drained(running)
    assert [row["body"] for row in running.rows("other")] == ["x"]
    assert running.query("SELECT * FROM dead_letters WHERE topic = 'other'") == []


def test_a_refused_request_does_not_use_up_its_key(running):
    check_problem(running.publish("again", b"", Idempotency_Key="k"), 400)
    check_problem(running.publish("again", b"x" * 65537, Idempotency_Key="k"), 413)
    assert running.publish("again", b"x", Idempotency_Key="k").status_code == 202


def test_a_batch_with_a_key_is_kept_once(running):
    options = {"params": {"split": "lines"}, "Idempotency_Key": "k", "Prefer": "wait=20"}
    first, second = (running.publish("key-batch", b"a\nb\nc", **options) for _ in range(2))
    assert first.status_code == second.status_code == 201
    assert first.json()["ids"] == second.json()["ids"]
    check_problem(running.publish("key-batch", b"a\nb", **options), 422, "key-reused")
    wait_drained(running)
    assert [row["body"] for row in running.rows("key-batch")] == ["a", "b", "c"]


def test_the_same_key_many_times_at_once_is_one_message(running):
    answers = []

    def send():
        answers.append(running.publish("at-once", b"x", Idempotency_Key="k").json()["id"])

    threads = [threading.Thread(target=send) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 20
    assert len(set(answers)) == 1
    wait_drained(running)
    assert running.count("at-once") == 1


def test_a_key_outlives_the_api(running):
    """Once while the message is still queued, and once when it is stored."""
    worker = running.workers[0]
    worker.stop()
    batch = {"params": {"split": "lines"}, "Idempotency_Key": "b"}
    first = running.publish("outlives", b"x", Idempotency_Key="k").json()["id"]
    lines = running.publish("outlives", b"1\n2", **batch).json()["ids"]
    restart_api(running)
    assert running.publish("outlives", b"x", Idempotency_Key="k").json()["id"] == first
    assert running.publish("outlives", b"1\n2", **batch).json()["ids"] == lines
    # The same messages twice, which only the store can tell; and the last words of the first API.
    assert depth(running) == 4 + 1
    worker.start()
    running.wait_ready()
    wait_drained(running)
    assert [row["body"] for row in running.rows("outlives")] == ["x", "1", "2"]
    received = running.rows("outlives")[0]["received_at"]
    restart_api(running)
    running.wait_ready()
    again = running.publish("outlives", b"x", Idempotency_Key="k")
    assert (again.status_code, again.json()["id"]) == (202, first)
    assert (again.json()["status"], again.json()["received_at"]) == ("stored", received)
    assert running.publish("outlives", b"1\n2", **batch).json()["ids"] == lines
    answer = running.publish("outlives", b"y", Idempotency_Key="k")
    check_problem(answer, 422, "key-reused")
    check_problem(running.publish("outlives", b"1\n2\n3", **batch), 422, "key-reused")
    wait_drained(running)
    assert running.count("outlives") == 3
    assert running.query("SELECT * FROM dead_letters WHERE topic = 'outlives'") == []


def test_another_body_with_a_key_that_nobody_remembers_is_kept_as_a_dead_letter(running):
    """The API was restarted while the first was queued, so both were answered 202."""
    worker = running.workers[0]
    worker.stop()
    first = running.publish("forgotten", b"x", Idempotency_Key="k").json()["id"]
    restart_api(running)
    assert running.publish("forgotten", b"y", Idempotency_Key="k").json()["id"] == first
    worker.start()
    running.wait_ready()
    wait_drained(running)
    assert [row["body"] for row in running.rows("forgotten")] == ["x"]
    dead = running.query("SELECT * FROM dead_letters WHERE topic = 'forgotten'")
    assert [(d["id"], d["body"], d["reason"]) for d in dead] == [(first, b"y", "conflict")]


def restart_api(stack):
    assert stack.api.stop() == 0
    stack.api.start()
    wait_accepting(stack)
