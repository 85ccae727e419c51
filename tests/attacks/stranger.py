"""A stranger who attacks the API: `python stranger.py HOST PORT SECONDS NAME`.

A process of its own, so that it takes no time from the client whose answers are timed. It has no
token, is bounded in time and bytes, sends to the loopback only, and prints how much it sent.
"""

import contextlib
import resource
import socket
import ssl
import sys
import time
from collections.abc import Callable
from typing import Final

#: Bytes that an attack sends at most.
MOST_BYTES: Final = 256 * 2**20
#: Seconds between two pieces of an attack, so that it lasts.
PAUSE: Final = 0.002
#: Connections that one attack opens at once.
CONNECTIONS: Final = 4000

CHUNKED: Final = b"POST %b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
TRAILERS: Final = b"a:b\r\n" * 3000
HEALTH: Final = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
REFUSED: Final = b"GET /v1/topics HTTP/1.1\r\nHost: x\r\n\r\n"
WRONG: Final = b"GET /v1/topics HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer wrong-%06d\r\n\r\n"

#: Name -> what is sent first on a connection, and then for ever.
ENDLESS: Final = {
    "trailers at an open address": (CHUNKED % b"/healthz" + b"0\r\n", TRAILERS),
    "trailers where a token is needed": (CHUNKED % b"/v1/topics/x/messages" + b"0\r\n", TRAILERS),
    "one trailer's value": (CHUNKED % b"/healthz" + b"0\r\na: ", b"b" * 65536),
    "one trailer's name": (CHUNKED % b"/healthz" + b"0\r\n", b"b" * 65536),
    "one chunk's extension": (CHUNKED % b"/healthz" + b"1;", b"b" * 65536),
    "one chunk's size": (CHUNKED % b"/healthz", b"0" * 65536),
    "bad chunks": (b"", CHUNKED % b"/healthz" + b"zz\r\n"),
    "one header's value": (b"GET / HTTP/1.1\r\na: ", b"b" * 65536),
    "one header's name": (b"GET / HTTP/1.1\r\n", b"b" * 65536),
    "one address": (b"GET /", b"b" * 65536),
    "one method": (b"", b"B" * 65536),
    "headers": (b"GET / HTTP/1.1\r\n", b"a:b\r\n" * 3000),
    "empty lines": (b"", b"\r\n" * 30_000),
    "pipelined health checks": (b"", HEALTH * 1500),
    "pipelined refusals": (b"", REFUSED * 1500),
    "pipelined heads of tiny headers": (
        b"",
        (b"GET /v1/topics HTTP/1.1\r\n" + b"a:b\r\n" * 127 + b"\r\n") * 100,
    ),
    "pipelined pages": (b"", b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 1500),
    "pipelined upgrades": (
        b"",
        b"GET /healthz HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n" * 1000,
    ),
    "wrong tokens": (b"", b"".join(WRONG % number for number in range(1000))),
    "a body behind a refusal": (
        b"POST /v1/topics/x/messages HTTP/1.1\r\nContent-Length: 9999999999\r\n\r\n",
        b"b" * 65536,
    ),
    "a body at an open address": (
        b"GET /healthz HTTP/1.1\r\nContent-Length: 9999999999\r\n\r\n",
        b"b" * 65536,
    ),
}

#: Name -> what each of thousands of connections sends once, and keeps open.
KEPT: Final = {
    "connections that say nothing": b"",
    "connections with half a head": b"GET / HTTP/1.1\r\na: " + b"b" * 30_000,
    "connections with half a body": (
        b"GET /healthz HTTP/1.1\r\nContent-Length: 65536\r\n\r\n" + b"b" * 60_000
    ),
    "connections with half a chunk": (
        CHUNKED % b"/v1/topics/x/messages" + b"ffff\r\n" + b"b" * 60_000
    ),
    "connections that read no answer": HEALTH * 1500,
    "connections that read no page": b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 100,
}

#: Name -> what each of a hundred connections sends again and again, answered or not.
BUSY: Final = {
    "many at once: health checks": HEALTH * 50,
    "many at once: refusals": REFUSED * 50,
    "many at once: readiness": b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n" * 50,
    "many at once: the page": b"GET / HTTP/1.1\r\nHost: x\r\nAccept: text/html\r\n\r\n" * 50,
    "many at once: wrong tokens": b"".join(WRONG % number for number in range(50)),
}

