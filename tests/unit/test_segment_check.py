"""Damaged entries of the broker's segments, mended before the node starts."""

import random
import struct
import zlib

import pytest

from appliance.broker.node import segment_check
from appliance.broker.node.layout import Layout
from appliance.broker.node.queue_files import queue_logs

ROOM = 8
DAMAGED = b"\x83\x77\x07damaged"


def written(datas, room=ROOM, version=2, first=4, term=3):
    """Return a segment as Ra writes it."""
    records, place = b"", 8 + 32 * room
    for number, data in enumerate(datas):
        fields = first + number, term, place, len(data), zlib.crc32(data)
        records += struct.pack(">QQQII", *fields)
        place += len(data)
    head = struct.pack(">4sHH", b"RASG", version, room)
    return head + records.ljust(32 * room, b"\0") + b"".join(datas)


DATAS = [b"entry %d " % number * (number + 1) for number in range(6)]
WHOLE = written(DATAS)


@pytest.fixture
def layout(tmp_path):
    return Layout(tmp_path / "broker")


@pytest.fixture
def segment(layout):
    path = queue_logs(layout) / "2F_QUEUE" / "00000001.segment"
    path.parent.mkdir(parents=True)
    path.write_bytes(WHOLE)
    return path


def test_a_whole_segment_is_left_alone(layout, segment):
    before = segment.stat()
    assert segment_check.mend(layout) == []
    assert segment.stat().st_ino == before.st_ino


def test_a_node_without_queues_has_nothing_to_mend(layout):
    assert segment_check.mend(layout) == []


#: The magic, the version and the room; index and term of the first and the last entry; and room
#: behind the first that is unused, where nobody looks.
UNGUARDED = {*range(8 + 16), *range(8 + 5 * 32, 8 + 5 * 32 + 16), *range(8 + 7 * 32, 8 + 8 * 32)}


@pytest.mark.parametrize("bit", range(8))
def test_any_single_flipped_bit_is_put_right(layout, segment, bit):
    for at in sorted({*range(len(WHOLE))} - UNGUARDED):
        content = bytearray(WHOLE)
        content[at] ^= 1 << bit
        segment.write_bytes(content)
        (mended,) = segment_check.mend(layout)
        assert (mended.corrected, mended.replaced) == (1, 0), at
        assert segment.read_bytes() == WHOLE, at
        assert mended.kept.read_bytes() == content
        mended.kept.unlink()


def test_a_bit_far_from_the_end_of_a_large_entry_is_put_right(layout, segment):
    large = written([b"first", random.Random(1).randbytes(300_000), b"last"])
    content = bytearray(large)
    content[8 + 32 * ROOM + 5 + 1000] ^= 4
    segment.write_bytes(content)
    (mended,) = segment_check.mend(layout)
    assert (mended.corrected, mended.replaced) == (1, 0)
    assert segment.read_bytes() == large


def test_an_entry_with_more_damage_becomes_one_that_is_passed_over(layout, segment):
    place = 8 + 32 * ROOM + sum(map(len, DATAS[:3]))
    content = bytearray(WHOLE)
    content[place] ^= 1
    content[place + 9] ^= 1
    segment.write_bytes(content)
    (mended,) = segment_check.mend(layout)
    assert (mended.corrected, mended.replaced) == (0, 1)
    assert mended.name == "2F_QUEUE-00000001.segment"
    made = segment.read_bytes()
    record = struct.unpack_from(">QQQII", made, 8 + 3 * 32)
    assert record == (7, 3, place, len(DAMAGED), zlib.crc32(DAMAGED))
    assert made == written([*DATAS[:3], DAMAGED, *DATAS[4:]])
    assert segment_check.mend(layout) == []


@pytest.mark.parametrize(
    "content",
    [b"", b"RASG", b"\0" * 500, written(DATAS, version=1)[:-1], written(DATAS)[:300], b"x" * 1000],
    ids=["empty", "head cut", "zeros", "another version", "cut", "no segment"],
)
def test_file_that_is_no_segment_we_know_or_has_lost_much_is_left_to_ra(layout, segment, content):
    segment.write_bytes(content)
    mended = segment_check.mend(layout)
    assert segment.read_bytes() == content or mended[0].replaced
    assert not mended or content == written(DATAS)[:300]


def test_random_damage_never_stops_a_start(layout, segment):
    source = random.Random(7)
    for _ in range(300):
        content = bytearray(WHOLE)
        for _ in range(source.randint(1, 40)):
            content[source.randrange(len(content))] = source.randrange(256)
        segment.write_bytes(content[: source.randint(0, len(content))])
        segment_check.mend(layout)


def test_only_a_few_damaged_files_are_kept(layout, segment):
    for number in range(20):
        content = bytearray(WHOLE)
        content[-1 - number % 5] ^= 1
        segment.write_bytes(content)
        (mended,) = segment_check.mend(layout)
        mended.kept.rename(mended.kept.with_name(f"older-{number}"))
    assert len(list((layout.home / "damaged").iterdir())) <= 17
