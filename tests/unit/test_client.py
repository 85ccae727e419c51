import re
import socket
import threading
import time

import pytest

from appliance import config as configuration
from appliance.client import Client
from appliance.errors import ClientError, InputError, TokenRefusedError
from appliance.machine import locks


class Server:
    """Answers each connection with the bytes it is told to, and keeps what it was sent."""

    def __init__(self, *connections):
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.requests = []
        self._thread = threading.Thread(target=self._serve, args=(connections,), daemon=True)
        self._thread.start()

    def _serve(self, connections):
        for answers in connections:
            try:
                link, _ = self._socket.accept()
            except OSError:
                return  # closed
            with link, link.makefile("rb") as stream:
                for answer in answers:
                    if not (request := self._read(stream)):
                        break
                    self.requests.append(request)
                    link.sendall(answer)

    def _read(self, stream):
        head = b""
        while line := stream.readline():
            head += line
            if line == b"\r\n":
                break
        length = re.search(rb"Content-Length: (\d+)", head)
        return head + (stream.read(int(length[1])) if length else b"")

    def close(self):
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._socket.close()


def answer(status, body=b"{}", **headers):
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


@pytest.fixture
def serve():
    made = []

    def make(*connections):
        made.append(Server(*connections))
        return made[-1]

    yield make
    for server in made:
        server.close()


@pytest.fixture
def connect(serve, tmp_path):  # after `serve`, so that clients close first
    made = []

    def make(url, **settings):
        values = {f"APPLIANCE_{name.upper()}": value for name, value in settings.items()}
        config = configuration.load(
            {"APPLIANCE_DATA": str(tmp_path), "APPLIANCE_URL": url, **values}
        )
        made.append(Client(config))
        return made[-1]

    yield make
    for client in made:
        client.close()


def test_one_connection_serves_many_requests(serve, connect):
    server = serve([answer(200), answer(200)])
    client = connect(server.url)
    assert [client.request("GET", "/a").status for _ in range(2)] == [200, 200]


def test_a_connection_that_was_closed_meanwhile_is_opened_again(serve, connect):
    server = serve([answer(200)], [answer(200)])
    client = connect(server.url)
    client.request("GET", "/a")
    time.sleep(0.05)
    assert client.request("GET", "/a").status == 200


def test_a_503_is_tried_again_after_the_time_it_names(serve, connect):
    server = serve([answer(503, Retry_After=1), answer(202)])
    started = time.monotonic()
    assert connect(server.url).request("POST", "/a", b"x", patience=10).status == 202
    assert 1 <= time.monotonic() - started < 3


def test_a_retry_sends_the_same_again(serve, connect):
    server = serve([answer(503), answer(202)])
    headers = {"Idempotency-Key": "k"}
    connect(server.url).request("POST", "/a", b"body", headers, patience=10)
    assert server.requests[0] == server.requests[1]
    assert b"Idempotency-Key: k" in server.requests[0]


def test_a_503_that_stays_is_an_error_in_its_own_words_within_the_time(serve, connect):
    server = serve([answer(503, b'{"detail": "the broker is away"}')] * 50)
    started = time.monotonic()
    with pytest.raises(ClientError, match="the broker is away"):
        connect(server.url).request("GET", "/a", patience=0.3)
    assert time.monotonic() - started < 2


def test_an_answer_that_breaks_off_is_tried_again(serve, connect):
    server = serve([answer(200)[:20]], [answer(200)])
    assert connect(server.url).request("GET", "/a", patience=10).status == 200


def test_an_address_where_nothing_answers_is_an_error_that_names_it(connect):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(ClientError, match=f"^nothing answers at http://127.0.0.1:{port} "):
        connect(f"http://127.0.0.1:{port}").request("GET", "/a")


def test_a_refusal_is_not_tried_again(serve, connect):
    server = serve([answer(400, b'{"detail": "bad line"}')])
    with pytest.raises(InputError, match="bad line"):
        connect(server.url).request("POST", "/a", b"x", patience=10)
    assert len(server.requests) == 1


def test_a_wrong_token_says_what_to_do(serve, connect):
    server = serve([answer(401)])
    with pytest.raises(TokenRefusedError, match="refused the token; set APPLIANCE_TOKEN"):
        connect(server.url, token="wrong-token-of-any-length").request("GET", "/a")


def test_something_else_at_the_address_is_an_error(serve, connect):
    server = serve([answer(200, b"<html>")], [answer(302, Location="/login")], [b"SSH-2.0\r\n\r\n"])
    client = connect(server.url)
    with pytest.raises(ClientError, match="not from the appliance"):
        client.request("GET", "/a").json()
    for _ in range(2):
        client.close()
        with pytest.raises(ClientError):
            client.request("GET", "/a")


def test_a_path_in_the_address_is_kept(serve, connect):
    server = serve([answer(200)])
    connect(server.url + "/inbox/").request("GET", "/v1/topics")
    assert server.requests[0].startswith(b"GET /inbox/v1/topics ")


def test_the_setting_is_the_token(connect):
    assert (
        connect("http://example.org", token="given-token-of-a-test-01").token
        == "given-token-of-a-test-01"
    )


def test_the_file_is_the_token_on_this_machine_only(connect, tmp_path):
    (tmp_path / "token").write_text("from-the-file-of-a-test\n")
    assert connect("").token == "from-the-file-of-a-test"
    assert connect("http://localhost:8080").token == "from-the-file-of-a-test"
    assert connect("http://example.org").token is None


def test_no_token_is_made_by_a_client(connect, tmp_path):
    assert connect("").token is None
    assert not (tmp_path / "token").exists()


def test_the_token_goes_with_every_request(serve, connect):
    server = serve([answer(200)])
    connect(server.url, token="given-token-of-a-test-01").request("GET", "/a")
    assert b"Authorization: Bearer given-token-of-a-test-01" in server.requests[0]


def test_a_missing_token_is_told_from_a_wrong_one(serve, connect):
    server = serve([answer(401)])
    with pytest.raises(TokenRefusedError, match="needs a token"):
        connect(server.url).request("GET", "/a")


def refused_url():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"127.0.0.1:{taken.getsockname()[1]}"


def test_the_next_step_is_named_where_nothing_answers(connect):
    words = f"^nothing answers at http://{(url := refused_url())} \\(APPLIANCE_URL\\). Is the app"
    with pytest.raises(ClientError, match=words):
        connect(url).request("GET", "/a")
    words = f"^nothing answers at http://{url} \\(APPLIANCE_HTTP\\). Is it running\\? `make run` "
    with pytest.raises(ClientError, match=words) as caught:
        connect("", http=url).request("GET", "/a")
    assert "Errno" not in str(caught.value)


@pytest.fixture
def noted(tmp_path):
    """The address that an `appliance run` notes, and the lock that it holds."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "address").write_text("http://127.0.0.1:18680\n")
    with locks.held(tmp_path / "lock"):
        yield


@pytest.mark.usefixtures("noted")
def test_the_appliance_that_runs_on_the_same_data_is_found(connect):
    assert connect("").url == "http://127.0.0.1:18680"
    assert connect("", http="127.0.0.1:1").url == "http://127.0.0.1:1"
    assert connect("http://elsewhere").url == "http://elsewhere"


def test_the_address_of_a_run_that_was_killed_is_not_believed(connect, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "address").write_text("http://127.0.0.1:18680\n")
    (tmp_path / "lock").touch()
    assert connect("").url == "http://127.0.0.1:8080"
