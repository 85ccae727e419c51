"""Delayed messages in a real database: they wait, become rows once, and can be cancelled."""

import random
import sqlite3

import pytest

from appliance.model.contents import DelayedEnvelope, DueMessages
from appliance.model.ids import IdSource
from appliance.model.wire import Message, batch, pack, single
from appliance.store.access_rows import Actor, Deed
from appliance.store.sqlite.delayed import SqliteDelayed
from appliance.store.sqlite.migrations import migrate
from appliance.store.sqlite.reader import SqliteReader
from appliance.store.sqlite.writer import SqliteWriter

IDS = IdSource()
THEN = "2026-01-01T00:00:00.000Z"
DUE = "2026-01-02T00:00:00.000Z"
LATER = "2026-01-03T00:00:00.000Z"
DEED = Deed(Actor("administrator", "127.0.0.1"), "delayed-cancel", "")


@pytest.fixture
def path(tmp_path):
    migrate(tmp_path / "appliance.db")
    return tmp_path / "appliance.db"


@pytest.fixture
def delayed(path):
    reader = SqliteReader(path)
    yield SqliteDelayed(path, reader)
    reader.close()


def store(path, *contents):
    writer = SqliteWriter(path)
    try:
        writer.store(contents)
    finally:
        writer.close()


def ask(path, sql, *values):
    link = sqlite3.connect(path)
    try:
        return link.execute(sql, values).fetchall()
    finally:
        link.close()


def later(envelope, due_at=DUE):
    object.__setattr__(envelope, "due_at", due_at)
    return DelayedEnvelope(envelope)


def one(body=b"hello", due_at=DUE, topic="t", **of):
    return later(single(topic, of.pop("name", IDS.new()), THEN, body, **of), due_at)


def test_a_delayed_message_is_no_row_before_it_is_due(path, delayed):
    store(path, one())
    assert not delayed.is_any_due(THEN)
    store(path, DueMessages(THEN))
    assert ask(path, "SELECT count(*) FROM messages") == [(0,)]
    assert delayed.count() == 1


@pytest.mark.parametrize("body", [b"hello", "gr\u00fc\u00df".encode(), b"\0\xff"])
def test_a_delayed_message_becomes_one_row_with_its_bytes_when_it_is_due(path, delayed, body):
    content = one(body, content_type="text/x", meta='{"via":"http"}')
    store(path, content)
    assert delayed.is_any_due(DUE)
    store(path, DueMessages(LATER))
    (row,) = ask(path, "SELECT id, topic, CAST(body AS BLOB), content_type, received_at, "
                       "meta ->> 'via', meta ->> 'accepted_at' FROM messages")  # fmt: skip
    assert row == (content.envelope.id, "t", body, "text/x", LATER, "http", THEN)
    assert delayed.count() == 0
    assert not delayed.is_any_due(LATER)
    assert ask(path, "SELECT topic, messages, bytes FROM topics") == [("t", 1, len(body))]


def test_delayed_messages_of_a_batch_keep_their_ids_and_their_order(path):
    envelope = batch("t", IDS.prefix(), THEN, [b"a", b"b", b"c"])
    store(path, later(envelope))
    store(path, DueMessages(DUE))
    rows = ask(path, "SELECT id, body FROM messages ORDER BY seq")
    assert [body for _, body in rows] == ["a", "b", "c"]
    assert rows[0][0] == envelope.id


def test_messages_that_are_due_first_are_stored_first(path):
    bodies = {b"third": LATER, b"first": THEN, b"second": DUE}
    store(path, *(one(body, at) for body, at in bodies.items()))
    store(path, DueMessages(LATER))
    assert ask(path, "SELECT body FROM messages ORDER BY seq") == [
        ("first",), ("second",), ("third",),
    ]  # fmt: skip


def test_a_delayed_message_that_comes_again_is_kept_once(path, delayed):
    content = one()
    store(path, content)
    store(path, content)
    assert delayed.count() == 1
    store(path, DueMessages(DUE))
    store(path, content)
    store(path, DueMessages(DUE))
    assert ask(path, "SELECT count(*) FROM messages") == [(1,)]
    assert ask(path, "SELECT count(*) FROM dead_letters") == [(0,)]


def test_another_body_with_the_id_of_a_delayed_message_is_a_dead_letter(path):
    content = one()
    store(path, content)
    store(path, one(b"another", name=content.envelope.id))
    store(path, DueMessages(DUE))
    assert ask(path, "SELECT body FROM messages") == [("hello",)]
    assert ask(path, "SELECT body, reason FROM dead_letters") == [(b"another", "conflict")]


