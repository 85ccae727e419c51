"""Entries of a queue's log that the disk refused, put back from the log that Ra has removed."""

import pytest
from test_log_check import entry
from test_queue_snapshots import make as make_snapshot
from test_segment_check import written

from appliance.broker.node import log_copies, segment_check
from appliance.broker.node.layout import Layout
from appliance.broker.node.queue_files import queue_logs
from appliance.broker.probe import Lacking

QUEUE = "2F_APP"


@pytest.fixture
def layout(tmp_path):
    return Layout(tmp_path / "broker")


@pytest.fixture
def queue(layout):
    folder = queue_logs(layout) / QUEUE
    folder.mkdir(parents=True)
    return folder


def data(number):
    return b"entry %d" % number


def log(queue, first, last, name="00000001.wal"):
    """Write a log with these entries, as Ra does."""
    entries = [entry(1, first, data(first), QUEUE.encode())]
    entries += [entry(1, number, data(number)) for number in range(first + 1, last + 1)]
    path = queue.parent / name
    path.write_bytes(b"RAWA\x01" + b"".join(entries))
    return path


def segment(queue, name, first, last, room=8):
    """Write a segment with these entries; none where `last` is before `first`."""
    datas = [data(number) for number in range(first, last + 1)]
    path = queue / f"{name:08}.segment"
    path.write_bytes(written(datas, room, first=first, term=1))
    return path


def kept(layout):
    return [path.name.partition("-")[0] for path in sorted((layout.home / "logs").iterdir())]


def in_segments(queue):
    """Return the number and the data of each entry in the order in which Ra reads them."""
    return [
        (each.number, each.data)
        for path in sorted(queue.glob("*.segment"))
        for each in segment_check.entries(path)
    ]


def whole(first, last):
    return [(number, data(number)) for number in range(first, last + 1)]


def test_a_log_is_kept_until_all_of_its_entries_are_in_segments(layout, queue):
    path = log(queue, 1, 10)
    assert log_copies.keep(layout.home) == []
    segment(queue, 1, 1, 6)
    path.unlink()
    assert log_copies.keep(layout.home) == [QUEUE]
    segment(queue, 2, 7, 10)
    assert log_copies.keep(layout.home) == []
    assert kept(layout) == []


def test_a_log_is_kept_until_a_snapshot_stands_for_its_entries(layout, queue):
    path = log(queue, 1, 10)
    log_copies.keep(layout.home)
    path.unlink()
    assert log_copies.keep(layout.home) == [QUEUE]
    make_snapshot(queue, 10)
    assert log_copies.keep(layout.home) == []
    assert kept(layout) == []


def test_a_log_of_a_queue_that_was_deleted_is_not_kept(layout, queue):
    path = log(queue, 1, 10)
    log_copies.keep(layout.home)
    path.unlink()
    queue.rmdir()
    assert log_copies.keep(layout.home) == []
    assert kept(layout) == []


def test_entries_that_ra_wrote_into_a_later_log_too_are_not_missing(layout, queue):
    path = log(queue, 1, 10)
    log_copies.keep(layout.home)
    path.unlink()
    log(queue, 5, 12, "00000002.wal")
    segment(queue, 1, 1, 4)
    assert log_copies.keep(layout.home) == []
    assert kept(layout) == ["00000002"]


def test_another_log_of_the_same_name_is_kept_beside_the_first(layout, queue):
    first = log(queue, 1, 10)
    log_copies.keep(layout.home)
    first.rename(queue.parent / "elsewhere")
    log(queue, 11, 12)
    assert log_copies.keep(layout.home) == [QUEUE]
    assert kept(layout) == ["00000001", "00000001"]


@pytest.mark.parametrize(
    "there",
    [
        pytest.param([(1, 1, 4), (2, 9, 11)], id="between two segments"),
        pytest.param([(1, 1, 4)], id="behind the last segment"),
        pytest.param([(1, 1, 4), (2, 5, 6), (3, 7, 6), (4, 9, 9)], id="beside an empty segment"),
        pytest.param([(3, 9, 11)], id="before the first segment"),
    ],
)
def test_entries_that_are_missing_are_put_where_ra_reads_them_in_order(layout, queue, there):
    path = log(queue, 1, 11)
    log_copies.keep(layout.home)
    path.unlink()
    for name, first, last in there:
        segment(queue, name, first, last)
    before = {number for number, _ in in_segments(queue)}
    assert log_copies.mend(layout) == {QUEUE: 11 - len(before)}
    assert in_segments(queue) == whole(1, 11)
    assert kept(layout) == []
    assert log_copies.mend(layout) == {}


def test_entries_before_those_of_a_log_that_is_there_are_put_back(layout, queue):
    path = log(queue, 1, 9)
    log_copies.keep(layout.home)
    path.unlink()
    make_snapshot(queue, 3)
    log(queue, 10, 12, "00000002.wal")
    assert log_copies.mend(layout) == {QUEUE: 6}
    assert in_segments(queue) == whole(4, 9)
    assert kept(layout) == ["00000002"]  # Ra has still to move it


def test_segments_that_are_whole_are_left_alone(layout, queue):
    path = log(queue, 5, 9)
    log_copies.keep(layout.home)
    path.unlink()
    first = segment(queue, 1, 1, 4)
    before = first.stat()
    assert log_copies.mend(layout) == {QUEUE: 5}
    assert first.stat().st_ino == before.st_ino
    assert in_segments(queue) == whole(1, 9)


@pytest.mark.parametrize("done", range(8))
def test_mending_that_was_cut_off_is_ended_by_the_next_start(layout, queue, monkeypatch, done):
    """Cut off before it removes, renames or links a file once more."""
    path = log(queue, 1, 20)
    log_copies.keep(layout.home)
    path.unlink()
    segment(queue, 1, 1, 4)
    segment(queue, 2, 12, 14)
    segment(queue, 3, 15, 22)  # the last two came later
    left = [done]

    class CutOffError(Exception):
        pass

    def counted(name):
        original = getattr(type(path), name)

        def call(*args, **kwargs):
            left[0] -= 1
            if left[0] < 0:
                raise CutOffError
            return original(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        for name in ("unlink", "rename", "hardlink_to"):
            patch.setattr(type(path), name, counted(name))
        with pytest.raises(CutOffError):
            log_copies.mend(layout)
    log_copies.mend(layout)
    assert in_segments(queue) == whole(1, 22)
    assert kept(layout) == []


def test_a_node_without_queues_has_nothing_to_put_back(layout):
    layout.home.mkdir()
    assert log_copies.mend(layout) == {}


def test_a_queue_lacks_entries_only_where_several_looks_say_so():
    lacking = Lacking()
    lacking.look([QUEUE])
    lacking.look([QUEUE])
    assert lacking.reason == ""
    lacking.look([QUEUE])
    assert QUEUE in lacking.reason
    lacking.look([])
    assert lacking.reason == ""
