"""Replays: what a selection comes to, where it stands, and copies that become rows once each."""

import json
from dataclasses import replace

import pytest
from replaying import BY, asked
from replaying import REPLAY_DEED as DEED
from store_contents import IDS, many, one

from appliance.cli import exploring
from appliance.errors import InputError, LimitError
from appliance.model import timestamps
from appliance.model.seq_parts import PART, seq_parts, seqs_of
from appliance.model.topics import CANARY_TOPIC
from appliance.model.wire import single
from appliance.replay_copier import copies
from appliance.store.endpoint_rows import (
    GIVEN_UP,
    WAITING,
    DeliveryOutcome,
    DueRow,
    EndpointRow,
    EndpointStanding,
)
from appliance.store.own_queries import SECRET_TABLES
from appliance.store.replay_rows import (
    DONE,
    FAILED,
    RUNNING,
    STOPPED,
    ReplaySelection,
    ReplayStanding,
)
from appliance.store.rows import Span

NEWEST = Span()


def seqs(store, selection):
    """Every seq that a replay of a selection reads, by pieces of two."""
    row = asked(store, selection)
    work = next(each for each in works(store) if each.id == row.id)
    found, after = [], row.cursor
    while after < row.until:
        part = store.replays.part(work, after, 2, 2**20)
        found += [each.seq for each in part.rows]
        assert part.end > after
        after = part.end
    return found


def works(store):
    work = store.replays.next_copy()
    return [work] if work else []


def copied(store, writer, size=100):
    """Copy what is left of the replays to topics; return how many pieces that took."""
    pieces = 0
    while work := store.replays.next_copy():
        writer.store([copies(work, store.replays.part(work, work.cursor, size, 2**20))])
        pieces += 1
    return pieces


@pytest.fixture
def filled(store, writer):
    """Ten messages: seq 1 to 6 of `orders.eu`, 7 of the canary, 8 to 10 of `other`."""
    writer.store([many([b'{"n":%d}' % n for n in range(1, 7)], "orders.eu")])
    writer.store([one(b"canary", CANARY_TOPIC)])
    late = "2026-03-01T00:00:00.000Z"
    writer.store([many([b"plain words", b'{"n":9}', b"\0\xff"], "other", late)])
    return store


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ({}, [1, 2, 3, 4, 5, 6, 8, 9, 10]),
        ({"topics": ("orders.*",)}, [1, 2, 3, 4, 5, 6]),
        ({"topics": ("other",), "kind": "json"}, [9]),
        ({"topics": ("orders.eu", "other"), "where": ("n>=5",)}, [5, 6, 9]),
        ({"first_seq": 3, "last_seq": 8}, [3, 4, 5, 6, 8]),
        ({"since": "2026-02-01T00:00:00.000Z"}, [8, 9, 10]),
        ({"until": "2026-02-01T00:00:00.000Z"}, [1, 2, 3, 4, 5, 6]),
        ({"q": "words"}, [8]),
        ({"sql": "SELECT seq FROM messages WHERE topic = 'other' ORDER BY body"}, [8, 9, 10]),
        ({"sql": "SELECT seq FROM messages"}, [1, 2, 3, 4, 5, 6, 8, 9, 10]),
        ({"sql": "VALUES (3), (1), (3), (99), (7)"}, [1, 3]),
        ({"sql": "-- mine\nWITH x AS (SELECT 4 AS s) SELECT s FROM x; "}, [4]),
        ({"sql": "SELECT 1 WHERE 1 = 0"}, []),
    ],
)  # fmt: skip
def test_a_selection_is_counted_and_read_in_the_order_of_storing(filled, selection, expected):
    chosen = ReplaySelection(**selection)
    choice = filled.replays.choose(chosen)
    assert (choice.messages, choice.is_complete) == (len(expected), True)
    assert seqs(filled, chosen) == expected


