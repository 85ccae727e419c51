"""Receivers of deliveries: real HTTP servers that keep a journal and answer as a test wants.

Each entry of the journal is written before its answer is sent. So what an endpoint was told to have
delivered is in the journal, whatever is killed.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple


class Received(NamedTuple):
    """One request: its path, its headers (names in lower case), its body."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def topic(self) -> str:
        return self.headers["appliance-topic"]


class Reply(NamedTuple):
    """An answer; where `raw` is given, its bytes are sent instead and the connection ends."""

    status: int = 204
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    raw: bytes | None = None


Answering = Callable[[Received], Reply]


class Receiver:
    """A server on the loopback; `answering` can be changed while it runs."""

    def __init__(self, answering: Answering, address: str = "127.0.0.1", port: int = 0) -> None:
        self.answering = answering
        self.journal: list[Received] = []
        self.connections: list[str] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                super().setup()
                receiver.connections.append(self.client_address[0])

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                got = Received(self.path, headers, body)
                receiver.journal.append(got)
                reply = receiver.answering(got)
                if reply.raw is not None:
                    self.close_connection = True
                    self.wfile.write(reply.raw)
                    return
                self.send_response(reply.status)
                for name, value in reply.headers:
                    self.send_header(name, value)
                if reply.status != 204:
                    self.send_header("Content-Length", str(len(reply.body)))
                self.end_headers()
                self.wfile.write(reply.body)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *_: object) -> None:
                pass  # a client that is killed

        self._server = Server((address, port), Handler)
        self.port = self._server.server_address[1]
        self.url = f"http://{address}:{self.port}/hook"

    @property
    def bodies(self) -> list[bytes]:
        return [each.body for each in self.journal]

    @property
    def ids(self) -> list[str]:
        return [each.id for each in self.journal]


@contextmanager
def receiving(
    answering: Answering = lambda _: Reply(), address: str = "127.0.0.1", port: int = 0
) -> Iterator[Receiver]:
    """Serve within the block."""
    receiver = Receiver(answering, address, port)
    thread = threading.Thread(target=receiver._server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield receiver
    finally:
        receiver._server.shutdown()
        thread.join()
        receiver._server.server_close()


def reset(_: Received) -> Reply:
    """An answer that is cut off within its head."""
    return Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Le")
