"""Damaged entries of the broker's write-ahead log, taken out before the node starts."""

import random
import struct
import zlib

import pytest

from appliance.broker.node import log_check
from appliance.broker.node.layout import Layout
from appliance.broker.node.queue_files import queue_logs

DAMAGED = b"\x83\x77\x07damaged"


def entry(number, index, data, name=b"", term=1):
    """Return an entry as Ra writes it; `name` where it is the queue's first one."""
    head = (number if name else 0x400000 | number).to_bytes(3)
    if name:
        head += struct.pack(">H", len(name)) + name
    body = struct.pack(">QQ", index, term) + data
    return head + struct.pack(">II", zlib.adler32(body), len(data)) + body


@pytest.fixture
def layout(tmp_path):
    return Layout(tmp_path / "broker")


@pytest.fixture
def log(layout):
    """Make a log of these entries."""

    def make(*entries, rest=b""):
        path = queue_logs(layout) / "00000001.wal"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"RAWA\x01" + b"".join(entries) + rest)
        return path

    return make


def entries(count=20):
    made = [entry(1, 1, b"first", b"2F_ONE"), entry(2, 1, b"first", b"2F_TWO")]
    for index in range(2, count):
        made += [entry(1, index, b"one %d" % index * 9), entry(2, index, b"two %d" % index)]
    return made


def flip(path, at, mask=1):
    content = bytearray(path.read_bytes())
    content[at] ^= mask
    path.write_bytes(content)


def test_a_whole_log_is_left_alone(layout, log):
    path = log(*entries(), rest=bytes(500))
    before = path.stat()
    assert log_check.mend(layout) == []
    assert path.stat().st_ino == before.st_ino


@pytest.mark.parametrize("back", [1, 30, 55, 56, 70])
def test_a_flipped_bit_is_put_right_wherever_it_is(layout, log, back):
    """In the data, the term, the index or the checksum of an entry."""
    all_of_them = [*entries(), entry(1, 20, bytes(range(40))), entry(2, 20, b"last")]
    path = log(*all_of_them)
    whole = path.read_bytes()
    flip(path, len(whole) - len(all_of_them[-1]) - back, 0x20 if back != 70 else 0)
    if back == 70:  # in a long entry, whose sum has wrapped
        path = log(*entries(), entry(1, 20, b"\xff\x01" * 100_000), entry(2, 20, b"last"))
        whole = path.read_bytes()
        flip(path, len(whole) - 170_000)
    harmed = path.read_bytes()
    (mended,) = log_check.mend(layout)
    assert (mended.corrected, mended.replaced) == (1, 0)
    assert mended.kept.read_bytes() == harmed
    assert path.read_bytes() == whole
    assert log_check.mend(layout) == []


def test_an_entry_with_more_damage_is_replaced_and_every_other_one_is_kept(layout, log):
    all_of_them = entries()
    path = log(*all_of_them)
    at = 5 + sum(map(len, all_of_them[:10])) + len(all_of_them[10]) - 3
    for place in (at, at - 1, at - 2):
        flip(path, place, 0x41)
    (mended,) = log_check.mend(layout)
    assert (mended.corrected, mended.replaced) == (0, 1)
    wanted = [*all_of_them[:10], entry(1, 6, DAMAGED), *all_of_them[11:]]
    assert path.read_bytes() == b"RAWA\x01" + b"".join(wanted)
    assert log_check.mend(layout) == []


@pytest.mark.parametrize("rest", [b"", bytes(300)])
def test_a_torn_last_entry_is_left_to_ra(layout, log, rest):
    path = log(*entries(), rest=rest)
    flip(path, len(path.read_bytes()) - len(rest) - 2)
    before = path.read_bytes()
    assert log_check.mend(layout) == []
    assert path.read_bytes() == before


@pytest.mark.parametrize("seed", range(40))
def test_any_flipped_bit_leaves_a_log_whose_entries_are_whole_or_left_to_ra(layout, log, seed):
    chance = random.Random(seed)
    path = log(*entries(60))
    flip(path, chance.randrange(len(path.read_bytes())), 1 << chance.randrange(8))
    before = path.read_bytes()
    if log_check.mend(layout):
        read, _ = log_check._read(memoryview(path.read_bytes()))
        assert all(each.is_sound for each in read)
        assert len(read) == 118
    else:
        assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"RAWA\x02abc", b"RAWA\x01", b"RAWA\x01\0\0\0\0\xff"])
def test_a_log_of_another_kind_is_left_alone(layout, log, content):
    path = log()
    path.write_bytes(content)
    assert log_check.mend(layout) == []
    assert path.read_bytes() == content


def test_a_node_without_logs_has_nothing_to_mend(layout):
    assert log_check.mend(layout) == []


@pytest.mark.parametrize("rest", [b"", bytes(500), entry(1, 20, b"torn")[:-2], b"\x40\0\x01\0\0"])
@pytest.mark.parametrize("flipped", [None, 300, 400])
def test_numbers_read_entry_by_entry_are_those_of_all_sound_entries(layout, log, rest, flipped):
    path = log(*entries(), rest=rest)
    if flipped is not None:
        flip(path, flipped)
    expected: dict[str, set[int]] = {}
    for queue, each in log_check.entries(path):
        expected.setdefault(queue, set()).add(each.number)
    assert log_check.indexed(path) == expected
    assert set(expected) == {"2F_ONE", "2F_TWO"}
    # A flipped length ends what can be read; any other bit costs its own entry alone.
    assert len(expected["2F_ONE"]) >= {None: 19, 300: 3, 400: 18}[flipped]


def test_file_that_is_no_log_has_no_numbers(tmp_path):
    for content in (b"", b"RAW", b"something else"):
        path = tmp_path / "00000001.wal"
        path.write_bytes(content)
        assert log_check.indexed(path) == {}