def test_a_selection_ends_where_storing_was_when_it_was_made(filled, writer):
    row = asked(filled)
    writer.store([one(b"later")])
    copied(filled, writer)
    assert filled.replays.find(row.id).sent == 9


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("DELETE FROM messages", "begins with SELECT or WITH"),
        ("", "begins with SELECT or WITH"),
        ("WITH x AS (SELECT 1) DELETE FROM messages", "syntax error"),
        ("SELECT 1) UNION SELECT seq FROM (DELETE FROM messages", "syntax error"),
        ("SELECT seq, id FROM messages", "one column.*has 2"),
        ("SELECT length(secret) FROM endpoint_secrets", "only read, and nothing of tokens"),
        ("SELECT (SELECT length(digest) FROM Tokens)", "only read, and nothing of tokens"),
        ("SELECT " + "1 + " * 3000 + "1", "at most 10000 characters"),
    ],
)
def test_a_query_that_is_not_one_for_numbers_is_refused_in_words(filled, sql, words):
    with pytest.raises(InputError, match=rf"(?s)sql: .*{words}"):
        filled.replays.choose(ReplaySelection(sql=sql))
    assert filled.reader.totals().messages == 10


def test_a_query_that_finds_too_many_is_refused(filled, monkeypatch):
    monkeypatch.setattr("appliance.store.own_queries.MOST_FOUND", 3)
    with pytest.raises(InputError, match="more than 3 messages"):
        filled.replays.choose(ReplaySelection(sql="SELECT seq FROM messages"))


def test_a_query_reads_no_table_that_datasette_is_denied():
    tables = exploring.metadata()["databases"]["appliance"]["tables"]
    denied = {name for name, table in tables.items() if table.get("allow") is False}
    assert denied == SECRET_TABLES


def test_numbers_are_kept_in_parts_that_give_them_back():
    numbers = [*range(1, 10_000), 10**12, 10**12 + 5]
    parts = list(seq_parts(iter(numbers)))
    assert [each.numbers for each in parts] == [PART, PART, len(numbers) - 2 * PART]
    assert [seq for each in parts for seq in seqs_of(each.packed)] == numbers
    assert [each.last for each in parts][-1] == 10**12 + 5
    for broken in (b"", b"x", parts[0].packed[:-20]):
        with pytest.raises(ValueError, match="no part"):
            seqs_of(broken)


def test_a_replay_is_what_was_asked_and_who_asked(filled):
    selection = ReplaySelection(topics=("orders.*",), where=("n=1",), kind="json", q="n")
    made = asked(filled, selection)
    assert filled.replays.find(made.id) == made
    assert (made.selection, made.by, made.state, made.messages) == (selection, BY, RUNNING, 1)
    assert filled.replays.newest(10) == [made]
    assert filled.replays.find("none") is None
    (entry,) = [each for each in filled.access.audit(NEWEST, 10) if each.action == DEED.action]
    assert entry.target == "again"


def test_copies_keep_what_came_and_say_where_they_are_from(store, writer):
    kept = replace(
        single("shop", IDS.new(), "2026-01-02T03:04:05.678Z", b"\0\xff"),
        content_type="image/png",
        meta='{"via":"http","headers":{"x-kind":"a"}}',
    )
    writer.store([kept, one(b"text", "shop")])
    row = asked(store, ReplaySelection(topics=("shop",)))
    copied(store, writer)
    first, second = [store.reader.message(each) for each in ids_of(store, "again")]
    assert (first.body, first.text, first.content_type) == (b"\0\xff", 0, "image/png")
    assert json.loads(first.meta) == {
        "via": "http",
        "headers": {"x-kind": "a"},
        "replay": {
            "id": row.id, "of": kept.id, "topic": "shop",
            "received_at": "2026-01-02T03:04:05.678Z",
        },
    }  # fmt: skip
    assert (second.body, second.text) == (b"text", 1)
    assert second.received_at > "2026-06"


