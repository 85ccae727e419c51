"""Everything that is stored moves to a database of the other engine, and both say that it did."""

import sqlite3
from dataclasses import replace

import pytest
from own_sql import by_sql, linked
from store_contents import Contents, letter, many, one

from appliance import config as configuration
from appliance.errors import MovedError, MoveError, StoreError
from appliance.model.meta import EXPIRES_AT
from appliance.model.timestamps import now
from appliance.store import open_store
from appliance.store.access_rows import Actor, Deed
from appliance.store.move_sides import MoveMark
from appliance.store.moved_tables import ACCESS_VERSION, MOVED, STAYING
from appliance.store.moving import move
from appliance.store.postgresql.departure import columns_of
from appliance.store.sqlite.migrations import new_database

#: Filled by the writer, as messages come.
BY_WRITER = {"messages", "topics", "dead_letters", "expirations"}
GO_ON = lambda *_: True  # noqa: E731
END = "2999-01-01T00:00:00.000Z"
DEED = Deed(Actor("me", "here"), "tried", "it")
#: Values that must mean something: the ledger of a source that lacks nothing.
GIVEN = {"accounted": "[[1,5]]", "settled": 5, "not_kept": 0, "missing": 0, "accepted": 0}


def all_shapes():
    """Name, type and whether it may be NULL of each column of each table in a new database."""
    link = new_database()
    query = 'SELECT name, type, "notnull", pk FROM pragma_table_info(?)'
    try:
        return {
            table.name: [
                (name, kind.upper(), not required and not key)
                for name, kind, required, key in link.execute(query, (table.name,))
            ]
            for table in MOVED
        }
    finally:
        link.close()


def value(table, name, kind, is_nullable, number):
    """A value for a column of a row, unlike those of other rows."""
    if table == "sources" and name in GIVEN:
        return GIVEN[name]
    if name == "inbox":
        name = "name"  # as the inbox has it
    if name == "body":
        return [b"\xff\0", 'größe "\\N"\t\r\n'][number % 2]
    if is_nullable and number == 3:
        return None
    if kind == "INTEGER":
        return 2**40 + number
    if kind == "REAL":
        return number + 1 / 3
    return bytes((number, 0, 255)) if kind == "BLOB" else f"{name} {number} ü\\'\\t"


def columns(config, table):
    return columns_of(table) if config.database_url else [f'"{name}"' for name in table.columns]


def as_bound(config, table, row):
    """A row's values as the engine's columns take them."""
    if not (config.database_url and table.is_mixed):
        return row
    at = table.columns.index("body")
    body = [row[at], None] if isinstance(row[at], str) else [None, row[at]]
    return [*row[:at], *body, *row[at + 1 :]]


def fill(config, store):
    """Put rows into every table, and let some of the greatest numbers be gone again."""
    store.migrate()
    writer = store.open_writer()
    ending = replace(one(b"with an end", "u"), meta=f'{{"{EXPIRES_AT}":"{END}"}}', expires_at=END)
    writer.store(
        [many([b"text", b"\0\xff", 'größe "\\N" \\. \t\n'.encode(), b"{}"]), one(b"", "u")]
    )
    writer.store([ending, letter(b"dead"), letter(b"\0")])
    writer.store([one(b"deleted later")])
    writer.close()
    shapes = all_shapes()
    with linked(config) as link:
        link.execute("BEGIN")
        for table in MOVED:
            if table.name not in BY_WRITER | {ACCESS_VERSION}:
                fill_table(config, link, table, shapes[table.name])
        link.execute("DELETE FROM messages WHERE seq = (SELECT max(seq) FROM messages)")
        link.execute("COMMIT")


def fill_table(config, link, table, shape):
    key = table.key[0]
    part = table._replace(columns=table.columns[1:]) if table.is_numbered else table
    given = [each for each in shape if each[0] in part.columns]
    names = columns(config, part)
    marks = ", ".join("?" * len(names))
    for number in (1, 2, 3):
        row = [value(table.name, *each, number) for each in given]
        link.execute(
            f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({marks})",
            as_bound(config, part, row),
        )
    if table.is_numbered:
        link.execute(
            f"DELETE FROM {table.name} WHERE {key} = (SELECT max({key}) FROM {table.name})"
        )