def test_a_cancelled_message_never_becomes_a_row_not_even_if_it_comes_again(path, delayed):
    content = one()
    store(path, content)
    assert delayed.cancel(content.envelope.id, DEED)
    assert not delayed.cancel(content.envelope.id, DEED)
    assert delayed.find(content.envelope.id) is None
    assert (delayed.count(), delayed.page(("", 0), 10)) == (0, [])
    store(path, content)
    store(path, DueMessages(LATER))
    assert ask(path, "SELECT count(*) FROM messages") == [(0,)]
    assert ask(path, "SELECT action FROM audit WHERE action = 'delayed-cancel'") == [
        ("delayed-cancel",)
    ]


def test_the_id_of_a_cancelled_message_is_forgotten_after_a_day(path, delayed):
    content = one()
    store(path, content)
    delayed.cancel(content.envelope.id, DEED)
    far = "9999-01-01T00:00:00.000Z"
    assert delayed.is_any_due(far)
    store(path, DueMessages(far))
    assert ask(path, "SELECT count(*) FROM delayed_messages") == [(0,)]


def test_a_delayed_message_that_a_trigger_refuses_becomes_a_dead_letter(path, delayed):
    store(path, one(b"bad"), one(b"good"))
    link = sqlite3.connect(path)
    link.execute(
        "CREATE TRIGGER no BEFORE INSERT ON messages WHEN new.body = 'bad' BEGIN "
        "SELECT RAISE(ABORT, 'not this one'); END"
    )
    link.close()
    store(path, DueMessages(DUE))
    assert ask(path, "SELECT body FROM messages") == [("good",)]
    assert ask(path, "SELECT body, reason, error FROM dead_letters") == [
        (b"bad", "unstorable", "not this one")
    ]
    assert delayed.count() == 0


def test_a_trigger_that_ends_the_transaction_loses_no_delayed_message(path, delayed):
    store(path, one(b"bad"), one(b"good"))
    link = sqlite3.connect(path)
    link.execute(
        "CREATE TRIGGER no BEFORE INSERT ON messages WHEN new.body = 'bad' BEGIN "
        "SELECT RAISE(ROLLBACK, 'all of it'); END"
    )
    link.close()
    store(path, DueMessages(DUE))
    assert ask(path, "SELECT body FROM messages") == [("good",)]
    assert ask(path, "SELECT body, reason FROM dead_letters") == [(b"bad", "unstorable")]
    assert delayed.count() == 0


def test_a_message_of_a_delayed_batch_that_failed_a_check_is_a_dead_letter_at_once(path, delayed):
    messages = [
        Message(IDS.new(), THEN, b"good"),
        Message(IDS.new(), THEN, b"bad", dead=("schema", "it does not fit")),
    ]
    store(path, later(pack("t", messages, 7)))
    assert delayed.count() == 1
    assert ask(path, "SELECT body, reason FROM dead_letters") == [(b"bad", "schema")]


def test_an_envelope_that_can_t_be_read_is_a_dead_letter_though_it_is_delayed(path, delayed):
    envelope = pack("t", [Message(IDS.new(), THEN, b"x"), Message(IDS.new(), THEN, b"y")], 2)
    object.__setattr__(envelope, "body", b"[nonsense")
    store(path, later(envelope))
    assert delayed.count() == 0
    assert ask(path, "SELECT body, reason FROM dead_letters") == [(b"[nonsense", "undecodable")]


def test_many_due_messages_become_rows_in_several_transactions(path, delayed):
    lines = [b"%d" % number for number in range(2500)]
    store(path, later(batch("t", IDS.prefix(), THEN, lines)))
    steps = 0
    while delayed.is_any_due(DUE):
        store(path, DueMessages(DUE))
        steps += 1
    assert steps == 3
    assert ask(path, "SELECT body FROM messages ORDER BY seq") == [
        (line.decode(),) for line in lines
    ]


def test_large_due_messages_become_rows_a_few_at_a_time(path, delayed):
    for _ in range(3):
        store(path, one(random.randbytes(5 * 2**20)))
    store(path, DueMessages(DUE))
    assert ask(path, "SELECT count(*) FROM messages") == [(1,)]
    assert delayed.count() == 2


def test_the_list_of_delayed_messages_goes_on_behind_a_place_and_shows_permitted_topics(
    path, delayed
):
    store(path, one(due_at=LATER), one(due_at=DUE), one(due_at=DUE, topic="u"))
    first, *_ = rows = delayed.page(("", 0), 2)
    assert [row.due_at for row in rows] == [DUE, DUE]
    rest = delayed.page((rows[-1].due_at, rows[-1].seq), 10)
    assert [row.due_at for row in rest] == [LATER]
    assert (first.bytes, first.accepted_at) == (5, THEN)
    assert [row.topic for row in delayed.page(("", 0), 10, ("u*",))] == ["u"]
