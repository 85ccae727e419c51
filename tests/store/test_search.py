"""Searches: what a filter finds among stored messages, in which order, and how far it comes."""

import pytest
from store_contents import TIME, many, one

from appliance.errors import SlowReadError
from appliance.model.conditions import parse_condition
from appliance.model.search_words import parse_words
from appliance.store.filters import MessageFilter
from appliance.store.rows import Span
from appliance.store.sql import search_range

BODIES = [
    b'{"device": "t-6", "temp": 18.5, "n": 42, "tags": ["new", 7], "customer": {"id": 42}}',
    b'{"device": "t-7", "temp": -3, "n": "42", "items": [{"sku": "a\\"b"}], "ok": true, "x": null}',
    b'{"n": 9007199254740993, "customer": {"id": 9223372036854775808}, "ok": "true"}',
    b'{"n": 9007199254740992, "customer": {"id": 9223372036854775809}, "at": "2026-02-01"}',
    b'{"device": 1}{bad',
    b"not JSON, device t-6 temp 18.5",
    b"\xff\xfe binary device",
    b"42",
    b'{"text": "Die Stra\\u00dfe in M\\u00fcnchen\\nTimeout card declined"}',
    "Straße, MÜNCHEN: card, timeout 🎉".encode(),
]  # fmt: skip


@pytest.fixture
def reader(store, writer):
    writer.store([one(body, "t") for body in BODIES])
    return store.reader


def places(found):
    """The places in BODIES of what was found."""
    return [BODIES.index(row.body) for row in found.rows]


def search(reader, *, q=None, where=(), span=None, limit=100, **filters):
    return reader.find(
        MessageFilter(
            words=None if q is None else parse_words(q),
            where=tuple(map(parse_condition, where)),
            **filters,
        ),
        span or Span(after=0),
        limit,
    )


CONDITIONS = [
    ("n=42", [0, 1]),
    ('n="42"', [1]),
    ("n!=42", [2, 3]),
    ("n=42.0", [0]),
    ("temp>-4", [0, 1]),
    ("temp>=18.5", [0]),
    ("temp<0", [1]),
    ("temp<=-3", [1]),
    ("n>=9007199254740993", [2]),
    ("n=9007199254740992", [3]),
    ("customer.id=9223372036854775808", [2]),
    ("customer.id>9223372036854775808", [3]),
    ("customer.id<9223372036854775808", [0]),
    ("customer.id=9223372036854775807", []),
    ("customer.id>=1e3", [2, 3]),
    ("device>t-6", [1]),
    ("at>=2026-01-31", [3]),
    ("at<2026-01-31", []),
    ("device exists", [0, 1]),
    ("x exists", [1]),
    ("x=null", [1]),
    ("ok=true", [1, 2]),
    ('ok="true"', [2]),
    ("ok!=true", []),
    ("device contains t-", [0, 1]),
    ("device~6", [0]),
    ("tags contains new", [0]),
    ("tags contains 7", [0]),
    ("tags contains ne", []),
    ("customer contains id", []),
    ("items[0].sku exists", [1]),
    ('items[0].sku="a\\"b"', [1]),
    ('["device"]=t-6', [0]),
    ("device=", []),
    ("device='t-6' OR 1=1", []),
    ("nothing.here!=1", []),
    ("n>=1e999999", []),
    ("n<1e999999", [0, 2, 3]),
]


# One test for all of them: a database for each would take ten seconds.
def test_a_condition_finds_values_of_json_bodies_and_no_other_body(reader):
    found = [(text, places(search(reader, where=[text]))) for text, _ in CONDITIONS]
    assert found == CONDITIONS


def test_conditions_and_words_must_all_be_fulfilled(reader):
    assert places(search(reader, where=["n=42", "temp>0"])) == [0]
    assert places(search(reader, where=["n=42"], q="t-7")) == [1]
    assert places(search(reader, q="device", kind="text")) == [4, 5]


@pytest.mark.parametrize(
    ("kind", "expected"), [("json", [0, 1, 2, 3, 7, 8]), ("text", [4, 5, 9]), ("binary", [6])]
)
def test_a_kind_is_json_or_other_text_or_bytes(reader, kind, expected):
    assert places(search(reader, kind=kind)) == expected


