"""What the tests of faults rely on: whatever is wrong in a real database, they fail."""

import sqlite3
import uuid

import pytest
from harness import Folder, environment
from watched import WatchedLoad

from appliance.drill.journal import Attempt, text
from appliance.model.timestamps import now
from appliance.model.wire import Envelope, Kind
from appliance.store.sqlite.migrations import migrate
from appliance.store.sqlite.writer import SqliteWriter


class Target(Folder):
    """A data folder with a database, and nothing that runs."""

    url, token = "http://127.0.0.1:1", "a-token-for-tests"

    def __init__(self, folder):
        self.data = folder
        self.env = environment(folder)

    def logs(self):
        return ""


@pytest.fixture
def folder(tmp_path):
    return Target(tmp_path / "data")


@pytest.fixture
def load(folder):
    """A load whose twenty messages of two topics are all stored."""
    migrate(folder.database)
    made = WatchedLoad(folder, "load")
    writer = SqliteWriter(folder.database)
    for number in range(10):
        for topic in ("load-0", "load-1"):
            body = text(topic, number).encode()
            message = str(uuid.uuid4())
            made.sending.journal.note(Attempt(topic, number, 1, 202, (message,), number, 0.1))
            writer.store([Envelope(topic, Kind.MESSAGE, message, now(), 1, len(body), body)])
    writer.close()
    return made


def change(folder, *statements):
    link = sqlite3.connect(folder.database, isolation_level=None)
    for statement in statements:
        link.execute(statement)
    link.close()


def test_a_store_that_kept_everything_passes_and_gives_figures(load, folder):
    load.verify_at_rest(folder)
    assert (load.figures.sent, load.figures.accepted, load.figures.stored) == (20, 20, 20)


AGAIN = (
    "INSERT INTO messages (id, topic, body, received_at) SELECT '{}', '{}', {}, received_at "
    "FROM messages WHERE seq = 5"
)
DEAD = (
    "INSERT INTO dead_letters (id, topic, body, reason, error, received_at, dead_at) "
    "VALUES ('x', 'load-0', 'x', 'empty', 'x', 'x', 'x')"
)
WRONG = {
    "answered 202 and missing": ["DELETE FROM messages WHERE seq = 5"],
    "stored twice": [AGAIN.format(uuid.uuid4(), "load-0", "body")],
    "stored but never sent, or changed": [AGAIN.format(uuid.uuid4(), "other", "'hello'")],
    "never sent, or changed": ["UPDATE messages SET body = body || '.' WHERE seq = 5"],
    "stored out of order": [
        "UPDATE messages SET seq = 105 WHERE seq = 5",
        "UPDATE messages SET seq = 5 WHERE seq = 7",
        "UPDATE messages SET seq = 7 WHERE seq = 105",
    ],
    "stored under another id": [f"UPDATE messages SET id = '{uuid.uuid4()}' WHERE seq = 5"],
}


@pytest.mark.parametrize("kind", WRONG)
def test_any_fault_of_the_rows_fails(load, folder, kind):
    change(folder, *WRONG[kind])
    with pytest.raises(AssertionError, match=kind):
        load.verify_at_rest(folder)
    assert "journal.txt" in {path.name for path in folder.data.parent.iterdir()}


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE topics SET messages = messages + 1 WHERE topic = 'load-0'",
        "UPDATE topics SET bytes = bytes - 1 WHERE topic = 'load-0'",
        DEAD,
    ],
)
def test_a_wrong_counter_or_a_dead_letter_fails(load, folder, statement):
    change(folder, statement)
    with pytest.raises(AssertionError):
        load.verify_at_rest(folder)


LETTER = (
    "INSERT INTO dead_letters (id, topic, body, reason, error, received_at, dead_at) "
    "VALUES ('{}', 'load-5', '{}', 'bad-signature', 'x', 'x', 'x')"
)


def test_letter_that_was_promised_and_is_missing_or_doubled_fails(load, folder):
    message, body = str(uuid.uuid4()), text("load-5", 0)
    load.sending.journal.note(Attempt("load-5", 0, 1, 202, (message,), 0.0, 0.1))
    with pytest.raises(AssertionError, match="dead: 1 answered 202 and missing: load-5 0"):
        load.verify_at_rest(folder)
    change(folder, LETTER.format(message, body))
    load.verify_at_rest(folder)
    assert load.figures.dead == 1
    change(folder, LETTER.format(uuid.uuid4(), body))
    with pytest.raises(AssertionError, match="dead: 1 stored twice: load-5 0"):
        load.verify_at_rest(folder)


def test_a_damaged_file_fails(load, folder):
    change(folder, "PRAGMA wal_checkpoint(TRUNCATE)")
    with folder.database.open("r+b") as file:
        file.seek(8192 * 3 + 8000)
        file.write(b"\xff" * 192)
    with pytest.raises((AssertionError, sqlite3.DatabaseError)):
        load.verify_at_rest(folder)


def test_a_load_of_which_nothing_was_accepted_proves_nothing(folder):
    migrate(folder.database)
    with pytest.raises(AssertionError, match="proves nothing"):
        WatchedLoad(folder, "load").verify_at_rest(folder)


def test_an_answer_that_is_neither_a_promise_nor_an_honest_no_fails(load, folder):
    load.sending.journal.note(Attempt("load-0", 10, 1, 500, (), 10.0, 0.1))
    with pytest.raises(AssertionError, match="500"):
        load.verify_at_rest(folder)


def test_rows_of_another_load_on_the_same_folder_are_left_to_it(load, folder):
    other = WatchedLoad(folder, "other")
    other.sending.journal.note(Attempt("other-0", 0, 1, 202, (str(uuid.uuid4()),), 0.0, 0.1))
    with pytest.raises(AssertionError, match="1 answered 202 and missing: other-0 0"):
        other.verify_at_rest(folder)
    load.verify_at_rest(folder)