@pytest.mark.parametrize("broken", ["no JSON", "[]", '{"headers":1,"x":"%s"}' % ("x" * 8150)])
def test_a_copy_of_a_message_whose_meta_can_not_be_kept_says_where_it_is_from(
    store, writer, broken, by_hand
):
    writer.store([one(b"x", "shop")])
    by_hand("UPDATE messages SET meta = ?", (broken,))
    asked(store, ReplaySelection(topics=("shop",)))
    copied(store, writer)
    (copy,) = [store.reader.message(each) for each in ids_of(store, "again")]
    assert list(json.loads(copy.meta)) == ["replay"]


def ids_of(store, topic):
    with store.reader.reading() as link:
        query = "SELECT id FROM messages WHERE topic = ? ORDER BY seq"
        return [row[0] for row in link.execute(query, (topic,))]


def test_a_piece_that_two_workers_copy_becomes_rows_once(filled, writer):
    row = asked(filled)
    work = filled.replays.next_copy()
    piece = copies(work, filled.replays.part(work, work.cursor, 4, 2**20))
    writer.store([piece])
    writer.store([piece])
    found = filled.replays.find(row.id)
    assert (found.cursor, found.sent, found.state) == (4, 4, RUNNING)
    assert copied(filled, writer, 4) == 2
    found = filled.replays.find(row.id)
    assert (found.cursor, found.sent, found.state) == (10, 9, DONE)
    assert found.ended_at
    assert len(ids_of(filled, "again")) == 9
    assert filled.reader.totals().messages == 19


def test_a_stopped_replay_copies_nothing_and_goes_on_where_it_was(filled, writer):
    row = asked(filled, ReplaySelection(sql="SELECT seq FROM messages"))
    work = filled.replays.next_copy()
    piece = copies(work, filled.replays.part(work, work.cursor, 4, 2**20))
    stopped = filled.replays.set_state(row.id, RUNNING, STOPPED, DEED)
    assert stopped.state == STOPPED
    writer.store([piece])
    assert filled.replays.next_copy() is None
    assert ids_of(filled, "again") == []
    assert filled.replays.set_state(row.id, STOPPED, RUNNING, DEED).state == RUNNING
    copied(filled, writer, 4)
    assert filled.replays.find(row.id).state == DONE
    assert len(ids_of(filled, "again")) == 9
    assert filled.replays.set_state(row.id, RUNNING, STOPPED, DEED).state == DONE
    assert filled.replays.set_state("none", RUNNING, STOPPED, DEED) is None


def test_a_replay_into_a_topic_that_it_selects_from_ends(filled, writer):
    asked(filled, target="orders.eu")
    assert copied(filled, writer) == 1
    assert len(ids_of(filled, "orders.eu")) == 6 + 9


def test_messages_that_are_gone_are_counted(filled, writer, by_hand):
    row = asked(filled, ReplaySelection(sql="SELECT seq FROM messages"))
    work = filled.replays.next_copy()._replace(until=10)
    with filled.reader.reading() as link:
        assert link.execute("SELECT count(*) FROM replay_parts").fetchone() == (1,)
    by_hand("DELETE FROM messages WHERE topic = 'other'")
    writer.store([copies(work, filled.replays.part(work, work.cursor, 100, 2**20))])
    found = filled.replays.find(row.id)
    assert (found.sent, found.gone, found.state, found.messages) == (6, 3, DONE, 9)
    with filled.reader.reading() as link:  # what is done needs its numbers no more
        assert link.execute("SELECT count(*) FROM replay_parts").fetchone() == (0,)


def test_a_selection_that_someone_broke_by_sql_selects_nothing(filled, writer, by_hand):
    row = asked(filled)
    by_hand("UPDATE replays SET selection = '{'")
    copied(filled, writer)
    assert filled.replays.find(row.id).state == DONE
    assert filled.reader.totals().messages == 10


