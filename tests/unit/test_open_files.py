"""The database's files, taken away or changed by another program."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from store_contents import one
from structlog.testing import capture_logs

from appliance import config as configuration
from appliance.errors import LostCommitsError, StoreError
from appliance.store import open_store
from appliance.store.sqlite import open_files, paths, upkeep, wal_index
from appliance.store.sqlite.database import connect
from appliance.store.sqlite.writer import SqliteWriter

#: Stores messages one by one, and is then killed: nothing is checkpointed or closed.
KILLED = """
import os, sys
from pathlib import Path
from store_contents import one
from appliance.store.sqlite.writer import SqliteWriter
writer = SqliteWriter(Path(sys.argv[1]))
for number in range(int(sys.argv[2])):
    writer.store([one(b"x" * 3000)])
os._exit(9)
"""


#: Tries to begin to write, and says whether it was let.
WRITES = """
import sys
from pathlib import Path
from appliance.store.sqlite.database import connect, sqlite3
other = connect(Path(sys.argv[1]), readonly=False)
other.execute("PRAGMA busy_timeout = 0")
try:
    other.execute("BEGIN IMMEDIATE")
except sqlite3.OperationalError as error:
    print(error)
else:
    print("let in")
"""


@pytest.fixture
def store(tmp_path):
    made = open_store(configuration.load({"APPLIANCE_DATA": str(tmp_path)}))
    made.migrate()
    yield made
    made.reader.close()


@pytest.fixture
def path(store):
    return store.path


@pytest.fixture
def writer(store, path):
    """A writer that has stored ten messages, and a reader beside it."""
    made = SqliteWriter(path)
    for _ in range(10):
        made.store([one()])
    assert rows(store) == 10
    yield made
    made.close()


def rows(store):
    return sum(topic.messages for topic in store.reader.topics())


def sound(path):
    """Return the number of rows of a database that is whole."""
    link = connect(path, readonly=True)
    try:
        assert link.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return link.execute("SELECT count(*) FROM messages").fetchone()[0]
    finally:
        link.close()


def again(path, count=1):
    """Store with a new writer, as the worker does after an error."""
    writer = SqliteWriter(path)
    try:
        for _ in range(count):
            writer.store([one()])
    finally:
        writer.close()


def test_a_log_that_was_removed_is_saved_and_every_reader_sees_the_rows(store, path, writer):
    paths.wal(path).unlink()
    with capture_logs() as logs, pytest.raises(StoreError, match="all of it was saved") as caught:
        writer.store([one()])
    assert not isinstance(caught.value, LostCommitsError)
    assert [line["saved"] for line in logs] == [True]
    again(path, 3)
    assert rows(store) == 13
    assert sound(path) == 13


def test_a_log_that_was_removed_is_seen_by_an_idle_writer_too(path, writer):
    paths.wal(path).unlink()
    with pytest.raises(StoreError, match="all of it was saved"):
        writer.check()
    assert sound(path) == 10


def test_a_log_that_was_removed_is_written_to_by_nobody_else(path, writer):
    paths.wal(path).unlink()
    with pytest.raises(StoreError, match="cut short or removed"):
        upkeep.checkpoint(path)


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("left", [0, 20_000])
def test_a_log_that_was_cut_loses_what_was_cut_and_nothing_else(store, path, writer, left, moved):
    if moved:  # a checkpoint has moved more than what is left
        link = connect(path, readonly=False)
        assert link.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[0] == 0
        link.close()
    os.truncate(paths.wal(path), left)
    with capture_logs() as logs, pytest.raises(LostCommitsError, match="what is missing"):
        writer.store([one()])
    assert [line["event"] for line in logs] == ["write-ahead log cut short"]
    left_rows = sound(path)
    assert left_rows == 10 if moved else left_rows < 10
    again(path, 3)
    assert rows(store) == sound(path) == left_rows + 3


def make_gap(path, left=0):
    """Cut the log, and make it as long again: as it is where SQLite writes on behind a cut."""
    log = paths.wal(path)
    size = log.stat().st_size
    os.truncate(log, left)
    os.truncate(log, size)


@pytest.mark.parametrize("left", [0, 20_000])
def test_a_log_that_was_cut_and_written_on_is_cut_again(store, path, writer, left):
    writer.check()  # the last frame is known
    make_gap(path, left)
    with capture_logs() as logs, pytest.raises(LostCommitsError, match="what is missing"):
        writer.store([one()])
    assert [line["event"] for line in logs] == ["write-ahead log cut short"]
    left_rows = sound(path)
    again(path, 3)
    assert rows(store) == sound(path) == left_rows + 3


@pytest.mark.parametrize("left", [0, 20_000])
def test_a_log_that_is_cut_within_a_transaction_is_said_before_anything_is_acknowledged(
    store, path, writer, left
):
    connection = writer._connection
    connection.create_function("cut", 0, lambda: os.truncate(paths.wal(path), left))
    connection.execute(
        "CREATE TEMP TRIGGER cut AFTER INSERT ON main.messages BEGIN SELECT cut(); END"
    )
    with capture_logs() as logs, pytest.raises(LostCommitsError, match="what is missing"):
        writer.store([one()])
    assert [line["event"] for line in logs] == ["write-ahead log cut short"]
    writer.close()
    left_rows = sound(path)
    again(path, 3)
    assert rows(store) == sound(path) == left_rows + 3


def test_a_log_that_was_cut_and_written_on_is_not_moved(path, writer):
    make_gap(path)
    with pytest.raises(StoreError, match="cut short"):
        upkeep.checkpoint(path)
    writer.close()
    with pytest.raises(LostCommitsError, match="what is missing"):
        SqliteWriter(path)
    assert not upkeep.checkpoint(path).busy
    assert sound(path) < 10


def test_a_writer_that_is_opened_takes_no_lock_from_another_thread_that_writes(
    path, writer, monkeypatch
):
    """SQLite's locks are a process's: one that is set and given back beside it would end its own.

    Another process would then write into the same place of the log, and a power cut, or whatever
    else has the log read again, would take all that came after it.
    """
    monkeypatch.setattr(open_files, "_PATIENCE", 60.0)
    writer._connection.execute("BEGIN IMMEDIATE")
    opening = threading.Thread(target=lambda: SqliteWriter(path).close())
    opening.start()
    try:
        for _ in range(3):
            assert not wal_index.cut_at_gap(path)
            assert try_to_write(path) == "database is locked"
        assert opening.is_alive()
    finally:
        writer._connection.execute("ROLLBACK")
        opening.join()
    assert wal_index.cut_at_gap(path)
    assert try_to_write(path) == "let in"


def try_to_write(path):
    command = [sys.executable, "-c", WRITES, path]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_a_log_that_a_checkpoint_empties_is_no_trouble(path, writer):
    for _ in range(5):
        assert not upkeep.checkpoint(path).busy
        writer.store([one()])
        writer.check()
    assert sound(path) == 15


def test_a_database_that_was_removed_is_put_back_with_all_its_rows(store, path, writer):
    path.unlink()
    with pytest.raises(LostCommitsError, match="all that was in it is in"):
        writer.check()
    again(path)
    assert rows(store) == sound(path) == 11


def test_a_database_that_was_replaced_is_copied(store, path, writer, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    open_store(configuration.load({"APPLIANCE_DATA": str(other)})).migrate()
    (other / paths.DATABASE).rename(path)
    with pytest.raises(LostCommitsError, match="all that was in it is in"):
        writer.store([one()])
    (copy,) = tmp_path.glob(f"{paths.DATABASE}.replaced-*")
    assert copy.stat().st_mode & 0o777 == 0o600
    assert sound(copy) == 10


def test_a_folder_that_was_moved_is_waited_for(store, path, writer, tmp_path):
    elsewhere = tmp_path.with_name("elsewhere")
    tmp_path.rename(elsewhere)
    with pytest.raises(StoreError, match="its folder was moved"):
        writer.store([one()])
    elsewhere.rename(tmp_path)
    writer.store([one()])
    assert sound(path) == 11


@pytest.fixture
def killed(path, store):
    """Leave the files as a process leaves them that was killed with 40 messages in the log."""
    folder = str(Path(sys.modules[one.__module__].__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", KILLED, path, "40"],
        env={**os.environ, "PYTHONPATH": folder},
        check=False,
    )
    assert done.returncode == 9
    return paths.wal(path)


def start(store):
    """Bring the database up as a start does; return the log's lines."""
    with capture_logs() as logs, store.in_use():
        store.migrate()
    return [line for line in logs if line["event"] == "write-ahead log damaged"]


