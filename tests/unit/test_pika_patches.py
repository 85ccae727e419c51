"""The private parts of pika that are used: a pika that has moved one fails here."""

import inspect
import struct
from pathlib import Path

import pika
import pika.data
import pika.spec
import pytest
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.adapters.utils import io_services_utils

from appliance.broker import pika_patches

MOVED = "pika has moved a part that appliance/broker/pika_patches.py uses: "


@pytest.mark.parametrize(
    ("owner", "name", "use"),
    [
        (io_services_utils._AsyncTransportBase, "_MAX_RECV_BYTES", "self._MAX_RECV_BYTES"),
        (AsyncioConnection, "_output_marshaled_frames", "marshaled_frames"),
        (pika.data, "decode_table", "data.decode_table("),
    ],
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_each_private_part_is_there_and_in_use(owner, name, use):
    assert hasattr(owner, name), f"{MOVED}{owner.__name__}.{name}"
    users = {
        "_MAX_RECV_BYTES": io_services_utils,
        "_output_marshaled_frames": AsyncioConnection._output_marshaled_frames,
        "decode_table": pika.spec,
    }
    assert use in inspect.getsource(users[name]), f"{MOVED}nothing of pika uses {name} any more"


def test_only_one_module_names_private_parts_of_pika():
    package = inspect.getfile(pika_patches).rpartition("/broker/")[0]
    names = ("_MAX_RECV_BYTES", "_output_marshaled_frames", "decode_table")
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