def test_too_many_replays_at_once_are_refused(filled, monkeypatch):
    monkeypatch.setattr("appliance.store.sql.replay_admin.MAX_OPEN", 1)
    asked(filled)
    with pytest.raises(LimitError, match="not done yet"):
        asked(filled)


@pytest.fixture
def endpoint(filled):
    row = EndpointRow(
        name="shop", url="https://shop.example/", topics=("*",), created_at=timestamps.now(),
        changed_at=timestamps.now(),
    )  # fmt: skip
    return filled.endpoints.create(row, ["whsec_x"], {}, None, DEED)


def outcome(endpoint, *standings, **more):
    return DeliveryOutcome(
        standings={endpoint.id: EndpointStanding(10)}, replays=list(standings), **more
    )


def due(endpoint, seq, state, replay=None):
    at = 110.0 if state == WAITING else None
    return DueRow(
        0, endpoint.id, seq, f"id-{seq}", "t", state, 1, 100.0, at, 500, "answered 500", replay
    )


def test_a_replay_to_an_endpoint_stands_as_deliveries_say(filled, endpoint):
    row = asked(filled, target="shop", endpoint=endpoint.id)
    assert filled.replays.next_copy() is None
    (work,) = filled.deliveries.replays()
    assert (work.id, work.endpoint, work.cursor, work.until) == (row.id, endpoint.id, 0, 10)
    part = filled.deliveries.replay_part(work, 0, 3, 2**20)
    assert [each.seq for each in part.rows] == [1, 2, 3]
    filled.deliveries.store(
        outcome(
            endpoint,
            ReplayStanding(row.id, 4, sent=2, gone=1),
            due=[due(endpoint, 3, WAITING, row.id), due(endpoint, 4, GIVEN_UP, row.id)],
        )
    )
    found = filled.replays.find(row.id)
    assert (found.cursor, found.sent, found.gone) == (4, 2, 1)
    assert (found.waiting, found.given_up) == (1, 1)
    filled.deliveries.store(
        outcome(
            endpoint, ReplayStanding(row.id, sent=1), ReplayStanding(row.id, 10, is_done=True)
        )
    )  # fmt: skip
    found = filled.replays.find(row.id)
    assert (found.cursor, found.sent, found.state) == (10, 3, DONE)
    assert filled.deliveries.replays() == []


def test_a_message_that_was_given_up_is_no_more_once_a_replay_delivered_it(filled, endpoint):
    filled.deliveries.store(
        outcome(endpoint, due=[due(endpoint, n, GIVEN_UP) for n in (1, 2)]),
    )
    filled.deliveries.store(outcome(endpoint, resolved=[(endpoint.id, 2), (endpoint.id, 3)]))
    assert [each.seq for each in filled.endpoints.due("shop", None, NEWEST, 10)] == [1]


def test_a_message_that_fails_again_by_a_replay_has_its_whole_lifetime_again(filled, endpoint):
    filled.deliveries.store(outcome(endpoint, due=[due(endpoint, 1, GIVEN_UP)]))
    again = due(endpoint, 1, WAITING, "a-replay")._replace(first_at=500.0, due_at=505.0)
    filled.deliveries.store(outcome(endpoint, due=[again]))
    (row,) = filled.endpoints.due("shop", None, NEWEST, 10)
    assert (row.state, row.first_at, row.due_at, row.replay) == (WAITING, 500.0, 505.0, "a-replay")


def test_the_replays_of_an_endpoint_end_with_it(filled, endpoint):
    done = asked(filled, target="shop", endpoint=endpoint.id)
    filled.deliveries.store(outcome(endpoint, ReplayStanding(done.id, 10, is_done=True)))
    row = asked(filled, target="shop", endpoint=endpoint.id)
    assert filled.endpoints.remove("shop", DEED)
    found = filled.replays.find(row.id)
    assert (found.state, found.reason) == (FAILED, "the endpoint was removed")
    assert found.ended_at[:4] == found.created_at[:4]
    assert filled.replays.find(done.id).state == DONE
