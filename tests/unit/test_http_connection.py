"""A connection: real sockets, a real event loop, and a handler that echoes bodies."""

import asyncio
import contextlib
import resource
import socket
import threading
import time

import pytest
import uvloop

from appliance.api.http import acceptor, connection, problems
from appliance.api.http.acceptor import Acceptor, Budget, listen
from appliance.api.http.proxies import Proxies
from appliance.api.http.request import Admission
from appliance.auth.principal import ADMINISTRATOR, ANONYMOUS
from appliance.config import Address
from appliance.config.parsers import networks
from appliance.errors import BodyError, OccupiedError

LIMIT = 1000
#: Bytes of an answer that no socket's buffers take whole.
LARGE = 8_000_000


class Echo:
    """Answers a body with itself; the path says how."""

    body_seconds = 1.0

    def __init__(self):
        self.held = []
        self.seen = 0

    def handle(self, request, body):
        self.seen += 1
        path = request.head.path
        if path == "/hold":
            self.held.append(request)
        elif path == "/stream":
            request.task(self.stream(request, body))
        elif path == "/204/later":
            request.task(self.nothing(request))
        elif path == "/breaks":
            request.task(self.breaks(request))
        elif path == "/fault":
            raise RuntimeError("a fault")
        elif path == "/bad":
            raise BodyError("no good")
        elif path == "/open":
            request.respond(200, b"", b"x" * LARGE)
        elif path == "/who":
            answer = f"{request.client_address} {request.origin.url} {request.prefix}"
            request.respond(200, b"", answer.encode())
        elif path == "/204":
            request.respond(204, b"", b"never sent")
        else:
            request.respond(200, b"", body)

    async def stream(self, request, body):
        request.start(200, b"x: y\r\n")
        for byte in body:
            await request.send(bytes([byte]))
        request.finish()

    async def nothing(self, request):
        request.start(204, b"")
        request.finish()

    async def breaks(self, request):
        request.start(200, b"")
        await request.send(b"half")
        raise RuntimeError("a fault")


class Open:
    """Lets everybody in but for /no; /open is for anyone."""

    def __init__(self, handler):
        self.handler = handler
        self.holding = True

    def recall(self, _data):
        return None

    def learn(self, *_):
        pass

    def holds(self, _admission):
        return self.holding

    def admit(self, head, _client_of):
        if head.path == "/no":
            return problems.unauthorized()
        if head.path == "/open":
            return Admission(self.handler, ANONYMOUS, 0)
        if head.path == "/stranger":
            return Admission(self.handler, ANONYMOUS, LIMIT)
        most = LARGE if head.path == "/large" else LIMIT
        return Admission(self.handler, ADMINISTRATOR, most)


class Server:
    def __init__(self, proxies=None, certificate=None, *, shared=False):
        self.proxies = proxies or Proxies()
        self.certificate = certificate
        self.shared = shared
        self.listener = listen("APPLIANCE_HTTP", Address("127.0.0.1", 0), shared=shared)
        self.address = self.listener.getsockname()
        self.echo = Echo()
        self.ready = threading.Event()
        self.thread = threading.Thread(target=uvloop.run, args=(self.run(),))
        self.thread.start()
        assert self.ready.wait(20)

    async def run(self):
        self.loop, self.stopping = asyncio.get_running_loop(), asyncio.Event()
        self.acceptor = Acceptor(Open(self.echo), self.proxies, certificate=self.certificate)
        self.ready.set()
        await self.acceptor.serve(self.listener, self.stopping, 2.0, shared=self.shared)

    def call(self, function, *values):
        self.loop.call_soon_threadsafe(function, *values)

    def stop(self):
        with contextlib.suppress(RuntimeError):  # it has ended already
            self.call(self.stopping.set)
        self.thread.join(20)
        assert not self.thread.is_alive()

    def dial(self):
        link = socket.create_connection(self.address, 10)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return link

    def ask(self, data, *, half_close=False):
        """Send bytes; return all that comes until the connection is closed."""
        with self.dial() as link:
            link.sendall(data)
            if half_close:
                link.shutdown(socket.SHUT_WR)
            return rest(link)