SEARCHES = [
    ("device", [0, 1, 4, 5]),
    ("t-6", [0, 5]),
    ("munchen STRASSE", []),
    ("münchen straße", [8, 9]),
    ("MUNCHEN", [8, 9]),
    ('"card declined"', [8]),
    ("card declined", [8]),
    ("timeout -declined", [9]),
    ('timeout -"card declined"', [9]),
    ("time*", [8, 9]),
    ("time", []),
    ("🎉", [9]),
    ("card -🎉", [8]),
    ("-device -n", [7, 8, 9]),
    ('"', [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
    ("NEAR(card AND", []),
    ("x" * 10_000, []),
    ("' OR 1=1 --", []),
    ("device\0", [0, 1, 4, 5]),
]


def test_any_text_is_a_search(reader):
    found = [(text, places(search(reader, q=text))) for text, _ in SEARCHES]
    assert found == SEARCHES


def test_a_search_comes_newest_first_and_with_after_oldest_first(reader):
    assert places(search(reader, q="device", span=Span())) == [5, 4, 1, 0]
    found = search(reader, q="device", span=Span(), limit=2)
    assert (places(found), found.more, found.is_complete) == ([5, 4], True, True)
    found = search(reader, q="device", span=Span(before=found.reached), limit=2)
    assert (places(found), found.more) == ([1, 0], False)
    found = search(reader, q="device", limit=3)
    assert places(found) == [0, 1, 4]
    assert places(search(reader, q="device", span=Span(after=found.reached))) == [5]


def test_a_search_finds_only_topics_that_are_asked_for_and_may_be_read(reader, writer):
    writer.store([many([b"device"] * 3, "orders.eu"), many([b"device"] * 2, "orders.us")])

    def topics(**filters):
        return [row.topic for row in search(reader, q="device", span=Span(), **filters).rows]

    assert topics(topics=("orders.us",)) == ["orders.us"] * 2
    assert topics(topics=("orders.*",)) == ["orders.us"] * 2 + ["orders.eu"] * 3
    assert topics(patterns=("orders.eu", "none")) == ["orders.eu"] * 3
    assert topics(topics=("orders.us", "t"), patterns=("t",)) == ["t"] * 4
    assert topics(patterns=()) == []
    assert topics(topics=("orders.us",), patterns=("t",)) == []
    everything = [row.topic for row in search(reader, span=Span()).rows]
    assert everything == ["orders.us"] * 2 + ["orders.eu"] * 3 + ["t"] * len(BODIES)


def test_a_search_finds_topics_where_there_are_more_than_it_reads_side_by_side(store, writer):
    names = [f"many.{n:03}" for n in range(search_range.MOST_TOPICS + 5)]
    writer.store([one(b"x", name) for name in names])
    found = search(store.reader, topics=("many.*",), patterns=("*.00*",))
    assert [row.topic for row in found.rows] == names[:10]


def test_a_search_is_bounded_in_bytes_and_has_one_row_at_least(store, writer):
    writer.store([many([b"x" * 1000] * 10, "t")])
    wanted = MessageFilter(kind="text")
    assert len(store.reader.find(wanted, Span(), 10, max_bytes=3500).rows) == 3
    assert len(store.reader.find(wanted, Span(), 10, max_bytes=1).rows) == 1


def test_a_search_whose_time_is_over_says_how_far_it_came_and_goes_on_there(
    store, writer, monkeypatch
):
    writer.store([many([b"%d" % n for n in range(1000)], "t")])
    monkeypatch.setattr(search_range, "FIND_SECONDS", -0.5)
    wanted = MessageFilter(where=(parse_condition("a=1"),))
    span, rounds = Span(), 0
    while True:
        found = store.reader.find(wanted, span, 10)
        rounds += 1
        assert not found.rows
        if not found.more:
            break
        assert not found.is_complete
        assert span.before is None or found.reached < span.before
        span = Span(before=found.reached)
    assert rounds > 10


def test_a_search_that_can_look_at_nothing_in_its_time_is_an_error(store, writer, monkeypatch):
    writer.store([one(b'{"a": [' + b"1," * 100_000 + b"1]}", "t")])
    monkeypatch.setattr(search_range, "FIND_SECONDS", -search_range.PATIENCE)
    condition = parse_condition("a contains 2")
    with pytest.raises(SlowReadError, match="ask for one topic"):
        store.reader.find(MessageFilter(where=(condition,)), Span(), 10)
    monkeypatch.undo()
    assert len(store.reader.find(MessageFilter(where=(condition,)), Span(), 10).rows) == 0


def test_times_bound_a_search(reader):
    assert len(search(reader, since=TIME).rows) == len(BODIES)
    assert search(reader, until=TIME).rows == []


def test_pieces_of_a_search_are_all_that_it_finds(store, writer, monkeypatch):
    writer.store([many([b'{"n": %d}' % (n % 3) for n in range(900)], "t")])
    wanted = MessageFilter(where=(parse_condition("n=1"),))
    assert len([r for rows in store.reader.find_pieces(wanted, Span()) for r in rows]) == 300
    assert len([r for rows in store.reader.find_pieces(wanted, Span(), 70) for r in rows]) == 70
    monkeypatch.setattr(search_range, "FIND_SECONDS", -0.5)
    rows = [r for rows in store.reader.find_pieces(wanted, Span(after=0)) for r in rows]
    assert len({row.id for row in rows}) == len(rows) == 300
