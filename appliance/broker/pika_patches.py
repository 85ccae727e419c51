"""Let pika read headers that it can't.

Any AMQP client may publish to the exchange, and puts into its headers what it likes: a time in
milliseconds where AMQP has seconds, a double that is no number. pika raises on such a table, which
ends the connection, and the same message comes again on the next one: nothing would ever be stored
any more. A header that nobody here looks at is not worth that.
"""

from typing import Any, Final

import pika.data

_decode: Final[Any] = pika.data.decode_table


def read_any() -> None:
    """From now on, a table that can't be read is an empty one."""
    pika.data.decode_table = _decode_table


def _decode_table(encoded: bytes, offset: int) -> tuple[dict[str, Any], int]:
    try:
        table: tuple[dict[str, Any], int] = _decode(encoded, offset)
    except Exception:  # noqa: BLE001  # a client decides what is in it, and so what is raised
        return {}, offset + 4 + int.from_bytes(encoded[offset : offset + 4])
    return table
