"""How letters are found and counted: from indexes, so that a hundred thousand cost no page more."""

import pytest
from ready_made import migrate

from appliance.store.rows import Choice
from appliance.store.sql.dead_letters import StoredDeadLetters
from appliance.store.sqlite.reader import SqliteReader
from appliance.store.sqlite.sql_database import SqliteDatabase

#: Which letters, and what the plan of their page must name.
PAGES = [
    (Choice(reason="schema"), "appliance_letters_by_reason"),
    (Choice(topic="orders"), "appliance_letters_by_topic"),
    (Choice(topic="orders", reason="schema", before=9), "appliance_letters_by_both"),
    (Choice(topic="orders", after=9), "appliance_letters_by_topic"),
]


@pytest.fixture
def reader(tmp_path):
    migrate(tmp_path / "appliance.db")
    reader = SqliteReader(tmp_path / "appliance.db")
    yield reader
    reader.close()


def plans(reader, read):
    """Return the plan of each statement that a read makes."""
    statements = []
    with reader.reading() as connection:
        connection.set_trace_callback(statements.append)
        read()
        connection.set_trace_callback(None)
        asked = [each for each in statements if each.lstrip().startswith(("SELECT", "WITH"))]
        assert asked
        return "\n".join(
            step[-1] for each in asked for step in connection.execute(f"EXPLAIN QUERY PLAN {each}")
        )


@pytest.mark.parametrize(("choice", "index"), PAGES)
def test_a_page_of_letters_is_read_in_the_order_of_an_index(reader, choice, index):
    letters = StoredDeadLetters(SqliteDatabase(reader._path, reader))
    found = plans(reader, lambda: letters.page(choice, 50))
    assert f"SEARCH dead_letters USING INDEX {index} " in found
    assert "TEMP B-TREE" not in found


@pytest.mark.parametrize("patterns", [None, ("orders", "site-*")])
@pytest.mark.parametrize("what", ["reasons", "count", "totals", "of_topics"])
def test_letters_are_counted_without_reading_one(reader, what, patterns):
    letters = StoredDeadLetters(SqliteDatabase(reader._path, reader))
    read = {
        "reasons": lambda: letters.reasons(patterns),
        "count": lambda: letters.count(Choice(reason="schema", patterns=patterns)),
        "totals": lambda: reader.totals(patterns),
        "of_topics": lambda: letters.of_topics(["orders"]),
    }[what]
    for step in plans(reader, read).splitlines():
        if " dead_letters" in step:
            assert "COVERING INDEX appliance_letters_by_" in step
