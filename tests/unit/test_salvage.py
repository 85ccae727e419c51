"""The last resort: contents over which the writer stumbles are stored one by one."""

import pytest
from ready_made import migrate
from store_contents import IDS, TIME

from appliance.errors import StoreError, UnstorableError
from appliance.model.wire import single
from appliance.store.salvage import store_each
from appliance.store.sql.ledger_table import LedgerTable
from appliance.store.sql.transaction import Transaction
from appliance.store.sqlite.database import connect
from appliance.store.sqlite.writer import SqliteWriter


@pytest.fixture
def path(tmp_path):
    migrate(tmp_path / "appliance.db")
    return tmp_path / "appliance.db"


def store(path, *contents):
    made = SqliteWriter(path)
    try:
        made.store(contents)
    finally:
        made.close()


def ask(path, sql):
    link = connect(path, readonly=True)
    try:
        return link.execute(sql).fetchall()
    finally:
        link.close()


@pytest.fixture
def rule(path):
    link = connect(path, readonly=False)
    link.execute(
        "CREATE TRIGGER rule BEFORE INSERT ON messages WHEN new.body = 'bad' "
        "BEGIN SELECT raise(ABORT, 'against the rule'); END"
    )
    link.close()


@pytest.mark.parametrize(
    "error", [OverflowError("too large"), MemoryError(), TypeError("odd"), ValueError("odder")]
)
def test_errors_that_content_can_cause_hold_no_message_for_ever(path, monkeypatch, error):
    add = Transaction._add

    def stumble(self, envelope):
        if b"bad" in envelope.body:
            raise error
        return add(self, envelope)

    monkeypatch.setattr(Transaction, "_add", stumble)
    bad, good = (single("t", IDS.new(), TIME, body) for body in (b"bad", b"good"))
    with pytest.raises(UnstorableError):
        store(path, bad, good)
    store_each(lambda: SqliteWriter(path), [bad, good])
    ((reason, text),) = ask(path, "SELECT reason, error FROM dead_letters")
    assert (reason, type(error).__name__ in text) == ("unstorable", True)
    assert ask(path, "SELECT body FROM messages") == [("good",)]


def test_a_lock_or_a_full_disk_is_nobodys_fault(path):
    made = SqliteWriter(path)
    made._connection.execute("PRAGMA busy_timeout = 50")
    other = connect(path, readonly=False)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError) as caught:
        made.store([single("t", IDS.new(), TIME, b"x")])
    assert not isinstance(caught.value, UnstorableError)
    other.close()
    made.close()


def test_a_message_of_which_not_even_a_dead_letter_is_taken_is_held(path, rule):
    link = connect(path, readonly=False)
    link.execute(
        "CREATE TRIGGER none BEFORE INSERT ON dead_letters BEGIN SELECT raise(ABORT, 'no'); END"
    )
    link.close()
    with pytest.raises(StoreError, match="not even a dead letter") as caught:
        store_each(lambda: SqliteWriter(path), [single("t", IDS.new(), TIME, b"bad")])
    assert not isinstance(caught.value, UnstorableError)


def test_a_number_that_the_ledger_stumbles_over_costs_no_message(path, monkeypatch):
    """The message is stored; only what came with it is left out."""
    message = single("t", IDS.new(), TIME, b"x")
    numbered = type(message)(
        message.topic, message.kind, message.id, TIME, 1, 1, b"x", '["0123456789abcdef",1,0,[]]'
    )

    def stumble(*_):
        raise OverflowError("Python int too large to convert to SQLite INTEGER")

    monkeypatch.setattr(LedgerTable, "record", stumble)
    store_each(lambda: SqliteWriter(path), [numbered])
    assert ask(path, "SELECT body FROM messages") == [("x",)]
    assert ask(path, "SELECT * FROM dead_letters") == []
