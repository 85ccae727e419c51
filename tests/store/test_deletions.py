"""Deletions: what goes, what stays, and that the numbers are right whenever it is cut off."""

import pytest
from store_contents import IDS, TIME, lines, one

from appliance.errors import LimitError, StoreError
from appliance.model.contents import DeletionMark
from appliance.model.timestamps import timestamp
from appliance.model.wire import single
from appliance.store.access_rows import Actor, Deed
from appliance.store.deletion_rows import DONE, QUEUED, UNDER_WAY, DeletionRow, Selection
from appliance.store.rows import Span

BY = Actor("till", "192.0.2.1")
#: Before and after TIME.
EARLIER, LATER = timestamp(1.7e9), timestamp(1.8e9)


def go_on(_seconds):
    return False


class Stops:
    """Says to stop at the time when it is asked for the `count`th time."""

    def __init__(self, count):
        self._left = count

    def __call__(self, _seconds):
        self._left -= 1
        return self._left <= 0


@pytest.fixture
def deletions(store):
    return store.deletions


@pytest.fixture
def ask(deletions):
    def ask(at=LATER, **selection):
        row = DeletionRow(IDS.new(), QUEUED, Selection(**selection), at, BY, 0, 0, 0, None)
        deletions.ask(row, Deed(BY, "message-delete", row.selection.topic or "", row.id))
        return row.id

    return ask


@pytest.fixture
def delete(ask, writer, deletions):
    """Order a deletion, store its mark, and do it."""

    def delete(**selection):
        name = ask(**selection)
        writer.store([DeletionMark(name)])
        deletions.work(go_on)
        return deletions.find(name)

    return delete


def test_one_message_is_deleted_by_its_id(writer, contents, delete):
    found = one(b"this")
    writer.store([one(b"a"), found, one(b"b")])
    row = delete(id=found.id)
    assert (row.status, row.messages, row.bytes, row.kept) == (DONE, 1, 4, 0)
    assert contents.bodies() == [b"a", b"b"]
    assert contents.counters() == contents.sums()


def test_a_whole_topic_is_deleted_and_gone_from_the_list(store, writer, contents, delete):
    writer.store([one(b"x", "other"), lines([b"%d" % n for n in range(5000)], "big")])
    row = delete(topic="big")
    assert row.messages == 5000
    assert contents.bodies() == [b"x"]
    assert [topic.topic for topic in store.reader.topics()] == ["other"]
    assert not store.reader.has_topic("big")
    writer.store([one(b"again", "big")])
    assert contents.counters() == contents.sums()


def test_messages_of_a_span_of_time_are_deleted(writer, contents, delete):
    times = [timestamp(1.7e9 + 60 * n) for n in range(10)]
    writer.store([one(b"%d" % n, time=time) for n, time in enumerate(times)])
    assert delete(topic="t", since=times[3], until=times[6]).messages == 3
    assert contents.bodies() == [b"%d" % n for n in (0, 1, 2, 6, 7, 8, 9)]
    assert contents.counters() == contents.sums()


def test_messages_are_deleted_by_their_kind_and_by_what_is_in_them(writer, contents, delete):
    bodies = [
        b'{"n":1}',
        b'{"n":2,"s":"x"}',
        b"{broken",
        b"text",
        b"\xff",
        b'{"n":12345678901234567890123}',
    ]
    writer.store([one(body) for body in bodies])
    assert delete(topic="t", where=("n>1", "s exists")).messages == 1
    assert delete(topic="t", where=("n=12345678901234567890123",)).messages == 1
    assert delete(topic="t", kind="binary").messages == 1
    assert contents.bodies() == [b'{"n":1}', b"{broken", b"text"]
    assert delete(topic="t", where=("n=5",)).messages == 0


def test_an_order_whose_mark_has_not_come_deletes_nothing(writer, contents, ask, deletions):
    writer.store([one()])
    name = ask(topic="t")
    deletions.work(go_on)
    assert deletions.find(name).status == QUEUED
    assert len(contents.messages()) == 1
    writer.store([DeletionMark(name)])
    assert deletions.find(name).status == UNDER_WAY
    deletions.work(go_on)
    assert contents.messages() == []


def test_a_message_that_is_in_the_queue_before_the_mark_is_deleted(
    writer, contents, ask, deletions
):
    name = ask(topic="t")
    writer.store([one(b"1"), DeletionMark(name), one(b"2", time=LATER)])
    later = one(b"3", time=timestamp(1.9e9))
    writer.store([later])
    deletions.work(go_on)
    assert contents.bodies() == [b"3"]
    assert contents.counters() == contents.sums()


