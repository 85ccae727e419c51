"""The writer's use of SQLite; `tests/store` holds every engine's writer to the contract."""

import re
from pathlib import Path

import pytest
from store_contents import IDS, TIME, Contents, lines, many, one

from appliance import config as configuration
from appliance.errors import SchemaError, StoreError, StoreFullError
from appliance.model.contents import DeadLetter
from appliance.model.wire import Envelope, Kind
from appliance.store import open_store
from appliance.store.sqlite.database import connect
from appliance.store.sqlite.writer import SqliteWriter


@pytest.fixture
def store(tmp_path):
    store = open_store(configuration.load({"APPLIANCE_DATA": str(tmp_path)}))
    store.migrate()
    yield store
    store.reader.close()


@pytest.fixture
def path(tmp_path, store):
    return tmp_path / "appliance.db"


@pytest.fixture
def contents(store):
    return Contents(store)


@pytest.fixture
def writer(path):
    made = SqliteWriter(path)
    yield made
    made.close()


def odd_lines(body):
    return Envelope("t", Kind.LINES, IDS.new(), TIME, 1, 1, body)


def test_json_that_only_sqlite_reads_does_not_stop_the_worker(writer, contents):
    odd = odd_lines(b"['a' /* comment */]")
    writer.store([odd])
    writer.store([odd, one(b"next")])
    assert b"next" in contents.bodies()
    twice = one(b"twice")
    writer.store([odd_lines(b"['b']"), twice, twice])
    assert contents.counters() == contents.sums()


def test_a_transaction_that_fails_leaves_nothing(writer, contents, path):
    writer.store([one(b"old")])
    before = contents.sums()
    link = connect(path, readonly=False)
    link.execute(
        "CREATE TRIGGER refuse BEFORE INSERT ON dead_letters "
        "BEGIN SELECT raise(FAIL, 'refused'); END"
    )
    letter = DeadLetter("t", "id", TIME, b"x", "bad-topic", "")
    group = [letter, one(b"a"), lines([b"b", b"c"]), many([b"d", b"bad", b"e"])]
    with pytest.raises(StoreError, match="refused"):
        writer.store(group)
    writer.close()
    assert (contents.sums(), contents.counters(), contents.dead()) == (before, before, [])
    link.execute("DROP TRIGGER refuse")
    link.close()
    fresh = SqliteWriter(path)
    fresh.store(group)
    fresh.close()
    assert contents.bodies() == [b"old", b"a", b"b", b"c", b"d", b"bad", b"e"]
    assert len(contents.dead()) == 1


@pytest.mark.parametrize("make", [lambda b: many([b]), one, lambda b: lines([b, b])])
def test_a_full_store_says_so_and_leaves_nothing(writer, contents, make):
    writer.store([one(b"old")])
    pages = writer._connection.execute("PRAGMA page_count").fetchone()[0]
    writer._connection.execute(f"PRAGMA max_page_count = {pages + 10}")
    with pytest.raises(StoreFullError, match="make room"):
        writer.store([one(b"small"), make(b"x" * 500_000)])
    writer.close()
    assert contents.bodies() == [b"old"]


def test_a_lock_held_by_another_is_a_store_error(writer, path, contents):
    writer._connection.execute("PRAGMA busy_timeout = 100")
    other = connect(path, readonly=False)  # another SQLite in one process would undo locks
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="locked"):
        writer.store([one(b"x")])
    other.execute("ROLLBACK")
    other.close()
    writer.close()
    assert contents.bodies() == []


def test_a_writer_wants_the_schema(tmp_path):
    with pytest.raises(StoreError):
        SqliteWriter(tmp_path / "none.db")
    assert not (tmp_path / "none.db").exists()
    (tmp_path / "empty.db").touch()
    with pytest.raises(SchemaError, match="run appliance migrate"):
        SqliteWriter(tmp_path / "empty.db")


def test_text_is_kept_as_text_and_other_bytes_as_a_blob(writer, contents, path):
    bodies = [
        b"text",
        "\u00e4\u2028".encode(),
        b"1",
        b"1.5",
        b"null",
        b"\r",
        b"a\0b",
        b"\xff",
        b"\0",
    ]
    writer.store([one(b) for b in bodies])
    writer.store([many(bodies)])
    writer.store([lines(bodies[:6])])
    kinds = ["text"] * 6 + ["blob"] * 3
    expected = kinds + kinds + kinds[:6]
    link = connect(path, readonly=True)
    types = [row[0] for row in link.execute("SELECT typeof(body) FROM messages ORDER BY seq")]
    link.close()
    assert types == expected
    assert contents.bodies() == [*bodies, *bodies, *bodies[:6]]


def test_rest_gives_back_the_memory_that_many_messages_took(writer, contents):
    def own_mib():
        rollup = Path("/proc/self/smaps_rollup").read_text()
        return int(re.search(r"Private_Dirty: +([0-9]+) kB", rollup)[1]) / 1024

    for _ in range(40):
        writer.store([many([b"x" * 1000] * 1000)])
    before = own_mib()
    writer.rest()
    assert before - own_mib() > 8
    writer.store([one(b"next")])
    assert contents.bodies()[-1] == b"next"
