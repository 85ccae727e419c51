"""A receiver of deliveries that costs little, in a process of its own.

`python -m bench.receiver PORT` answers each POST with 204, and GET with the JSON of a `Count`: of
what came since the last POST to /reset. It reads requests as `appliance deliver` writes them.
"""

import asyncio
import http.client
import json
import sys
import time
from dataclasses import asdict, dataclass
from typing import Final

import uvloop

_TAKEN: Final = b"HTTP/1.1 204 No Content\r\n\r\n"
_ID: Final = b"\r\nwebhook-id: "
_LENGTH: Final = b"\r\ncontent-length: "


@dataclass
class Count:
    """Requests, how many messages they were, and when the first and the last came (Unix time)."""

    requests: int = 0
    messages: int = 0
    first: float = 0.0
    last: float = 0.0

    @property
    def rate(self) -> float:
        """Messages a second, from the first to the last."""
        spent = self.last - self.first
        return (self.messages - 1) / spent if spent > 0 else 0.0


class _State:
    def __init__(self) -> None:
        self.count = Count()
        self.ids: set[bytes] = set()


class _Receiving(asyncio.Protocol):
    def __init__(self, state: _State) -> None:
        self._state = state
        self._left = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._left += data
        while (end := self._left.find(b"\r\n\r\n")) >= 0:
            head = self._left[: end + 2]
            lower = head.lower()
            size = int(_value(lower, _LENGTH) or 0)
            if len(self._left) < end + 4 + size:
                return
            self._left = self._left[end + 4 + size :]
            self._transport.write(self._answer(head, lower))

    def _answer(self, head: bytes, lower: bytes) -> bytes:
        state = self._state
        if message := _value(lower, _ID):
            count, now = state.count, time.time()
            state.ids.add(message)
            count.requests += 1
            count.messages, count.first, count.last = len(state.ids), count.first or now, now
            return _TAKEN
        if head.startswith(b"POST /reset "):
            state.count, state.ids = Count(), set()
            return _TAKEN
        body = json.dumps(asdict(state.count)).encode()
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


def _value(head: bytes, name: bytes) -> bytes:
    """Return a header's value; `name` with the line's end before it and the colon behind it."""
    _, _, rest = head.partition(name)
    return rest.partition(b"\r\n")[0]


def ask(port: int, *, reset: bool = False) -> Count:
    """Ask a receiver what it got, or, with `reset`, have it begin at nothing."""
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        link.request(*(("POST", "/reset") if reset else ("GET", "/")))
        text = link.getresponse().read()
    finally:
        link.close()
    return Count(**json.loads(text)) if text else Count()


async def _run(port: int) -> None:
    state = _State()
    server = await asyncio.get_running_loop().create_server(
        lambda: _Receiving(state), "127.0.0.1", port
    )
    await server.serve_forever()


def main() -> None:
    """Receive until SIGTERM."""
    uvloop.run(_run(int(sys.argv[1])))


if __name__ == "__main__":
    main()