def test_a_message_that_was_received_later_stays_though_it_is_stored_before(
    writer, contents, ask, deletions
):
    name = ask(topic="t", at=TIME)
    writer.store([one(b"after", time=LATER), one(b"before", time=EARLIER), DeletionMark(name)])
    deletions.work(go_on)
    assert contents.bodies() == [b"after"]


def test_a_redelivery_of_what_was_deleted_is_deleted_with_its_mark(
    writer, contents, ask, deletions
):
    """The worker was killed after it deleted, and before it acknowledged."""
    name = ask(topic="t", at=TIME)
    envelope, mark, later = one(b"1", time=EARLIER), DeletionMark(name), one(b"2", time=LATER)
    writer.store([envelope, mark, later])
    deletions.work(go_on)
    writer.store([envelope])
    assert contents.bodies() == [b"2", b"1"]
    writer.store([mark, later])
    deletions.work(go_on)
    assert contents.bodies() == [b"2"]
    assert contents.counters() == contents.sums()
    row = deletions.find(name)
    assert (row.status, row.messages) == (DONE, 2)


@pytest.mark.parametrize("stop_after", range(1, 12))
def test_a_deletion_that_was_cut_off_goes_on(writer, contents, ask, deletions, stop_after):
    bodies = [b"%d" % n for n in range(2000)]
    writer.store([lines(bodies, "t"), lines(bodies, "other")])
    name = ask(topic="t")
    writer.store([DeletionMark(name)])
    deletions.work(Stops(stop_after))
    assert contents.counters() == contents.sums()
    deletions.work(go_on)
    row = deletions.find(name)
    assert (row.status, row.messages, row.bytes) == (DONE, 2000, sum(map(len, bodies)))
    assert len(contents.bodies()) == 2000


def test_a_mark_of_no_order_does_nothing(writer, contents, deletions):
    writer.store([one(), DeletionMark(IDS.new())])
    deletions.work(go_on)
    assert len(contents.messages()) == 1
    assert deletions.newest(10) == []


def test_an_order_that_is_cancelled_is_gone_unless_its_mark_came(writer, ask, deletions):
    cancelled, marked = ask(topic="t"), ask(topic="t")
    writer.store([DeletionMark(marked)])
    for name in (cancelled, marked):
        deletions.cancel(name)
    assert [row.id for row in deletions.newest(10)] == [marked]


def test_the_name_of_who_asked_is_kept_with_the_order_and_in_the_audit_trail(store, ask, deletions):
    name = ask(topic="t", where=("a=1",))
    row = deletions.find(name)
    assert row.by == BY
    assert row.selection == Selection(topic="t", where=("a=1",))
    (entry,) = store.access.audit(Span(), 10)
    assert (entry.who, entry.address, entry.action, entry.target) == (*BY, "message-delete", "t")


def test_counting_before_a_deletion_counts_what_it_deletes(writer, deletions, delete):
    writer.store([lines([b'{"n":%d}' % n for n in range(3000)]), one(b"x", "other")])
    for selection in ({"topic": "t"}, {"topic": "t", "where": ("n<1000",)}, {"topic": "none"}):
        counted = deletions.count(Selection(**selection), 60)
        assert counted.is_complete
        assert counted.messages == delete(**selection).messages


def test_counting_that_takes_too_long_says_so(writer, deletions):
    writer.store([lines([b'{"n":%d}' % n for n in range(5000)])])
    counted = deletions.count(Selection(topic="t", where=("n<1000",)), 0)
    assert not counted.is_complete
    assert counted.messages == 1000


def test_deletions_that_are_done_make_room_and_open_ones_are_bounded(
    writer, ask, deletions, monkeypatch
):
    from appliance.store.sql import deletion_table
    from appliance.store.sql import deletions as module

    monkeypatch.setattr(deletion_table, "_MOST_KEPT", 3)
    monkeypatch.setattr(module, "MAX_OPEN", 5)
    names = [ask(topic="t") for _ in range(5)]
    with pytest.raises(LimitError):
        ask(topic="t")
    writer.store([DeletionMark(name) for name in names])
    deletions.work(go_on)
    last = ask(topic="t")
    assert [row.id for row in deletions.newest(10)] == [last, *names[:2:-1]]


def test_messages_with_bodies_of_many_megabytes_are_deleted(writer, contents, delete):
    writer.store([single("t", IDS.new(), TIME, bytes(3 * 2**20)) for _ in range(4)])
    assert delete(topic="t").bytes == 12 * 2**20
    assert contents.messages() == []


def test_a_store_without_a_database_is_an_error(new_store):
    with pytest.raises(StoreError):
        new_store.deletions.work(go_on)