def rows(config, table):
    """All rows as SQL shows them, a body as the text or the bytes that it is."""
    names, key = columns(config, table), ", ".join(f'"{name}"' for name in table.key)
    found = by_sql(config, f"SELECT {', '.join(names)} FROM {table.name} ORDER BY {key}")
    if not (config.database_url and table.is_mixed):
        return [tuple(row) for row in found]
    at = table.columns.index("body")
    return [
        (*row[:at], row[at + 1] if row[at] is None else row[at], *row[at + 2 :]) for row in found
    ]


@pytest.fixture
def other_config(engine, tmp_path, request):
    """Settings of a database of the other engine, which is not made yet."""
    settings = {"APPLIANCE_DATA": str(tmp_path / "other"), "APPLIANCE_MIN_FREE_BYTES": "0"}
    if engine == "postgresql":
        yield configuration.load(settings)
        return
    server = request.getfixturevalue("postgres_server")
    url = server.new_database()
    yield configuration.load({**settings, "APPLIANCE_DATABASE_URL": url})
    server.drop_database(url)


@pytest.fixture
def other(other_config):
    store = open_store(other_config)
    yield store
    store.reader.close()


@pytest.fixture
def filled(config, new_store):
    fill(config, new_store)
    return new_store


def moved(source, target, progress=GO_ON):
    with source.departing() as leaving, target.arriving() as arriving:
        return move(leaving, arriving, progress)


def test_every_table_moves_or_stays_for_a_reason(new_store, config):
    new_store.migrate()
    query = {
        "sqlite": "SELECT name FROM sqlite_master WHERE type = 'table' "
        "AND name NOT LIKE 'sqlite!_%' ESCAPE '!'",
        "postgresql": "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') "
        "AND NOT relispartition AND relnamespace = current_schema()::regnamespace",
    }
    names = {name for (name,) in by_sql(config, query)}
    assert names - STAYING.keys() == {table.name for table in MOVED}


def test_every_column_moves_of_every_table_that_does(new_store, config):
    new_store.migrate()
    query = {
        "sqlite": "SELECT name FROM pragma_table_xinfo(?) WHERE hidden = 0",
        "postgresql": "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(?) "
        "AND attnum > 0 AND NOT attisdropped AND attgenerated = ''",
    }
    statement = query["postgresql" if config.database_url else "sqlite"]
    with linked(config) as link:
        for table in MOVED:
            found = {f'"{name}"' for (name,) in link.execute(statement, (table.name,)).fetchall()}
            assert found == set(columns(config, table)), table.name


def test_every_row_of_every_table_is_the_same_in_the_other_engine(
    config, filled, other_config, other
):
    before = {table.name: rows(config, table) for table in MOVED}
    assert all(before.values()), "a table that this test doesn't fill"
    outcome = moved(filled, other)
    after = {table.name: rows(other_config, table) for table in MOVED}
    assert after == before
    assert {each.name: each.rows for each in outcome.tables} == {
        name: len(found) for name, found in before.items()
    }
    assert other.migrate() == []
    checked = other.verify(quick=False, alone=True, progress=lambda *_: None)
    assert (checked.problems, checked.yours) == ([], [])
    assert list(other.rows()) == list(filled.rows())


def test_numbers_of_rows_that_are_gone_are_not_used_again(config, filled, other_config, other):
    last = Contents(filled).messages()[-1].seq
    entries = max(seq for (seq,) in by_sql(config, "SELECT seq FROM audit"))
    moved(filled, other)
    writer = other.open_writer()
    writer.store([one(b"new")])
    writer.close()
    assert Contents(other).messages()[-1].seq == last + 2
    other.access.record(DEED)
    assert max(seq for (seq,) in by_sql(other_config, "SELECT seq FROM audit")) == entries + 2


def test_a_database_that_was_left_takes_no_row_from_anyone_and_says_where_they_are(
    config, filled, other
):
    writer = filled.open_writer()
    writer.store([one(b"before")])
    bodies = Contents(filled).bodies()
    moved(filled, other)
    with pytest.raises(StoreError):
        writer.store([one(b"late"), letter(b"late")])
    writer.close()
    for attempt in (
        filled.open_writer,
        filled.migrate,
        lambda: filled.access.record(DEED),
        lambda: by_sql(config, "DELETE FROM messages"),
        lambda: by_sql(config, "UPDATE tokens SET rate = NULL"),
    ):
        with pytest.raises(Exception, match=r"were moved to .*appliance export --undo"):
            attempt()
    assert Contents(filled).bodies() == bodies == Contents(other).bodies()
    checks = {check.check: check for check in filled.health.database()}
    assert other.location in checks["move"].text
    checked = filled.verify(quick=False, alone=True, progress=lambda *_: None)
    assert (checked.problems, checked.yours) == ([], [])


