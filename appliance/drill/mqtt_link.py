"""A client of the MQTT door: as much of MQTT 3.1.1 and 5 as one message at a time needs."""

import contextlib
import socket
from typing import Final

from appliance.config import Address
from appliance.errors import BrokerError

_CONNECT: Final = 0x10
_CONNACK: Final = 0x20
_PUBLISH_QOS_1: Final = 0x32
_DUP: Final = 0x08
_PUBACK: Final = 0x40
_DISCONNECT: Final = b"\xe0\x00"
_CLEAN_SESSION_WITH_LOGIN: Final = 0xC2
_KEEP_ALIVE_SECONDS: Final = 60
_USER_PROPERTY: Final = b"\x26"
#: Reason codes of MQTT 5 from here on are errors; that no queue took the message is one to us.
_FIRST_ERROR: Final = 0x80
_NO_SUBSCRIBERS: Final = 0x10
#: Bytes of a packet that a broker sends to a client without subscriptions.
_MOST_ANSWER: Final = 65_536


class MqttLink:
    """A connection that publishes with QoS 1. With `version` 5 a message can have a key."""

    def __init__(
        self, address: Address, user: str, password: str, *, version: int, timeout: float
    ) -> None:
        self._address = address
        self._user, self._password = user, password
        self._version = version
        self._timeout = timeout
        self._socket: socket.socket | None = None
        self._packet = 0
        self._last: tuple[str, bytes] | None = None

    def send(self, topic: str, body: bytes, key: str | None) -> None:
        """Publish, and wait for PUBACK.

        Raises BrokerError where it is refused, or OSError; `close` is the only thing to do then.
        """
        link = self._socket or self._connect()
        again, self._last = self._last == (topic, body), (topic, body)
        self._packet = self._packet % 0xFFFF + 1
        number = self._packet.to_bytes(2)
        properties = b""
        if self._version == 5:
            if key is not None:
                properties = _USER_PROPERTY + _text("idempotency-key") + _text(key)
            properties = _length(len(properties)) + properties
        first = _PUBLISH_QOS_1 | (_DUP if again else 0)
        link.sendall(_packet(first, _text(topic) + number + properties + body))
        while True:
            kind, answer = self._read(link)
            if kind == _PUBACK and answer[:2] == number:
                code = answer[2] if len(answer) > 2 else 0
                if code >= _FIRST_ERROR or code == _NO_SUBSCRIBERS:
                    raise BrokerError(f"MQTT: PUBACK with the reason code {code}")
                return

    def close(self) -> None:
        """Disconnect."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.sendall(_DISCONNECT)
            self._socket.close()
            self._socket = None

    def _connect(self) -> socket.socket:
        self._socket = link = socket.create_connection(self._address, self._timeout)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        head = _text("MQTT") + bytes([self._version, _CLEAN_SESSION_WITH_LOGIN])
        head += _KEEP_ALIVE_SECONDS.to_bytes(2) + (b"\0" if self._version == 5 else b"")
        # An empty client id: the broker makes one of its own, which nobody else can have.
        login = _text("") + _text(self._user) + _text(self._password)
        link.sendall(_packet(_CONNECT, head + login))
        kind, answer = self._read(link)
        if kind != _CONNACK or len(answer) < 2 or answer[1]:
            raise BrokerError(f"MQTT: the login was answered {kind:#x} {answer[:2].hex()}")
        return link

    def _read(self, link: socket.socket) -> tuple[int, bytes]:
        """Return the first byte of a packet, and what follows its length."""
        kind, length, shift = _exactly(link, 1)[0], 0, 0
        while True:
            byte = _exactly(link, 1)[0]
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
            if shift > 14:
                raise BrokerError("MQTT: the broker's packet is too long")
        if length > _MOST_ANSWER:
            raise BrokerError("MQTT: the broker's packet is too long")
        return kind, _exactly(link, length)


def _exactly(link: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        part = link.recv(count - len(found))
        if not part:
            raise ConnectionResetError("the broker closed the connection")
        found += part
    return found


def _text(value: str) -> bytes:
    raw = value.encode()
    return len(raw).to_bytes(2) + raw


def _packet(first: int, rest: bytes) -> bytes:
    return bytes([first]) + _length(len(rest)) + rest


def _length(count: int) -> bytes:
    """Return a length as MQTT writes it: seven bits a byte, the lowest first."""
    found = bytearray()
    while True:
        count, low = divmod(count, 0x80)
        found.append(low | (0x80 if count else 0))
        if not count:
            return bytes(found)
