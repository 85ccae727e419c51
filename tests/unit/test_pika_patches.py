"""The private parts of pika that are used: a pika that has moved one fails here."""

import asyncio
import inspect
import socket
import struct
from pathlib import Path

import pika
import pika.data
import pika.spec
import pytest
from pika.adapters.utils import io_services_utils
from pika.callback import CallbackManager
from pika.channel import Channel
from pika.connection import Connection as PikaConnection

from appliance.broker import pika_patches

MOVED = "pika has moved a part that appliance/broker/pika_patches.py uses: "


@pytest.mark.parametrize(
    ("user", "use"),
    [
        (io_services_utils._AsyncTransportBase, "_MAX_RECV_BYTES = "),
        (io_services_utils._AsyncTransportBase, ", self._MAX_RECV_BYTES)"),
        (PikaConnection, "def _output_marshaled_frames("),
        (PikaConnection, "self._channels[channel_number] = "),
        (Channel, "self._consumers: dict"),
        (Channel.close, "in list(self._consumers.keys())"),
        (Channel, "self._cancelled: set"),
        (Channel.close, "not in self._cancelled"),
        (PikaConnection, "def _terminate_stream("),
        (pika.data, "def decode_table("),
        (pika.spec, "data.decode_table("),
    ],
)
def test_each_private_part_is_there_and_in_use(user, use):
    assert use in inspect.getsource(user), f"{MOVED}{user.__name__} has no longer {use!r}"


def test_only_one_module_names_private_parts_of_pika():
    package = inspect.getfile(pika_patches).rpartition("/broker/")[0]
    names = ("_MAX_RECV_BYTES", "_output_marshaled_frames", "decode_table", "._cancelled")
    for path in sorted(Path(package).rglob("*.py")):
        if path.name != "pika_patches.py":
            assert not [name for name in names if name in path.read_text()], path


def test_pika_reads_in_large_pieces(monkeypatch):
    transport = io_services_utils._AsyncTransportBase
    monkeypatch.setattr(transport, "_MAX_RECV_BYTES", 4096)
    pika_patches.receive_more()
    assert transport._MAX_RECV_BYTES == 64 * 1024


def test_frames_are_joined_for_one_system_call_and_large_ones_sent_as_they_are():
    sent = []

    class Connection(pika_patches.FrameConnection):
        def __init__(self):
            pass

        def _output_marshaled_frames(self, frames):
            sent.append(frames)

    connection = Connection()
    connection.send_together([b"a", b"b", b"c"])
    large = [b"x" * 2**17, b"y"]
    connection.send_together(large)
    assert sent == [[b"abc"], large]


class Closing(pika_patches.FrameConnection):
    """A connection with an open channel that consumes; `close` closes the channels, as pika's."""

    def __init__(self):
        self.callbacks = CallbackManager()
        self.sent = []
        channel = Channel(self, 1, None)
        channel._set_state(Channel.OPEN)
        channel._consumers["tag"] = print
        self._channels = {1: channel}

    def close(self):
        self._channels[1].close()

    def _send_method(self, _, method, __=None):
        self.sent.append(type(method).__name__)


def test_a_close_in_order_cancels_no_consumer():
    connection = Closing()
    connection.close()
    assert connection.sent == ["Cancel", "Close"]  # pika's own close, which breaks the order
    connection = Closing()
    connection.close_in_order()
    assert connection.sent == ["Close"]


def test_a_connection_that_has_ended_can_be_left():
    """As where a node refuses the last attempt just when its process is told to stop."""

    async def body():
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            ended = asyncio.get_running_loop().create_future()
            parameters = pika.ConnectionParameters("127.0.0.1", nobody.getsockname()[1])
            connection = pika_patches.FrameConnection(
                parameters, on_open_error_callback=lambda *_: ended.set_result(None)
            )
            await ended
        assert connection.is_closed
        connection.leave()

    asyncio.run(body())


def table(*fields: bytes) -> bytes:
    content = b"".join(fields)
    return struct.pack(">I", len(content)) + content


def field(name: bytes, value: bytes) -> bytes:
    return bytes([len(name)]) + name + value


@pytest.mark.parametrize(
    "value",
    [b"T" + struct.pack(">Q", 2**63), b"?"],
    ids=["a time in milliseconds", "an unknown type"],
)
def test_a_table_that_pika_can_not_read_is_an_empty_one(monkeypatch, value):
    monkeypatch.setattr(pika.data, "decode_table", pika.data.decode_table)
    pika_patches.read_any_table()
    encoded = table(field(b"odd", value))
    rest = b"the next property"
    assert pika.data.decode_table(encoded + rest, 0) == ({}, len(encoded))
    sound = table(field(b"n", b"l" + struct.pack(">q", 7)))
    assert pika.data.decode_table(sound, 0) == ({"n": 7}, len(sound))
