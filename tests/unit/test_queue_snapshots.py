"""Snapshots of a queue that Ra removed as it could not read them: put back from what is kept."""

import struct
import zlib

import pytest
from test_log_check import entry
from test_segment_check import written

from appliance.broker.node import queue_snapshots
from appliance.broker.node.layout import Layout
from appliance.broker.node.queue_files import queue_logs

QUEUE = "2F_APP"


@pytest.fixture
def layout(tmp_path):
    return Layout(tmp_path / "broker")


@pytest.fixture
def queue(layout):
    folder = queue_logs(layout) / QUEUE
    folder.mkdir(parents=True)
    return folder


def content(index):
    body = b"what the queue was at %d" % index
    return struct.pack(">4sBI", b"RASN", 1, zlib.crc32(body)) + body


def named(index, term=2):
    return f"{term:016X}_{index:016X}"


def make(queue, index, text=None):
    folder = queue / "snapshots" / named(index)
    folder.mkdir(parents=True)
    path = folder / "snapshot.dat"
    path.write_bytes(content(index) if text is None else text)
    return path


def remove(path):
    """As Ra does it: the file and its folder."""
    path.unlink()
    path.parent.rmdir()


def kept(layout):
    return sorted(path.name for path in (layout.home / "snapshots").glob("*/*"))


def log_from(queue, first, count=5):
    """Write a segment with that many entries."""
    (queue / "00000003.segment").write_bytes(written([b"data"] * count, first=first))


def test_a_snapshot_that_is_gone_is_put_back_where_the_log_begins_behind_it(layout, queue):
    path = make(queue, 10)
    queue_snapshots.keep(layout.home)
    remove(path)
    log_from(queue, 11)
    assert queue_snapshots.mend(layout) == [QUEUE]
    assert path.read_bytes() == content(10)
    assert queue_snapshots.mend(layout) == []


def test_the_broker_s_log_counts_as_the_segments_do(layout, queue):
    path = make(queue, 10)
    queue_snapshots.keep(layout.home)
    remove(path)
    (queue_logs(layout) / "00000001.wal").write_bytes(
        b"RAWA\x01"
        + b"".join([
            entry(1, 1, b"of another", b"2F_OTHER"),
            entry(2, 9, b"own", QUEUE.encode()),
            entry(1, 2, b"of another"),
            entry(2, 10, b"own"),
        ])
    )  # fmt: skip
    assert queue_snapshots.mend(layout) == [QUEUE]


@pytest.mark.parametrize("first", [0, 12, 20])
def test_a_log_that_is_whole_or_has_a_gap_is_left_alone(layout, queue, first):
    """Entries that are in neither can't be made up."""
    path = make(queue, 10)
    queue_snapshots.keep(layout.home)
    remove(path)
    log_from(queue, first, count=8)
    assert queue_snapshots.mend(layout) == []
    assert not path.exists()


def test_a_queue_that_began_anew_does_not_get_what_it_was_before(layout, queue):
    path = make(queue, 1000)
    queue_snapshots.keep(layout.home)
    remove(path)
    log_from(queue, 5)
    assert queue_snapshots.mend(layout) == []


def test_a_queue_that_has_a_snapshot_or_no_log_is_left_alone(layout, queue):
    make(queue, 10)
    queue_snapshots.keep(layout.home)
    assert queue_snapshots.mend(layout) == []
    remove(queue / "snapshots" / named(10) / "snapshot.dat")
    assert queue_snapshots.mend(layout) == []


@pytest.mark.parametrize("text", [b"", b"RASN", content(14)[:-1], b"x" * 100])
def test_the_newest_whole_one_is_put_back(layout, queue, text):
    """A snapshot that was being written when it was removed is none."""
    for path in (make(queue, 10), make(queue, 12), make(queue, 14, text)):
        queue_snapshots.keep(layout.home)
        remove(path)
    log_from(queue, 8)
    assert queue_snapshots.mend(layout) == [QUEUE]
    assert [path.parent.name for path in queue.glob("snapshots/*/*")] == [named(12)]


def test_a_damaged_snapshot_is_replaced(layout, queue):
    path = make(queue, 10)
    queue_snapshots.keep(layout.home)
    path.unlink()
    path.write_bytes(b"RASN and nonsense")
    log_from(queue, 11)
    assert queue_snapshots.mend(layout) == [QUEUE]
    assert path.read_bytes() == content(10)


def test_the_last_three_are_kept_and_none_is_kept_twice(layout, queue):
    for index in range(20):
        path = make(queue, index)
        queue_snapshots.keep(layout.home)
        queue_snapshots.keep(layout.home)
        remove(path)
    assert kept(layout) == [named(17), named(18), named(19)]


def test_copies_of_a_queue_that_is_gone_are_removed(layout, queue):
    remove_all = [make(queue, 10)]
    queue_snapshots.keep(layout.home)
    for path in remove_all:
        remove(path)
    queue.joinpath("snapshots").rmdir()
    queue.rmdir()
    other = layout.home / "snapshots" / "of somebody else" / "file"
    other.parent.mkdir()
    other.touch()
    queue_snapshots.keep(layout.home)
    assert kept(layout) == [other.name]
    assert list((layout.home / "snapshots").iterdir()) == [other.parent]


def test_other_names_in_the_folder_are_no_snapshots(layout, queue):
    (queue / "snapshots" / "lost+found").mkdir(parents=True)
    (queue / "snapshots" / "a file").write_text("x")
    queue_snapshots.keep(layout.home)
    assert kept(layout) == []


def test_a_node_without_queues_has_nothing_to_keep_or_to_mend(layout):
    layout.home.mkdir()
    queue_snapshots.keep(layout.home)
    assert queue_snapshots.mend(layout) == []
