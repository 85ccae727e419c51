"""Contents that the database refuses: only those die, and only for their own fault."""

import pytest
from store_contents import IDS, TIME, letter

from appliance.errors import StoreError, UnstorableError
from appliance.model.wire import Message, batch, pack, single
from appliance.store.salvage import store_each
from appliance.store.sqlite import writer
from appliance.store.sqlite.database import connect
from appliance.store.sqlite.ledger_table import LedgerTable
from appliance.store.sqlite.migrations import migrate
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
    "make",
    [
        lambda bodies: batch("t", IDS.prefix(), TIME, bodies),
        lambda bodies: pack("t", [Message(IDS.new(), TIME, body) for body in bodies], 1),
    ],
)
def test_a_message_that_the_database_refuses_dies_alone(path, rule, make):
    good = [single("t", IDS.new(), TIME, b"%d" % n) for n in range(3)]
    group = [good[0], make([b"a", b"bad", b"c"]), good[1], letter(), good[2]]
    with pytest.raises(UnstorableError, match="against the rule"):
        store(path, *group)
    assert ask(path, "SELECT * FROM messages") == []
    for _ in range(2):  # killed before the acknowledgement, it all comes again
        store_each(lambda: SqliteWriter(path), group)
    assert ask(path, "SELECT body FROM messages ORDER BY seq") == [("0",), ("1",), ("2",)]
    assert ask(path, "SELECT body, reason FROM dead_letters ORDER BY seq") == [
        (b"a", "unstorable"), (b"bad", "unstorable"), (b"c", "unstorable"), (b"x", "conflict"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "error", [OverflowError("too large"), MemoryError(), TypeError("odd"), ValueError("odder")]
)
def test_errors_that_content_can_cause_hold_no_message_for_ever(path, monkeypatch, error):
    unpack = writer.unpack

    def stumble(envelope):
        if b"bad" in envelope.body:
            raise error
        return unpack(envelope)

    monkeypatch.setattr(writer, "unpack", stumble)
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
