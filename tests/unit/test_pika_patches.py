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
from pika.adapters.base_connection import BaseConnection
from pika.adapters.utils import io_services_utils
from pika.adapters.utils.connection_workflow import AMQPConnectionWorkflow
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
        (io_services_utils._AsyncTransportBase, "bytes_consumed < self._MAX_CONSUME_BYTES"),
        (io_services_utils._AsyncTransportBase, "_STATE_ACTIVE = "),
        (io_services_utils._AsyncTransportBase, "self._tx_buffers.append(data)"),
        (io_services_utils._AsyncTransportBase, "self._sock = sock"),
        (io_services_utils._AsyncPlaintextTransport, "tx_buffer_was_empty ="),
        (BaseConnection, "self._transport.write(data)"),
        (PikaConnection, "self._adapter_emit_data(marshaled_frame)"),
        (PikaConnection, "def _output_marshaled_frames("),
        (PikaConnection, "self._channels[channel_number] = "),
        (Channel, "self._consumers: dict"),
        (Channel.close, "in list(self._consumers.keys())"),
        (Channel, "self._cancelled: set"),
        (Channel.close, "not in self._cancelled"),
        (PikaConnection, "def _terminate_stream("),
        (BaseConnection, "def _on_connection_workflow_done("),
        (AMQPConnectionWorkflow, "error = AMQPConnectionWorkflowAborted\n"),
        (pika.data, "def decode_table("),
        (pika.spec, "data.decode_table("),
    ],
)
def test_each_private_part_is_there_and_in_use(user, use):
    assert use in inspect.getsource(user), f"{MOVED}{user.__name__} has no longer {use!r}"


def test_only_one_module_names_private_parts_of_pika():
    package = inspect.getfile(pika_patches).rpartition("/broker/")[0]
    names = (
        "_MAX_RECV_BYTES", "_MAX_CONSUME_BYTES", "_tx_buffers", "_adapter_emit_data",
        "_output_marshaled_frames", "decode_table", "._cancelled", "_on_connection_workflow_done",
    )  # fmt: skip
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


class Watches:
    """Of an event loop: what it watches a socket for."""

    def __init__(self):
        self.readable = self.writable = None

    def set_reader(self, _, call):
        self.readable = call

    def set_writer(self, _, call):
        self.writable = call

    def remove_writer(self, _):
        self.writable = None

    def remove_reader(self, _):
        self.readable = None

    def add_callback_threadsafe(self, call):
        self.ending = call


class Sending(pika_patches.FrameConnection):
    """A connection to a socket whose other end is `there`."""

    def __init__(self):
        self._here, self.there = socket.socketpair()
        self._here.setblocking(False)
        self.received = []
        self.lost = None
        self.loop = Watches()
        self.bytes_sent = self.frames_sent = 0
        self._transport = io_services_utils._AsyncPlaintextTransport(self._here, self, self.loop)

    def end(self):
        self._here.close()
        self.there.close()

    def data_received(self, data):
        self.received.append(data)

    def connection_lost(self, error):
        self.lost = error


@pytest.fixture
def sending():
    connection = Sending()
    yield connection
    connection.end()


def test_frames_that_the_kernel_takes_are_sent_at_once(sending):
    sending.send_together([b"abc"])
    assert sending.there.recv(9) == b"abc"
    assert sending.loop.writable is None


def test_frames_that_the_kernel_does_not_take_follow_in_order(sending):
    frames = [b"a" * 2**20, b"b" * 2**20, b"c"]
    sending.send_together(frames)
    assert sending.loop.writable is not None
    received = b""
    while len(received) < sum(map(len, frames)):
        received += sending.there.recv(2**18)
        if sending.loop.writable:
            sending.loop.writable()
    assert received == b"".join(frames)
    assert sending.loop.writable is None
    sending.send_together([b"d"])
    assert sending.there.recv(9) == b"d"


def test_a_connection_that_breaks_while_it_sends_ends_in_its_turn(sending):
    sending.there.close()
    sending.send_together([b"abc"])
    assert sending.lost is None  # whoever sends is not told in the middle of it
    sending.loop.writable()
    sending.loop.ending()
    assert isinstance(sending.lost, OSError)


def test_pika_reads_once_for_each_time_that_there_is_something(monkeypatch, sending):
    plaintext = io_services_utils._AsyncPlaintextTransport
    monkeypatch.setattr(plaintext, "_MAX_CONSUME_BYTES", 4096)
    monkeypatch.setattr(io_services_utils._AsyncTransportBase, "_MAX_RECV_BYTES", 4096)
    pika_patches.receive_more()
    monkeypatch.setattr(plaintext, "_MAX_RECV_BYTES", 3)
    sending.there.send(b"abcde")
    sending.loop.readable()
    assert sending.received == [b"abc"]
    sending.loop.readable()
    assert sending.received == [b"abc", b"de"]


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
