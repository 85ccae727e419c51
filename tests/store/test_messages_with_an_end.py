"""Messages with an end in a real database: nobody gets one that is over."""

import time

import pytest
from ready_made import migrate
from sqlite_file import file_database

from appliance.model import timestamps
from appliance.model.contents import DelayedEnvelope, DueMessages
from appliance.model.ids import IdSource
from appliance.model.wire import Message, batch, pack, single
from appliance.store.access_rows import Actor, Deed
from appliance.store.filters import MessageFilter
from appliance.store.rows import Window
from appliance.store.sql.expirer import Expirer
from appliance.store.sqlite import expiry
from appliance.store.sqlite.database import connect
from appliance.store.sqlite.reader import SqliteReader
from appliance.store.sqlite.verify import verify
from appliance.store.sqlite.writer import SqliteWriter

IDS = IdSource()
DEED = Deed(Actor("administrator", "127.0.0.1"), "subscription-create", "s")
LONG_AGO = "2026-01-01T00:00:00.000Z"
OVER = "2026-01-02T00:00:00.000Z"
FAR = "2099-01-01T00:00:00.000Z"
EVERYTHING = MessageFilter(topics=("*",))


@pytest.fixture
def path(tmp_path):
    migrate(tmp_path / "appliance.db")
    return tmp_path / "appliance.db"


@pytest.fixture
def reader(path):
    reader = SqliteReader(path)
    yield reader
    reader.close()


def store(path, *contents):
    writer = SqliteWriter(path)
    try:
        writer.store(contents)
    finally:
        writer.close()


def ask(path, sql, *values):
    link = connect(path, readonly=False)  # two libraries in one process end each other's locks
    try:
        return link.execute(sql, values).fetchall()
    finally:
        link.close()


def ends(envelope, expires_at):
    object.__setattr__(envelope, "expires_at", expires_at)
    return envelope


def one(body, expires_at=None, topic="t", received_at=LONG_AGO):
    meta = f'{{"via":"http","expires_at":"{expires_at}"}}' if expires_at else None
    return ends(single(topic, IDS.new(), received_at, body, None, meta), expires_at)


def bodies(rows):
    return [row.body for row in rows]


def sweep(path):
    return Expirer(file_database(path), lambda _: False).sweep()


@pytest.fixture
def mixture(path):
    """One message that is over, between one without an end and one that goes on."""
    store(path, one(b"lasting"), one(b"over", OVER), one(b"going on", FAR))


def test_only_messages_with_an_end_have_a_row_of_their_time(path, mixture):
    assert ask(path, "SELECT m.body, e.expires_at FROM expirations AS e JOIN messages AS m "
                     "USING (seq) ORDER BY seq") == [("over", OVER), ("going on", FAR)]  # fmt: skip


def test_a_message_that_is_over_is_deleted_with_its_time_and_counted_out(path, reader, mixture):
    swept = sweep(path)
    assert (swept.rows, swept.bytes) == (1, 4)
    assert ask(path, "SELECT body FROM messages ORDER BY seq") == [("lasting",), ("going on",)]
    assert ask(path, "SELECT seq FROM expirations") == [(3,)]
    assert ask(path, "SELECT messages, bytes FROM topics") == [(2, 15)]
    assert not verify(path, quick=False, alone=False, progress=lambda *_: None).problems
    assert sweep(path).rows == 0


def test_a_message_of_the_last_minute_is_hidden_and_not_deleted_yet(path, reader):
    just_now = timestamps.timestamp(time.time() - 1)
    content = one(b"short", just_now, received_at=timestamps.timestamp(time.time() - 2))
    store(path, content)
    assert sweep(path).rows == 0
    assert reader.page(Window("t"), 10).rows == []
    store(path, content)  # as the broker does that was not told of the commit
    assert ask(path, "SELECT count(*) FROM messages") == [(1,)]


def test_a_message_that_a_trigger_keeps_stays_hidden_and_stops_nothing(path, reader):
    store(path, one(b"kept", OVER), one(b"over", OVER))
    ask(path, "CREATE TRIGGER no BEFORE DELETE ON messages WHEN old.body = 'kept' BEGIN "
              "SELECT RAISE(ABORT, 'not this one'); END")  # fmt: skip
    assert sweep(path).rows == 1
    assert ask(path, "SELECT body FROM messages") == [("kept",)]
    assert reader.page(Window("t"), 10).rows == []


def test_the_time_of_a_message_that_someone_deleted_goes_when_it_comes(path, mixture):
    ask(path, "DELETE FROM messages WHERE body = 'over'")
    assert sweep(path).rows == 0
    assert ask(path, "SELECT seq FROM expirations") == [(3,)]


def test_each_line_and_each_message_of_a_pack_ends(path):
    meta = f'{{"expires_at":"{OVER}"}}'
    lines = batch("t", IDS.prefix(), LONG_AGO, [b"a", b"b"], None, meta)
    messages = [Message(IDS.new(), LONG_AGO, b"c"), Message(IDS.new(), LONG_AGO, b"d", "x/y", meta)]
    store(path, one(b"lasting"), ends(lines, OVER), ends(pack("u", messages, 2, None, meta), OVER))
    assert sweep(path).rows == 4
    assert ask(path, "SELECT body FROM messages") == [("lasting",)]


def test_a_conflicting_message_with_an_end_does_not_end_the_one_that_is_stored(path):
    first = one(b"first")
    store(path, first)
    meta = f'{{"expires_at":"{OVER}"}}'
    other = ends(single("t", first.id, LONG_AGO, b"other", None, meta), OVER)
    store(path, other)
    assert ask(path, "SELECT count(*) FROM expirations") == [(0,)]
    assert ask(path, "SELECT reason FROM dead_letters") == [("conflict",)]


def test_a_delayed_message_ends_too(path, reader):
    object.__setattr__(delayed := one(b"later", OVER), "due_at", LONG_AGO)
    store(path, DelayedEnvelope(delayed))
    store(path, DueMessages(LONG_AGO))
    assert ask(path, "SELECT expires_at FROM expirations") == [(OVER,)]
    assert reader.page(Window("t"), 10).rows == []


def test_a_read_has_no_condition_more_while_no_message_is_over(path):
    store(path, one(b"lasting"), one(b"going on", FAR))
    link = connect(path, readonly=True)
    assert expiry.hides(link) == []
    link.close()


def test_many_messages_that_are_over_are_deleted_in_several_transactions(path):
    lines = [b"%d" % number for number in range(3000)]
    meta = f'{{"expires_at":"{OVER}"}}'
    store(path, ends(batch("t", IDS.prefix(), LONG_AGO, lines, None, meta), OVER))
    assert sweep(path).rows == 3000
    assert ask(path, "SELECT count(*) FROM expirations") == [(0,)]
