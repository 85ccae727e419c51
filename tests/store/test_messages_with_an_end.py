"""Messages with an end in a real database: nobody gets one that is over."""

import asyncio
import time

import pytest

from appliance.api.stream.source import StreamSource
from appliance.model import timestamps
from appliance.model.contents import DelayedEnvelope, DueMessages
from appliance.model.ids import IdSource
from appliance.model.wire import Message, batch, pack, single
from appliance.store.access_rows import Actor, Deed
from appliance.store.filters import MessageFilter
from appliance.store.rows import Followed, Span, Window
from appliance.store.sqlite import expiry
from appliance.store.sqlite.database import connect
from appliance.store.sqlite.deliveries import SqliteDeliveries
from appliance.store.sqlite.expirer import Expirer
from appliance.store.sqlite.following import SqliteFollower
from appliance.store.sqlite.migrations import migrate
from appliance.store.sqlite.pulling import SqlitePuller
from appliance.store.sqlite.reader import SqliteReader
from appliance.store.sqlite.subscriptions import SqliteSubscriptions
from appliance.store.sqlite.verify import verify
from appliance.store.sqlite.writer import SqliteWriter
from appliance.store.subscription_rows import Receive, SubscriptionRow

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
    return Expirer(path, lambda _: False).sweep()


@pytest.fixture
def mixture(path):
    """One message that is over, between one without an end and one that goes on."""
    store(path, one(b"lasting"), one(b"over", OVER), one(b"going on", FAR))


def test_only_messages_with_an_end_have_a_row_of_their_time(path, mixture):
    assert ask(path, "SELECT m.body, e.expires_at FROM expirations AS e JOIN messages AS m "
                     "USING (seq) ORDER BY seq") == [("over", OVER), ("going on", FAR)]  # fmt: skip


@pytest.mark.parametrize("order", ["newest first", "in order"])
def test_the_list_of_a_topic_leaves_out_a_message_that_is_over(reader, mixture, order):
    window = Window("t", after=0) if order == "in order" else Window("t")
    assert sorted(bodies(reader.page(window, 10).rows)) == [b"going on", b"lasting"]


def test_an_export_leaves_out_a_message_that_is_over(reader, mixture):
    rows = [row for piece in reader.pieces(Window("t", after=0)) for row in piece]
    found = [row for piece in reader.find_pieces(EVERYTHING, Span(after=0)) for row in piece]
    assert bodies(rows) == bodies(found) == [b"lasting", b"going on"]


def test_a_message_that_is_over_is_not_found_by_its_id(path, reader, mixture):
    ids = dict(ask(path, "SELECT body, id FROM messages"))
    assert reader.message(ids["over"]) is None
    assert reader.message(ids["going on"]) is not None


@pytest.mark.parametrize(
    "wanted", [EVERYTHING, MessageFilter(topics=("t",)), MessageFilter(topics=("t",), kind="text")]
)
def test_a_search_leaves_out_a_message_that_is_over(reader, mixture, wanted):
    assert bodies(reader.find(wanted, Span(), 10).rows) == [b"going on", b"lasting"]


@pytest.mark.parametrize("followed", [Followed(), Followed("t"), Followed(None, (("t*",),))])
def test_a_stream_leaves_out_a_message_that_is_over(reader, mixture, followed):
    follower = SqliteFollower(reader)
    part = follower.part(followed, 0, follower.end())
    assert (bodies(part.rows), part.end) == ([b"lasting", b"going on"], 3)
    assert follower.glance(followed, 0, 3, 10).counts == {"t": 2}


def test_a_stream_keeps_no_message_with_an_end_for_those_who_come_later(path, reader, mixture):
    async def read_twice():
        source = StreamSource(SqliteFollower(reader))
        first = await source.messages(Followed("t"), 0, 3)
        ask(path, "UPDATE expirations SET expires_at = ? WHERE seq = 3", OVER)
        later = await source.messages(Followed("t"), 0, 3)
        source.close()
        return [b"going on" in b"".join(p.data for p in each.pieces) for each in (first, later)]

    assert asyncio.run(read_twice()) == [True, False]


@pytest.mark.parametrize("wanted", [EVERYTHING, MessageFilter(topics=("t",))])
def test_an_endpoint_gets_no_message_that_is_over(path, mixture, wanted):
    deliveries = SqliteDeliveries(path)
    part = deliveries.part(wanted, 0, 3, 10, 10**6)
    assert (bodies(part.rows), part.end) == ([b"lasting", b"going on"], 3)
    assert sorted(bodies(deliveries.messages([1, 2, 3]))) == [b"going on", b"lasting"]


def test_a_subscription_gets_no_message_that_is_over_not_even_once_more(path, reader, mixture):
    subscriptions = SqliteSubscriptions(path, reader)
    store(path, one(b"soon over", FAR, "u"))
    row = SubscriptionRow("s", ("*",), 1, 5, LONG_AGO)
    subscriptions.create(row, "", DEED)
    puller = SqlitePuller(path, reader)
    (first,) = puller.serve([Receive("s", ("*",), 10, None)])
    assert [each.message.body for each in first.messages] == [
        b"lasting", b"going on", b"soon over",
    ]  # fmt: skip
    ask(path, "UPDATE expirations SET expires_at = ? WHERE seq = 4", OVER)
    again = []
    while len(again) < 2:  # until the leases are over
        (received,) = puller.serve([Receive("s", ("*",), 10, None)])
        again += [each.message.body for each in received.messages]
    assert again == [b"lasting", b"going on"]
    assert subscriptions.counts("s").waiting == 0


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