@pytest.fixture
def server():
    one = Server()
    yield one
    one.stop()


def rest(link):
    return b"".join(iter(lambda: link.recv(65536), b""))


def request(path="/", body=b"", *more, method=b"POST"):
    lines = b"".join(line + b"\r\n" for line in more)
    return b"%b %b HTTP/1.1\r\n%bContent-Length: %d\r\n\r\n%b" % (
        method,
        path.encode(),
        lines,
        len(body),
        body,
    )


CLOSE = b"Connection: close"


def statuses(answers):
    return [int(part[:3]) for part in answers.split(b"HTTP/1.1 ")[1:]]


@pytest.mark.parametrize("path", ["/", "/hold", "/stream"])
def test_a_client_that_half_closes_gets_its_answer(server, path):
    timer = threading.Timer(
        0.3, lambda: server.call(lambda: server.echo.held[0].respond(200, b"", b"hello"))
    )
    if path == "/hold":
        timer.start()
    answer = server.ask(request(path, b"hello"), half_close=True)
    assert statuses(answer) == [200]
    assert answer.count(b"h") >= 1
    assert b"hello" in answer or path == "/stream"
    if path == "/hold":
        timer.join()


def test_requests_that_were_sent_before_a_half_close_are_all_answered(server):
    answers = server.ask(request("/", b"x") * 200, half_close=True)
    assert statuses(answers) == [200] * 200


def test_a_half_close_amid_a_body_ends_the_connection(server):
    assert server.ask(request("/", b"hello")[:-1], half_close=True) == b""
    assert server.echo.seen == 0


def test_a_request_is_read_only_when_the_one_before_it_is_answered(server):
    with server.dial() as link:
        link.sendall(request("/hold", b"1") + request("/", b"2", CLOSE))
        while not server.echo.held:
            time.sleep(0.01)
        time.sleep(0.1)
        assert server.echo.seen == 1
        server.call(server.echo.held[0].respond, 200, b"", b"1")
        assert rest(link).count(b"200 OK") == 2


def test_an_answer_of_unknown_length_comes_in_chunks(server):
    answer = server.ask(request("/stream", b"abc", CLOSE))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"transfer-encoding: chunked" in head
    assert body == b"1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n"


def test_an_answer_of_unknown_length_ends_with_the_connection_in_http_1_0(server):
    answer = server.ask(request("/stream", b"abc").replace(b"1.1", b"1.0"))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert body == b"abc"


def test_an_answer_that_breaks_off_does_not_look_complete(server):
    with server.dial() as link:
        link.sendall(request("/breaks"))
        data = b""
        with contextlib.suppress(ConnectionResetError):
            data = rest(link)
        assert not data.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize(("path", "status"), [("/fault", 500), ("/bad", 400), ("/no", 401)])
def test_a_refusal_without_a_body_to_read_keeps_the_connection(server, path, status):
    answers = server.ask(request(path) + request("/", b"x", CLOSE))
    assert statuses(answers) == [status, 200]


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (request("/no", b"hello"), 401),
        (request("/", b"x" * (LIMIT + 1)), 413),
        (request("/open", b"x"), 413),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
         + b"200\r\n%b\r\n" % (b"x" * 512) * 2 + b"0\r\n\r\n", 413),
        (b"GET / HTTP/1.1\r\nA: " + b"x" * 40_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"x" * 40_000, 431),
        (b"GET / HTTP/1.1\r\n" + b"a:b\r\n" * 129 + b"\r\n", 431),
        (b"\x16\x03\x01", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 400),
    ],
)  # fmt: skip
def test_a_refusal_ends_the_connection_where_the_next_request_is_not_known(server, data, status):
    answers = server.ask(data + request("/", b"never read"))
    assert statuses(answers) == [status]
    assert b"connection: close" in answers
    assert server.echo.seen == 0


def test_empty_lines_before_a_request_are_passed_over(server):
    assert statuses(server.ask(b"\r\n\r\n\n" + request("/", b"x", CLOSE))) == [200]


