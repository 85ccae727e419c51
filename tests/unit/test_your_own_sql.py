"""docs/your-own-sql.md: each statement of it does what the page says, on a real database."""

import re
import sqlite3
from pathlib import Path

import pytest
from ready_made import migrate
from sqlite_file import file_database
from store_contents import IDS, TIME, lines, many, one

from appliance.errors import TablesError
from appliance.model.retention import parse_rules
from appliance.model.wire import single
from appliance.store.sql import sweeper
from appliance.store.sqlite import backup, verify
from appliance.store.sqlite.database import connect
from appliance.store.sqlite.recount import SqliteRecount
from appliance.store.sqlite.writer import SqliteWriter

PAGE = Path(__file__).parents[2] / "docs" / "your-own-sql.md"
OLD = "2025-12-24T00:00:00.000Z"


def blocks(heading: str) -> list[tuple[str, str]]:
    """(what follows `sql` in the fence, statements) of each block of a section."""
    section = re.search(
        rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL
    )
    assert section, heading
    found = re.findall(r"^```sql ?(\w*)\n(.*?)^```$", section[1], re.MULTILINE | re.DOTALL)
    assert found, heading
    return found


def statements(heading: str) -> list[str]:
    return [sql for _, sql in blocks(heading)]


RULES = [sql for sql in statements("Rules that refuse messages") if "evidence" not in sql]
STOPPED = blocks("Changes that stop storing")
PAIRS = [(STOPPED[n][1], STOPPED[n + 1][1]) for n in range(0, len(STOPPED), 2)]


@pytest.fixture
def path(tmp_path):
    """Messages of three topics, of which one is old, and a dead letter."""
    path = tmp_path / "appliance.db"
    migrate(path)
    store(
        path,
        lines([b'{"device":"a"}', b"no JSON", b'{"device":"b"}'], "readings", OLD),
        many([b"\xff\0", b"x"], "other"),
        one(b"kept", "evidence"),
    )
    key = single("other", IDS.new(), TIME, b"first")
    store(path, key, single("other", key.id, TIME, b"second"))
    return path


def store(path, *envelopes):
    writer = SqliteWriter(path)
    try:
        writer.store(envelopes)
    finally:
        writer.close()


def run(path, sql):
    """As a user does: with another SQLite, in another program's connection."""
    link = sqlite3.connect(path, isolation_level=None)
    try:
        link.executescript(sql)
    finally:
        link.close()


def ask(path, sql):
    link = connect(path, readonly=True)
    try:
        return link.execute(sql).fetchall()
    finally:
        link.close()


def counters(path):
    return ask(path, "SELECT topic, messages, bytes FROM topics WHERE messages ORDER BY topic")


def sums(path):
    return ask(
        path,
        "SELECT topic, count(*), sum(octet_length(body)) FROM messages GROUP BY topic ORDER BY 1",
    )


def check_all_is_well(path):
    found = verify.verify(path, quick=False, alone=True, progress=lambda *_: None)
    assert found.problems == []
    return found


@pytest.mark.parametrize("sql", statements("Additions"))
def test_statements_that_add_disturb_nothing(path, tmp_path, sql):
    run(path, sql)
    assert check_all_is_well(path).yours
    before = len(ask(path, "SELECT * FROM messages"))
    store(path, lines([b'{"device":"c"}', b"no JSON"], "readings"), one(b"\xff\0", "orders"))
    assert len(ask(path, "SELECT * FROM messages")) == before + 3
    assert len(ask(path, "SELECT * FROM dead_letters")) == 1
    assert counters(path) == sums(path)
    swept = sweeper.Sweeper(
        file_database(path), parse_rules("readings: age=1h"), lambda _: False
    ).sweep()
    assert swept.rows == 5
    assert counters(path) == sums(path)
    copy = tmp_path / "copy.db"
    backup.fill(path, copy, 0, lambda *_: True)
    assert check_all_is_well(copy).yours == check_all_is_well(path).yours
    migrate(copy)


@pytest.mark.parametrize("sql", statements("Writing"))
def test_statements_that_write_leave_the_numbers_right(path, sql):
    run(path, sql)
    by_trigger = not sql.startswith("INSERT") and "topics" not in sql
    assert (counters(path) == sums(path)) == by_trigger
    SqliteRecount(path, lambda _: False).run()
    assert counters(path) == sums(path)
    check_all_is_well(path)
    store(path, lines([b'{"n":1}', b"x"], "readings"), one(b"y", "new"))
    assert counters(path) == sums(path)
    check_all_is_well(path)


@pytest.mark.parametrize("sql", RULES)
def test_a_rule_that_refuses_messages_refuses_only_those(path, sql):
    run(path, "DELETE FROM messages WHERE body = 'no JSON'; DELETE FROM dead_letters;" + sql)
    before = len(ask(path, "SELECT * FROM messages"))
    batch = lines([b'{"n":1}', b"no JSON", b'{"n":2}'], "readings")
    store(path, one(b"no JSON", "other"), batch, one(b"bad", "readings"), one(b'{"n":3}'))
    rows = ask(path, f"SELECT body FROM messages ORDER BY seq LIMIT -1 OFFSET {before}")
    assert rows == [("no JSON",), ('{"n":1}',), ('{"n":2}',), ('{"n":3}',)]
    dead = ask(path, "SELECT body, reason FROM dead_letters ORDER BY seq")
    assert dead == [(b"no JSON", "unstorable"), (b"bad", "unstorable")]
    assert counters(path) == sums(path)
    assert check_all_is_well(path).yours


def test_a_rule_for_deletions_keeps_its_rows_and_no_others(path):
    (sql,) = [each for each in statements("Rules that refuse messages") if "evidence" in each]
    run(path, sql)
    swept = sweeper.Sweeper(file_database(path), parse_rules("*: age=1h"), lambda _: False).sweep()
    assert swept.rows == 6
    assert ask(path, "SELECT body FROM messages") == [("kept",)]
    check_all_is_well(path)


def test_every_change_that_stops_storing_has_its_undoing():
    assert [kind for kind, _ in STOPPED] == ["", "undo"] * len(PAIRS)


@pytest.mark.parametrize(("sql", "undo"), PAIRS)
def test_statements_that_stop_storing_make_no_dead_letter_and_heal(path, sql, undo):
    dead = ask(path, "SELECT * FROM dead_letters")
    before = len(ask(path, "SELECT * FROM messages"))
    run(path, sql)
    sent = [lines([b"a", b"b"]), one(b"c")]
    for _ in range(2):
        with pytest.raises(TablesError):
            store(path, *sent)
    run(path, undo)
    store(path, *sent)
    rows = ask(path, f"SELECT body FROM messages ORDER BY seq LIMIT -1 OFFSET {before}")
    assert rows == [("a",), ("b",), ("c",)]
    assert ask(path, "SELECT * FROM dead_letters") == dead
    check_all_is_well(path)


def test_the_tables_that_the_page_leaves_to_the_appliance_are_those_there_are(path):
    text = PAGE.read_text()
    listed = set(
        re.findall(r"`(\w+)`", text[text.index("Leave the tables") :].split(" to the ")[0])
    )
    tables = {
        row[0]
        for row in ask(path, "SELECT name FROM sqlite_master WHERE type = 'table'")
        if not row[0].startswith("sqlite_")
    }
    assert listed == tables - {"messages", "topics", "dead_letters"}
