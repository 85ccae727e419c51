"""Messages with an end on every engine: no reader, stream, endpoint or subscription gets one."""

import asyncio

import pytest
from own_sql import by_sql

from appliance.api.stream.source import StreamSource
from appliance.model.ids import IdSource
from appliance.model.wire import single
from appliance.store.access_rows import Actor, Deed
from appliance.store.filters import MessageFilter
from appliance.store.rows import Followed, Span, Window
from appliance.store.subscription_rows import Receive, SubscriptionRow

IDS = IdSource()
DEED = Deed(Actor("administrator", "127.0.0.1"), "subscription-create", "s")
LONG_AGO = "2026-01-01T00:00:00.000Z"
OVER = "2026-01-02T00:00:00.000Z"
FAR = "2099-01-01T00:00:00.000Z"
EVERYTHING = MessageFilter(topics=("*",))


@pytest.fixture
def reader(store):
    return store.reader


def one(body, expires_at=None, topic="t"):
    meta = f'{{"via":"http","expires_at":"{expires_at}"}}' if expires_at else None
    envelope = single(topic, IDS.new(), LONG_AGO, body, None, meta)
    object.__setattr__(envelope, "expires_at", expires_at)
    return envelope


def bodies(rows):
    return [row.body for row in rows]


@pytest.fixture
def mixture(writer):
    """One message that is over, between one without an end and one that goes on."""
    writer.store([one(b"lasting"), one(b"over", OVER), one(b"going on", FAR)])


@pytest.mark.parametrize("order", ["newest first", "in order"])
def test_the_list_of_a_topic_leaves_out_a_message_that_is_over(reader, mixture, order):
    window = Window("t", after=0) if order == "in order" else Window("t")
    assert sorted(bodies(reader.page(window, 10).rows)) == [b"going on", b"lasting"]


def test_an_export_leaves_out_a_message_that_is_over(reader, mixture):
    rows = [row for piece in reader.pieces(Window("t", after=0)) for row in piece]
    found = [row for piece in reader.find_pieces(EVERYTHING, Span(after=0)) for row in piece]
    assert bodies(rows) == bodies(found) == [b"lasting", b"going on"]


def test_a_message_that_is_over_is_not_found_by_its_id(config, reader, mixture):
    ids = dict(by_sql(config, "SELECT body, id FROM messages"))
    assert reader.message(ids["over"]) is None
    assert reader.message(ids["going on"]) is not None


@pytest.mark.parametrize(
    "wanted", [EVERYTHING, MessageFilter(topics=("t",)), MessageFilter(topics=("t",), kind="text")]
)
def test_a_search_leaves_out_a_message_that_is_over(reader, mixture, wanted):
    assert bodies(reader.find(wanted, Span(), 10).rows) == [b"going on", b"lasting"]


@pytest.mark.parametrize("followed", [Followed(), Followed("t"), Followed(None, (("t*",),))])
def test_a_stream_leaves_out_a_message_that_is_over(store, mixture, followed):
    follower = store.follower
    part = follower.part(followed, 0, follower.end())
    assert (bodies(part.rows), part.end) == ([b"lasting", b"going on"], 3)
    assert follower.glance(followed, 0, 3, 10).counts == {"t": 2}


def test_a_stream_keeps_no_message_with_an_end_for_those_who_come_later(config, store, mixture):
    async def read_twice():
        source = StreamSource(store.follower)
        first = await source.messages(Followed("t"), 0, 3)
        by_sql(config, "UPDATE expirations SET expires_at = ? WHERE seq = 3", (OVER,))
        later = await source.messages(Followed("t"), 0, 3)
        source.close()
        return [b"going on" in b"".join(p.data for p in each.pieces) for each in (first, later)]

    assert asyncio.run(read_twice()) == [True, False]


@pytest.mark.parametrize("wanted", [EVERYTHING, MessageFilter(topics=("t",))])
def test_an_endpoint_gets_no_message_that_is_over(store, mixture, wanted):
    deliveries = store.deliveries
    part = deliveries.part(wanted, 0, 3, 10, 10**6)
    assert (bodies(part.rows), part.end) == ([b"lasting", b"going on"], 3)
    assert sorted(bodies(deliveries.messages([1, 2, 3]))) == [b"going on", b"lasting"]


def test_a_subscription_gets_no_message_that_is_over_not_even_once_more(
    config, store, writer, mixture
):
    subscriptions = store.subscriptions
    writer.store([one(b"soon over", FAR, "u")])
    row = SubscriptionRow("s", ("*",), 1, 5, LONG_AGO)
    subscriptions.create(row, "", DEED)
    puller = store.puller
    (first,) = puller.serve([Receive("s", ("*",), 10, None)])
    assert [each.message.body for each in first.messages] == [
        b"lasting", b"going on", b"soon over",
    ]  # fmt: skip
    by_sql(config, "UPDATE expirations SET expires_at = ? WHERE seq = 4", (OVER,))
    again = []
    while len(again) < 2:  # until the leases are over
        (received,) = puller.serve([Receive("s", ("*",), 10, None)])
        again += [each.message.body for each in received.messages]
    assert again == [b"lasting", b"going on"]
    assert subscriptions.counts("s").waiting == 0