@pytest.mark.parametrize("path", ["/", "/204", "/stream", "/bad", "/no"])
def test_an_answer_to_head_has_no_body(server, path):
    answer = server.ask(b"HEAD %b HTTP/1.1\r\n%b\r\n\r\n" % (path.encode(), CLOSE))
    assert answer.endswith(b"\r\n\r\n")
    assert answer.count(b"\r\n\r\n") == 1


@pytest.mark.parametrize("path", ["/204", "/204/later"])
def test_an_answer_without_content_ends_with_its_head(server, path):
    """The next answer on the connection begins right behind it."""
    answers = server.ask(request(path, b"") + request("/", b"x", CLOSE))
    assert statuses(answers) == [204, 200]
    first, _, rest_of_it = answers.partition(b"\r\n\r\n")
    assert b"content-length" not in first
    assert b"transfer-encoding" not in first
    assert rest_of_it.startswith(b"HTTP/1.1 200 OK")


def test_a_client_that_waits_to_be_told_to_go_on_is_told(server):
    with server.dial() as link:
        link.sendall(
            b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1\r\n%b\r\n\r\n" % CLOSE
        )
        assert link.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        link.sendall(b"x")
        assert statuses(rest(link)) == [200]


def test_a_body_that_does_not_come_is_refused(server):
    answer = server.ask(b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhel")
    assert statuses(answer) == [408]


def test_a_head_that_does_not_come_closes_the_connection(server, monkeypatch):
    monkeypatch.setattr(connection, "_HEAD_SECONDS", 0.5)
    began = time.monotonic()
    assert server.ask(b"GET / HTTP/1.1\r\nA: ") == b""
    assert server.ask(b"\r\n") == b""
    assert server.ask(b"") == b""
    assert time.monotonic() - began < 8


def test_a_head_that_comes_byte_by_byte_has_a_deadline_too(server, monkeypatch):
    monkeypatch.setattr(connection, "_HEAD_SECONDS", 0.5)
    with server.dial() as link:
        began = time.monotonic()
        with contextlib.suppress(OSError):
            while time.monotonic() - began < 9:
                link.sendall(b"G")
                time.sleep(0.05)
        assert time.monotonic() - began < 5


def test_a_client_that_does_not_read_is_cut_off(server, monkeypatch):
    monkeypatch.setattr(connection, "_WRITE_SECONDS", 0.5)
    with server.dial() as link:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        link.settimeout(8)
        with contextlib.suppress(ConnectionError, TimeoutError):
            while True:
                link.sendall(request("/", b"x" * LIMIT) * 50)
        deadline = time.monotonic() + 8
        while server.acceptor.crowd and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not server.acceptor.crowd


def test_bytes_that_are_sent_ahead_are_held_within_a_bound(server):
    """The rest stays in the kernel, and so with the client."""
    with server.dial() as link:
        link.settimeout(0.5)
        link.sendall(request("/hold"))
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < 100_000_000:
                sent += link.send(request("/", b"x" * 100) * 500)
        assert sent < 100_000_000
        assert 0 < server.acceptor.clients.held < 600_000
        link.settimeout(20)
        server.call(server.echo.held[0].respond, 200, b"", b"")
        one = len(request("/", b"x" * 100))
        link.sendall(request("/", b"x" * 100)[sent % one :] if sent % one else b"")
        link.shutdown(socket.SHUT_WR)
        assert rest(link).count(b"HTTP/1.1 200 OK") == -(-sent // one) + 1
        assert server.acceptor.clients.held == 0


def test_a_strangers_body_that_comes_later_is_read_on_a_connection_that_was_used(server):
    with server.dial() as link:
        for _ in range(3):
            head_bytes, _, body = request("/stranger", b"hello").partition(b"\r\n\r\n")
            link.sendall(head_bytes + b"\r\n\r\n")
            time.sleep(0.05)
            link.sendall(body)
            answer = b""
            while b"hello" not in answer.partition(b"\r\n\r\n")[2]:
                piece = link.recv(65536)
                assert piece, answer
                answer += piece
            assert answer.startswith(b"HTTP/1.1 200 ")


def test_a_large_body_is_read_on_a_connection_that_asked_as_a_stranger_before(server):
    with server.dial() as link:
        link.sendall(request("/open", method=b"HEAD"))
        while b"\r\n\r\n" not in link.recv(65536):
            pass
        body = b"x" * 4_000_000
        link.sendall(request("/large", body, CLOSE))
        assert rest(link).endswith(b"\r\n\r\n" + body)
    assert server.acceptor.clients.held == 0


def test_bodies_that_are_coming_are_within_the_budget(server):
    server.echo.body_seconds = 30.0
    server.acceptor.clients = Budget(2_500_000)
    with contextlib.ExitStack() as links:
        begun = [links.enter_context(server.dial()) for _ in range(4)]
        for link in begun:
            link.sendall(request("/large", b"x" * 1_000_000)[:-1])
            is_answered(link)  # all of it was read
        refused = [link for link in begun if is_answered(link)]
        assert refused == begun[2:]
        assert all(statuses(rest(link)) == [503] for link in refused)
        assert server.acceptor.clients.held <= 2_500_000
        for link in set(begun) - set(refused):
            link.sendall(b"x")
            assert statuses(link.recv(1000)) == [200]
    deadline = time.monotonic() + 5
    while server.acceptor.clients.held and time.monotonic() < deadline:
        time.sleep(0.02)
    assert server.acceptor.clients.held == 0


def test_many_requests_sent_ahead_leave_the_loop_to_others(server):
    flood = request("/no") * 20_000
    with server.dial() as link:
        sender = threading.Thread(target=lambda: [link.sendall(flood) for _ in range(2)])
        reader = threading.Thread(target=lambda: rest(link))
        sender.start()
        reader.start()
        took = []
        for _ in range(30):
            began = time.monotonic()
            assert statuses(server.ask(request("/", b"x", CLOSE))) == [200]
            took.append(time.monotonic() - began)
        sender.join()
        link.shutdown(socket.SHUT_WR)
        reader.join()
    assert sorted(took)[15] < 0.25


def test_all_connections_together_hold_no_more_than_their_budget(server, monkeypatch):
    """Heads of strangers that never end: some are refused, and the place is given back."""
    server.acceptor.strangers = Budget(100_000)
    half = b"GET / HTTP/1.1\r\nA: " + b"x" * 30_000
    with contextlib.ExitStack() as links:
        begun = [links.enter_context(server.dial()) for _ in range(6)]
        for link in begun:
            link.sendall(half)
        refused = [link for link in begun if is_answered(link)]
        assert len(refused) == 3
        assert all(statuses(rest(link)) == [503] for link in refused)
        assert statuses(server.ask(request("/", b"x", CLOSE))) == [200]
    deadline = time.monotonic() + 5
    while server.acceptor.strangers.held and time.monotonic() < deadline:
        time.sleep(0.02)
    assert server.acceptor.strangers.held == 0


def test_answers_that_strangers_do_not_read_are_within_their_budget(server):
    server.acceptor.strangers = Budget(2 * LARGE)
    # Connections take it from their listener. The kernel holds little of an answer then, and not
    # half of it, as it sometimes did.
    server.listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    with contextlib.ExitStack() as links:
        begun = [links.enter_context(server.dial()) for _ in range(6)]
        for link in begun:
            link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            link.sendall(request("/open"))
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            is_small = server.acceptor.strangers.held <= 2 * LARGE
            if server.echo.seen == 6 and len(server.acceptor.crowd) <= 3 and is_small:
                break
            time.sleep(0.02)
        assert server.echo.seen == 6
        assert len(server.acceptor.crowd) <= 3
        assert 0 < server.acceptor.strangers.held <= 2 * LARGE
    deadline = time.monotonic() + 5
    while server.acceptor.strangers.held and time.monotonic() < deadline:
        time.sleep(0.02)
    assert server.acceptor.strangers.held == 0


def is_answered(link):
    link.settimeout(0.5)
    try:
        return bool(link.recv(1, socket.MSG_PEEK))
    except TimeoutError:
        return False
    finally:
        link.settimeout(10)


def greeted(links, server, count):
    """Return connections on each of which a request was answered to an authorized client."""
    made = [links.enter_context(server.dial()) for _ in range(count)]
    for link in made:
        link.sendall(request("/", b"x"))
        assert statuses(link.recv(1000)) == [200]
    return made


def test_one_connection_too_many_ends_the_oldest_strangers(server):
    server.acceptor.crowd.most = 4
    with contextlib.ExitStack() as links:
        clients = greeted(links, server, 2)
        silent, begun = (links.enter_context(server.dial()) for _ in range(2))
        begun.sendall(b"GET / HTTP/1.1\r\n")
        time.sleep(0.1)
        for stranger in (silent, begun):
            assert statuses(server.ask(request("/", b"x", CLOSE))) == [200]
            with contextlib.suppress(ConnectionResetError):
                assert rest(stranger) == b""
            links.enter_context(server.dial())  # in the place of the one that was answered
            time.sleep(0.1)
        for link in clients:
            link.sendall(request("/", b"x"))
            assert statuses(link.recv(1000)) == [200]


def test_one_connection_too_many_ends_an_idle_one_where_all_are_authorized(server):
    server.acceptor.crowd.most = 2
    with contextlib.ExitStack() as links:
        busy, idle = greeted(links, server, 2)
        busy.sendall(request("/hold", b"x"))
        while not server.echo.held:
            time.sleep(0.01)
        assert statuses(server.ask(request("/", b"x", CLOSE))) == [200]
        assert rest(idle) == b""
        server.call(server.echo.held[0].respond, 200, b"", b"")
        assert statuses(busy.recv(1000)) == [200]


def test_one_connection_too_many_is_refused_with_words_where_all_are_busy(server):
    server.acceptor.crowd.most = 2
    with contextlib.ExitStack() as links:
        for link in greeted(links, server, 2):
            link.sendall(request("/hold", b"x"))
        while len(server.echo.held) < 2:
            time.sleep(0.01)
        answer = server.ask(b"")
        assert statuses(answer) == [503]
        assert b"retry-after: 1" in answer
        for held in server.echo.held:
            server.call(held.respond, 200, b"", b"")
    deadline = time.monotonic() + 5
    while server.acceptor.crowd and time.monotonic() < deadline:
        time.sleep(0.02)
    assert statuses(server.ask(request("/", b"x", CLOSE))) == [200]


def test_connections_beyond_those_that_are_refused_are_closed_at_once(server):
    server.acceptor.crowd.most = 1
    with contextlib.ExitStack() as links:
        (busy,) = greeted(links, server, 1)
        busy.sendall(request("/hold", b"x"))
        while not server.echo.held:
            time.sleep(0.01)
        more = [links.enter_context(server.dial()) for _ in range(100)]
        time.sleep(0.3)
        assert len(server.acceptor.crowd) <= 65
        answered = 0
        for link in more:
            with contextlib.suppress(ConnectionResetError):
                answered += statuses(link.recv(1000)) == [503]
        assert 60 <= answered <= 100
        server.call(server.echo.held[0].respond, 200, b"", b"")
        assert statuses(busy.recv(1000)) == [200]


def test_connections_are_as_many_as_there_are_files(monkeypatch):
    for soft, hard, wanted in [
        (1024, 1024, 768),
        (100, 100, 16),
        (1024, 10**6, acceptor.MAX_CONNECTIONS),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, acceptor.MAX_CONNECTIONS),
    ]:
        monkeypatch.setattr(resource, "getrlimit", lambda _, pair=(soft, hard): pair)
        monkeypatch.setattr(resource, "setrlimit", lambda *_: None)
        assert acceptor.allow_files() == wanted


def test_a_stop_answers_the_requests_under_way_and_closes_the_others(server):
    with server.dial() as busy, server.dial() as idle:
        idle.sendall(request("/", b"x"))
        assert statuses(idle.recv(1000)) == [200]
        busy.sendall(request("/hold", b"x"))
        while not server.echo.held:
            time.sleep(0.01)
        server.call(server.stopping.set)
        assert idle.recv(1) == b""
        server.call(server.echo.held[0].respond, 202, b"", b"done")
        answer = rest(busy)
        assert statuses(answer) == [202]
        assert b"connection: close" in answer
    server.thread.join(20)
    assert not server.thread.is_alive()


def test_a_stop_does_not_wait_for_ever(server):
    with server.dial() as link:
        link.sendall(request("/hold", b"x"))
        while not server.echo.held:
            time.sleep(0.01)
        server.call(server.stopping.set)
        server.thread.join(20)
        assert not server.thread.is_alive()
        with contextlib.suppress(ConnectionResetError):
            assert link.recv(1) == b""


@pytest.fixture
def sharing():
    """A server that shares its address."""
    one = Server(shared=True)
    yield one
    one.stop()


def test_a_process_that_shares_its_address_answers_each_connection_once_more(sharing):
    with sharing.dial() as used, sharing.dial() as fresh, sharing.dial() as silent:
        used.sendall(request("/", b"first"))
        assert b"first" in used.recv(65536)
        sharing.call(sharing.stopping.set)
        time.sleep(0.1)
        for link in (used, fresh):
            link.sendall(request("/", b"once more"))
            answer = rest(link)
            assert statuses(answer) == [200]
            assert b"connection: close" in answer.lower()
            assert b"once more" in answer
        assert rest(silent) == b""
        sharing.thread.join(20)
        assert not sharing.thread.is_alive()


def test_connections_that_the_kernel_has_queued_at_a_stop_are_answered(sharing):
    sharing.call(time.sleep, 0.5)  # nothing is accepted meanwhile
    sharing.call(sharing.stopping.set)
    links = [sharing.dial() for _ in range(20)]
    for link in links:
        link.sendall(request("/", b"queued"))
    for link in links:
        with link:
            assert statuses(rest(link)) == [200]


def test_connections_made_during_a_stop_go_to_another_process(sharing):
    with listen("APPLIANCE_HTTP", Address(*sharing.address), shared=True) as other:
        other.settimeout(10)
        sharing.call(sharing.stopping.set)
        time.sleep(0.05)
        assert sharing.thread.is_alive()
        for _ in range(8):  # an attempt that meets the old one is made again after a second
            with sharing.dial():
                other.accept()[0].close()


def test_an_address_is_shared_only_by_those_who_both_say_so():
    with listen("APPLIANCE_HTTP", Address("127.0.0.1", 0), shared=True) as listener:
        address = Address(*listener.getsockname())
        with listen("APPLIANCE_HTTP", address, shared=True):
            pass
        with pytest.raises(OccupiedError):
            listen("APPLIANCE_HTTP", address)


def test_an_address_of_all_families_is_listened_on_by_both():
    with listen("APPLIANCE_HTTP", Address("::", 0)) as listener:
        port = listener.getsockname()[1]
        for host in ("127.0.0.1", "::1"):
            with socket.create_connection((host, port), 5):
                pass


def test_an_address_that_is_taken_is_named_with_its_setting():
    with listen("APPLIANCE_HTTP", Address("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        words = f"^APPLIANCE_HTTP: can't listen on 127.0.0.1:{port}"
        with pytest.raises(OccupiedError, match=words):
            listen("APPLIANCE_HTTP", Address("127.0.0.1", port))


def test_a_client_is_the_one_behind_a_trusted_proxy_and_else_the_other_side():
    said = b"X-Forwarded-For: 9.9.9.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Prefix: /i\r\n"
    data = b"GET /who HTTP/1.0\r\nHost: a.example\r\n%b\r\n" % said
    for trusted, answer in [
        ((), b"127.0.0.1 http://a.example "),
        (networks("10.0.0.0/8"), b"127.0.0.1 http://a.example "),
        (networks("127.0.0.0/8"), b"9.9.9.9 https://a.example/i /i"),
    ]:
        server = Server(Proxies(trusted))
        try:
            assert server.ask(data).partition(b"\r\n\r\n")[2] == answer
        finally:
            server.stop()