#: Name -> whether a new connection is reset instead of closed.
CHURNING: Final = {"connections that come and go": False, "connections that are reset": True}

PLAIN_NAMES: Final = [*ENDLESS, *KEPT, *BUSY, *CHURNING]

Dial = Callable[[], socket.socket]


def whole_handshake(link: socket.socket) -> socket.socket:
    """Speak TLS as a client does, and ask something."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    encrypted = context.wrap_socket(link)
    encrypted.sendall(HEALTH)
    return encrypted


#: Name -> what each connection to an API that speaks TLS begins with, and then stays.
TLS: Final[dict[str, bytes | Callable[[socket.socket], socket.socket]]] = {
    "silent before TLS": b"",
    "half a hello of TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "no TLS at all": HEALTH,
    "whole handshakes of TLS": whole_handshake,
}


def endless(dial: Dial, until: float, first: bytes, more: bytes) -> int:
    """Send without reading, again on a new connection whenever one is closed."""
    count = 0
    while time.monotonic() < until and count < MOST_BYTES:
        with contextlib.suppress(OSError), dial() as link:
            link.settimeout(1.0)
            link.sendall(first)
            while time.monotonic() < until and count < MOST_BYTES:
                link.sendall(more)
                count += len(more)
                time.sleep(PAUSE)
    return count


def kept(dial: Dial, until: float, data: bytes) -> int:
    """Open connections that leave something unfinished, again where they are closed."""
    count = 0
    links: list[socket.socket] = []
    while time.monotonic() < until:
        if len(links) >= CONNECTIONS:
            links.pop(0).close()
        with contextlib.suppress(OSError):
            link = dial()
            links.append(link)
            link.setblocking(False)
            count += 1
            if count * len(data) < MOST_BYTES and data:
                count += link.send(data)
    return count


def busy(dial: Dial, until: float, data: bytes) -> int:
    """Send on a hundred connections in turn, and read what comes."""
    count = 0
    links: dict[int, socket.socket] = {}
    while time.monotonic() < until and count < MOST_BYTES:
        for place in range(100):
            try:
                link = links.get(place)
                if link is None:
                    link = links[place] = dial()
                    link.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    while not time.monotonic() > until and link.recv(2**18):
                        pass
                with contextlib.suppress(BlockingIOError):
                    count += link.send(data)
            except OSError:
                links.pop(place).close()
        time.sleep(PAUSE)
    return count


def churning(dial: Dial, until: float, *, is_reset: bool) -> int:
    """Open connections and close them at once."""
    count = 0
    while time.monotonic() < until:
        with contextlib.suppress(OSError), dial() as link:
            if is_reset:
                link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            count += 1
    return count


def encrypted(
    dial: Dial, until: float, begin: bytes | Callable[[socket.socket], socket.socket]
) -> int:
    """Open connections to an API that speaks TLS, again where there are thousands."""
    count = 0
    links: list[socket.socket] = []
    while time.monotonic() < until:
        if len(links) >= CONNECTIONS:
            links.pop(0).close()
        with contextlib.suppress(OSError):
            link = dial()
            links.append(link)
            count += 1
            if isinstance(begin, bytes):
                link.sendall(begin)
            else:
                links[-1] = begin(link)
    return count


def main(host: str, port: str, seconds: str, name: str) -> int:
    """Attack; return how much was sent, or how many connections were made."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    until = time.monotonic() + float(seconds)

    def dial() -> socket.socket:
        return socket.create_connection((host, int(port)), 2)

    if name in ENDLESS:
        return endless(dial, until, *ENDLESS[name])
    if name in KEPT:
        return kept(dial, until, KEPT[name])
    if name in BUSY:
        return busy(dial, until, BUSY[name])
    if name in TLS:
        return encrypted(dial, until, TLS[name])
    return churning(dial, until, is_reset=CHURNING[name])


if __name__ == "__main__":
    print(main(*sys.argv[1:]))  # for the test that started it
