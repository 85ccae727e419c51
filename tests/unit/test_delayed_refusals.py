"""Delayed messages that a trigger of SQLite's refuses when they become rows."""

import sqlite3

import pytest
from ready_made import migrate
from sqlite_file import file_database

from appliance.model.contents import DelayedEnvelope, DueMessages
from appliance.model.ids import IdSource
from appliance.model.wire import single
from appliance.store.sql.delayed import StoredDelayed
from appliance.store.sqlite.writer import SqliteWriter

IDS = IdSource()
THEN = "2026-01-01T00:00:00.000Z"
DUE = "2026-01-02T00:00:00.000Z"


@pytest.fixture
def path(tmp_path):
    migrate(tmp_path / "appliance.db")
    return tmp_path / "appliance.db"


@pytest.fixture
def delayed(path):
    return StoredDelayed(file_database(path))


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