def test_a_whole_log_is_taken_over_without_a_word(store, path, killed):
    assert start(store) == []
    assert sound(path) == 40


def test_a_log_that_was_removed_before_the_start_is_said(store, path, killed):
    killed.unlink()
    (line,) = start(store)
    assert line["pages_left"] == 0
    assert sound(path) == 0


def test_a_log_that_was_cut_before_the_start_is_said(store, path, killed):
    os.truncate(killed, killed.stat().st_size // 2)
    (line,) = start(store)
    assert 0 < line["pages_left"] < line["pages"]
    assert 0 < sound(path) < 40


@pytest.mark.parametrize("moved", [False, True])
def test_a_bit_flipped_in_the_log_before_the_start_is_said(store, path, killed, moved):
    if moved:
        code = (
            "import os, sqlite3, sys; link = sqlite3.connect(sys.argv[1]); "
            "print(link.execute('PRAGMA wal_checkpoint(PASSIVE)').fetchone()); os._exit(0)"
        )
        subprocess.run([sys.executable, "-c", code, path], check=True)
        index = wal_index.read(path)
        assert index.frames == index.moved
    content = bytearray(killed.read_bytes())
    content[len(content) // 2] ^= 1
    killed.write_bytes(content)
    (line,) = start(store)
    assert line["pages_left"] < line["pages"]
    assert sound(path) == 40 if moved else 0 < sound(path) < 40
    again(path)