def test_a_move_that_is_undone_leaves_no_trace(filled, other):
    moved(filled, other)
    mark = filled.reopen()
    assert mark is not None
    assert mark.target == other.location
    assert filled.reopen() is None
    assert filled.migrate() == []
    writer = filled.open_writer()
    writer.store([one(b"after")])
    writer.close()
    assert Contents(filled).bodies()[-1] == b"after"
    assert "move" not in {check.check for check in filled.health.database()}


def test_a_database_that_has_rows_is_not_filled(config, filled, other):
    other.migrate()
    writer = other.open_writer()
    writer.store([one(b"mine")])
    writer.close()
    with pytest.raises(MoveError, match="not empty: the table messages has rows"):
        moved(filled, other)
    assert Contents(other).bodies() == [b"mine"]
    filled.open_writer().close()


def test_a_move_that_is_stopped_changes_nothing(filled, other):
    writer = filled.open_writer()
    writer.store([many([b"%d" % n for n in range(1000)])])
    with pytest.raises(MoveError, match="stopped"):
        moved(filled, other, lambda *_: False)
    writer.store([one(b"after")])
    writer.close()
    moved(filled, other)
    assert Contents(other).bodies() == Contents(filled).bodies()


def test_nobody_else_writes_while_a_database_is_left(filled, other):
    with filled.departing(), pytest.raises(StoreError, match="lock"):
        filled.access.record(DEED)
    filled.access.record(DEED)


def test_a_move_that_ended_before_the_other_database_was_there_is_made_again(filled, other):
    with filled.departing() as leaving:
        leaving.leave(MoveMark(other.location, now()))
    with pytest.raises(MovedError):
        filled.open_writer()
    assert not moved(filled, other).was_moved_before
    assert Contents(other).bodies() == Contents(filled).bodies()


def test_a_move_made_twice_is_seen_to_be_whole_until_the_other_database_is_used(filled, other):
    first = moved(filled, other)
    again = moved(filled, other)
    assert again.was_moved_before
    assert again.tables == first.tables
    writer = other.open_writer()
    writer.store([one(b"new")])
    writer.close()
    with pytest.raises(MoveError, match=r"messages has 6 rows .* is in use since"):
        moved(filled, other)


def test_a_database_that_was_left_moves_nowhere_else(filled, other, tmp_path):
    moved(filled, other)
    third = other if other.location.startswith("/") else filled
    elsewhere = third.of_backup(tmp_path / "elsewhere.db")
    with pytest.raises(MovedError, match="were moved to"):
        moved(filled, elsewhere)
    assert not (tmp_path / "elsewhere.db").exists()


def test_rows_go_away_and_come_back_the_same(config, filled, other, postgres_server):
    before = {table.name: rows(config, table) for table in MOVED}
    moved(filled, other)
    if config.database_url:
        with pytest.raises(MovedError):  # it has them still
            moved(other, filled)
        return
    moved(other, filled)
    assert {table.name: rows(config, table) for table in MOVED} == before
    kept = [path.name for path in config.data.iterdir() if ".before-move-" in path.name]
    assert len(kept) == 1
    link = sqlite3.connect(config.data / kept[0])
    assert link.execute("SELECT count(*) FROM messages").fetchone() == (len(before["messages"]),)
    link.close()


class TestOnlySqlite:
    @pytest.fixture
    def engine(self):
        return "sqlite"

    def test_a_nul_in_a_text_is_counted_and_in_a_body_it_stays(self, config, filled, other):
        by_sql(config, "UPDATE messages SET content_type = char(97, 0) WHERE seq = 1")
        by_sql(config, "UPDATE messages SET body = 'a' || char(0) WHERE seq = 2")
        assert moved(filled, other).changed == 1
        first, second = Contents(other).messages()[:2]
        assert first.content_type == "a\ufffd"
        assert second.body == b"a\0"

    def test_rows_that_the_other_database_changes_are_seen_and_nothing_moves(
        self, filled, other, other_config
    ):
        other.migrate()
        by_sql(
            other_config,
            "CREATE FUNCTION mine() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN new.meta = 'mine'; RETURN new; END $$",
        )
        by_sql(
            other_config,
            "CREATE TRIGGER mine BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION mine()",
        )
        with pytest.raises(MoveError, match=r"messages has 6 rows .* not the same ones"):
            moved(filled, other)
        assert Contents(other).bodies() == []
        filled.open_writer().close()
