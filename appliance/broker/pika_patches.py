"""The private parts of pika that are changed or called, all of them.

pika is pinned by the lock file. A test names each part used here, so that a new pika which has
moved one fails that test and not a broker's connection.
"""

import contextlib
from typing import Any, Final

import pika.data
import pika.exceptions
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.adapters.utils import io_services_utils
from pika.adapters.utils.connection_workflow import AMQPConnectionWorkflowAborted

#: Bytes that are joined for one system call.
_JOIN_BYTES: Final = 128 * 1024
#: Bytes that are read by one system call. Less than malloc would map and unmap each time.
_RECEIVE_BYTES: Final = 64 * 1024

_decode: Final[Any] = pika.data.decode_table
_Plaintext: Final[Any] = io_services_utils._AsyncPlaintextTransport  # noqa: SLF001


class FrameConnection(AsyncioConnection):  # type: ignore[misc]  # pika has no types
    """pika's connection, which sends at once, and many frames by one system call."""

    def send_together(self, frames: list[bytes]) -> None:
        """Send frames that are written already; large ones alone, without copying them."""
        if sum(map(len, frames)) <= _JOIN_BYTES:
            frames = [b"".join(frames)]
        self._output_marshaled_frames(frames)

    def _adapter_emit_data(self, data: bytes) -> None:
        """Send what the kernel takes now; pika's own way is for the rest, and for what fails.

        pika has the event loop watch the socket until it can be written, writes in another turn
        and ends the watch: five system calls for a few bytes that fit nearly always. An encrypted
        connection goes pika's way.
        """
        transport = self._transport
        if (
            type(transport) is _Plaintext
            and transport._state == _Plaintext._STATE_ACTIVE  # noqa: SLF001
            and not transport._tx_buffers  # noqa: SLF001
        ):
            with contextlib.suppress(OSError):  # pika meets it again, and ends the connection
                data = data[transport._sock.send(data) :]  # noqa: SLF001
            if not data:
                return
        transport.write(data)

    def close_in_order(self) -> None:
        """Close, and let the broker put unacknowledged messages back before anyone gets others.

        pika's own close cancels each consumer before its channel: the broker would at once make
        the next worker the active one, which would store later messages before those that come
        back from here.
        """
        for channel in self._channels.values():
            channel._cancelled.update(channel._consumers)  # noqa: SLF001
        self.close()

    def leave(self) -> None:
        """End the connection here, without a word to a broker that is silent.

        Nothing is left to be done of one that has ended meanwhile.
        """
        if not self.is_closed:
            self._terminate_stream(pika.exceptions.StreamLostError("the broker is silent"))

    def _on_connection_workflow_done(self, conn_or_exc: Any) -> None:
        """Tell pika that a handshake was given up, as it tells itself of all other ends.

        Of a connection that is closed amid its handshake pika passes the class of the error, takes
        it for a connection that is not this one, and raises AssertionError into the event loop.
        """
        if conn_or_exc is AMQPConnectionWorkflowAborted:
            conn_or_exc = AMQPConnectionWorkflowAborted()
        super()._on_connection_workflow_done(conn_or_exc)


def receive_more() -> None:
    """Let pika read much at a time: it reads 4 KiB, and copies what it has for each of them.

    It reads on until there is nothing more, which it is told by an exception. Where the connection
    is not encrypted, one read is enough: the event loop says it again if there is more.
    """
    transport: Any = io_services_utils._AsyncTransportBase  # noqa: SLF001
    transport._MAX_RECV_BYTES = _RECEIVE_BYTES  # noqa: SLF001
    _Plaintext._MAX_CONSUME_BYTES = 1  # noqa: SLF001


def read_any_table() -> None:
    """From now on, a table of headers that pika can't read is an empty one.

    Any AMQP client may publish to the exchange, and puts into its headers anything it likes: a
    time in milliseconds where AMQP has seconds, a double that is no number. pika raises on such a
    table, which ends the connection, and the same message comes again on the next one: no message
    would ever be stored any more. A header that nobody here reads is not worth that.
    """
    pika.data.decode_table = _decode_table


def _decode_table(encoded: bytes, offset: int) -> tuple[dict[str, Any], int]:
    try:
        table: tuple[dict[str, Any], int] = _decode(encoded, offset)
    except Exception:  # noqa: BLE001  # a client decides what is in it, and so what is raised
        return {}, offset + 4 + int.from_bytes(encoded[offset : offset + 4])
    return table
