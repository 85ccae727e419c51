"""Asks a broker which nodes keep a queue, in AMQP 1.0: the older AMQP has no word for it.

RabbitMQ 4 answers requests about its queues on the port that it takes messages on ("HTTP over
AMQP"). Only what one question and its answer need is written and read here. Older brokers end the
connection, and nothing is known then.
"""

import socket
import ssl
import struct
import time
from typing import Any, Final
from urllib.parse import quote

import pika

from appliance.broker.amqp_values import (
    NULL,
    binary,
    decode,
    described,
    mapped,
    number,
    symbol,
    text,
)
from appliance.errors import BrokerError

#: Seconds for the whole question.
_PATIENCE: Final = 5.0
#: Bytes of a frame that is read; an answer has some hundred.
_MOST: Final = 1 << 20
#: What each side begins with, for the login and for the rest.
_LOGIN: Final = b"AMQP\3\1\0\0"
_REST: Final = b"AMQP\0\1\0\0"
_MECHANISMS, _INIT, _OUTCOME = 0x40, 0x41, 0x44
_OPEN, _BEGIN, _ATTACH, _FLOW, _TRANSFER = range(0x10, 0x15)
_REFUSALS: Final = (0x16, 0x17, 0x18)  # the end of a link, of a session, of the connection
_SOURCE, _TARGET, _PROPERTIES, _VALUE = 0x28, 0x29, 0x73, 0x77
_TRUE, _FALSE = b"\x41", b"\x42"


def members(one: pika.connection.Parameters, queue: str) -> list[str] | None:
    """Return the names of the nodes that keep a queue; None where there is no such queue.

    Raises BrokerError where the broker does not tell.
    """
    try:
        with socket.create_connection((one.host, one.port), _PATIENCE) as plain:
            context = one.ssl_options and one.ssl_options.context
            if context is None:
                return _Question(plain).ask(one, queue)
            name = one.ssl_options.server_hostname or one.host
            with context.wrap_socket(plain, server_hostname=name) as link:
                return _Question(link).ask(one, queue)
    except (OSError, ssl.SSLError, ValueError, LookupError, TypeError, struct.error) as error:
        raise BrokerError(f"broker: it does not tell which nodes keep a queue: {error}") from error


class _Question:
    """A connection for one question."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._end = time.monotonic() + _PATIENCE

    def ask(self, one: pika.connection.Parameters, queue: str) -> list[str] | None:
        self._log_in(one.credentials.username, one.credentials.password)
        self._open(one.virtual_host)
        path = text(f"/queues/{quote(queue, safe='')}")
        question = described(_PROPERTIES, text("1"), NULL, path, text("GET"), text("$me"))
        question += b"\x00\x53" + bytes([_VALUE]) + NULL
        delivery = (number(0), number(0), binary(b"1"), number(0), _TRUE)
        self._send(_TRANSFER, *delivery, body=question)
        status, value = self._answer()
        if status == "404":
            return None
        if status != "200" or not isinstance(value, dict):
            raise ValueError(f"it answers {status or 'nothing'}")
        return sorted(map(str, value.get("replicas") or ()))

    def _log_in(self, user: str, password: str) -> None:
        self._link.sendall(_LOGIN)
        if self._read(8) != _LOGIN:
            raise ValueError("it does not speak AMQP 1.0")
        self._expect(_MECHANISMS)
        login = f"\0{user}\0{password}".encode()
        self._send(_INIT, symbol("PLAIN"), binary(login), login=True)
        if self._expect(_OUTCOME)[0][0] != 0:
            raise ValueError("it refuses the user")

    def _open(self, virtual_host: str) -> None:
        """Open a pair of links to the broker's management: one for questions, one for answers."""
        self._link.sendall(_REST)
        if self._read(8) != _REST:
            raise ValueError("it does not speak AMQP 1.0")
        self._send(_OPEN, text("queue-appliance"), text(f"vhost:{virtual_host}"))
        self._expect(_OPEN)
        self._send(_BEGIN, NULL, number(0), number(100), number(100))
        theirs = self._expect(_BEGIN)[0][1]  # the number of the next frame that they send
        ends = (described(_SOURCE, text("/management")), described(_TARGET, text("/management")))
        settled = (b"\x50\1", b"\x50\0")
        paired = mapped(symbol("paired") + _TRUE, 2)
        for handle, receives in enumerate((_FALSE, _TRUE)):
            self._send(
                _ATTACH, text("pair"), number(handle), receives, *settled, *ends,
                NULL, NULL, number(0), NULL, NULL, NULL, paired,
            )  # fmt: skip
            self._expect(_ATTACH)
        # We may send: it says so together with its answer to the first of the two.
        window = (number(theirs), number(100), number(0), number(100))
        self._send(_FLOW, *window, number(1), number(0), number(1), NULL, _FALSE, _FALSE)

    def _answer(self) -> tuple[str, Any]:
        """Return the status and the value of the answer."""
        _, answer = self._expect(_TRANSFER)
        status, value = "", None
        while answer:
            (section, content), answer = decode(answer)
            if section == _PROPERTIES:
                status = str(content[3])
            elif section == _VALUE:
                value = content
        return status, value

    def _send(self, kind: int, *fields: bytes, body: bytes = b"", login: bool = False) -> None:
        content = described(kind, *fields) + body
        self._link.sendall(struct.pack(">IBBH", 8 + len(content), 2, login, 0) + content)

    def _expect(self, wanted: int) -> tuple[Any, bytes]:
        """Return the next frame of this kind, and what follows its head."""
        while True:
            size, offset, _, _ = struct.unpack(">IBBH", self._read(8))
            if not 8 <= 4 * offset <= size <= _MOST:
                raise ValueError("its answer is no frame")
            frame = self._read(size - 8)[4 * offset - 8 :]
            if not frame:
                continue
            (kind, fields), rest = decode(frame)
            if kind == wanted:
                return fields, rest
            if kind in _REFUSALS:
                raise ValueError(f"it refuses: {fields}")

    def _read(self, count: int) -> bytes:
        found = b""
        while len(found) < count:
            self._link.settimeout(max(0.01, self._end - time.monotonic()))
            piece = self._link.recv(count - len(found))
            if not piece:
                raise ValueError("it ended the connection")
            found += piece
        return found
