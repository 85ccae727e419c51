"""The frames of a publish (AMQP 0-9-1), written at once.

pika writes a message by way of an object for each of its frames and properties. Our messages all
have the same properties, so only the values that differ are filled in. That is a tenth of the work,
which counts where few messages can share an envelope. A test has pika read the frames.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

_END: Final = b"\xce"
_HEAD: Final = struct.Struct(">BHL")  # type, channel, bytes that follow without the end
_METHOD, _HEADER, _BODY = 1, 2, 3
#: Class Basic, method Publish; a reserved number.
_PUBLISH: Final = struct.pack(">HHH", 60, 40, 0)
_MANDATORY: Final = b"\x01"
#: Class Basic, no weight, the body's bytes; which properties follow: headers, delivery_mode,
#: message_id, type and app_id, before them a content_type and before app_id a user_id, where there
#: is one.
_CONTENT: Final = struct.Struct(">HHQH")
_PROPERTIES: Final = 1 << 13 | 1 << 12 | 1 << 7 | 1 << 5 | 1 << 3
_CONTENT_TYPE: Final = 1 << 15
_USER_ID: Final = 1 << 4
_PERSISTENT: Final = b"\x02"
_LENGTH: Final = struct.Struct(">L")
_NUMBER: Final = struct.Struct(">q")

#: A value of a header: a text, a whole number, or several texts.
Field = str | int | Sequence[str]


def _short(text: str) -> bytes:
    data = text.encode()
    return bytes([len(data)]) + data


class FrameWriter:
    """Writes publishes to one exchange on one channel.

    `frame_max` is the largest frame in bytes, as the connection's two sides agreed. `user_id` is
    the user that signs; None: nobody does.
    """

    def __init__(
        self, channel: int, frame_max: int, exchange: str, app_id: str, user_id: str | None = None
    ) -> None:
        self._channel = channel
        self._most = frame_max - _HEAD.size - len(_END)
        self._method = _PUBLISH + _short(exchange)
        # Both are the same in every message, so they are written once.
        self._senders = _short(app_id)
        self._properties = _PROPERTIES
        if user_id is not None:
            self._senders = _short(user_id) + self._senders
            self._properties |= _USER_ID

    def frames(
        self,
        topic: str,
        kind: str,
        message_id: str,
        headers: Mapping[str, Field],
        body: bytes,
        content_type: str | None = None,
    ) -> Iterator[bytes]:
        """Yield the frames of one persistent, mandatory message; the small ones first, joined."""
        table = b"".join(map(_field, headers.items()))
        properties, media_type = self._properties, b""
        if content_type is not None:
            properties, media_type = properties | _CONTENT_TYPE, _short(content_type)
        yield (
            self._frame(_METHOD, self._method + _short(topic) + _MANDATORY)
            + self._frame(
                _HEADER,
                b"".join(
                    (
                        _CONTENT.pack(60, 0, len(body), properties),
                        media_type,
                        _LENGTH.pack(len(table)),
                        table,
                        _PERSISTENT,
                        _short(message_id),
                        _short(kind),
                        self._senders,
                    )
                ),
            )
        )
        for start in range(0, len(body), self._most):
            yield self._frame(_BODY, body[start : start + self._most])

    def _frame(self, kind: int, payload: bytes) -> bytes:
        return b"".join((_HEAD.pack(kind, self._channel, len(payload)), payload, _END))


def _field(item: tuple[str, Field]) -> bytes:
    """Write one field of a table: a long string, a whole number of 64 bits, or an array."""
    name, value = item
    if isinstance(value, str):
        return _short(name) + _long(value)
    if isinstance(value, int):
        return _short(name) + b"l" + _NUMBER.pack(value)
    data = b"".join(map(_long, value))
    return _short(name) + b"A" + _LENGTH.pack(len(data)) + data


def _long(text: str) -> bytes:
    """Write a long string, with the letter of its type."""
    data = text.encode()
    return b"S" + _LENGTH.pack(len(data)) + data
