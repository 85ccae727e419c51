"""Changes of PostgreSQL's schema: with data, beside readers, and beside programs that know less."""

import contextlib
import threading

import psycopg
import pytest
from store_contents import Contents, many, one

from appliance.errors import SchemaError, StoreError
from appliance.model.timestamps import now
from appliance.store.access_rows import Actor, Deed
from appliance.store.postgresql import migrations, objects
from appliance.store.rows import Window
from appliance.store.subscription_rows import Receive, SubscriptionRow


@pytest.fixture
def engine():
    return "postgresql"


@contextlib.contextmanager
def knowing(names):
    """Be a program that knows these changes only."""
    known = migrations.changes
    migrations.changes = lambda: tuple(names)
    objects._wanted.cache_clear()
    try:
        yield
    finally:
        migrations.changes = known
        objects._wanted.cache_clear()


def before(name):
    """The changes before one."""
    return [each for each in migrations.changes() if each < name]


def rows_of(store):
    return [row.body for row in store.reader.page(Window("t"), 9).rows]


@pytest.mark.parametrize("known", [1, 2, 3, 4])
def test_a_database_of_any_earlier_schema_is_brought_to_this_one(new_store, known):
    names = migrations.changes()
    with knowing(names[:known]):
        assert len(new_store.migrate()) == known
    added = new_store.migrate()
    assert added == [name.removesuffix(".sql") for name in names[known:]]
    writer = new_store.open_writer()
    writer.store([one()])
    writer.close()
    assert new_store.verify(quick=False, alone=False, progress=lambda *_: None).problems == []


def test_data_of_the_schema_before_is_counted_right_when_it_is_deleted(new_store, by_hand):
    contents = Contents(new_store)
    with knowing(before("005")):
        new_store.migrate()
        writer = new_store.open_writer()
        writer.store([many([b"1", b"22", b"\xff\xfe"], "a"), many([b"4444", b"5"], "b")])
        writer.close()
    row = SubscriptionRow("work", ("a",), 60, 5, now())
    deed = Deed(Actor("ann", "::1"), "subscription-create", "work")
    new_store.subscriptions.create(row, "", deed)
    new_store.puller.serve([Receive("work", None, 2, None)])
    assert by_hand("SELECT count(*) FROM leases") == [(2,)]

    assert new_store.migrate()[0] == "005-deletions.compatible"

    by_hand("DELETE FROM messages WHERE seq IN (1, 3, 4)")
    assert contents.counters() == contents.sums()
    assert {topic: counts for topic, *counts in by_hand(
        "SELECT topic, messages, bytes FROM topics"
    )} == {"a": [1, 2], "b": [1, 1]}  # fmt: skip
    assert by_hand("SELECT seq FROM leases") == [(2,)]
    assert new_store.subscriptions.find("work").gone == 1
    by_hand("DELETE FROM messages")
    by_hand("DELETE FROM messages")
    assert by_hand("SELECT DISTINCT messages, bytes FROM topics") == [(0, 0)]
    assert new_store.subscriptions.find("work").gone == 2


def test_own_rows_of_a_database_of_the_schema_before_have_places_of_the_database(
    new_store, by_hand
):
    own = "INSERT INTO messages (id, topic, body, received_at) VALUES ('mine', 't', 'own', '{}')"
    with knowing(before("006")):
        new_store.migrate()
        older = new_store.open_writer()
        older.store([one(b"older")])
        with pytest.raises(psycopg.errors.NotNullViolation):
            by_hand(own.format(now()))
    assert new_store.migrate() == ["006-own-rows.compatible"]
    by_hand(own.format(now()))
    with knowing(before("006")):
        older.store([one(b"older again")])
        older.close()
    newer = new_store.open_writer()
    newer.store([one(b"newer")])
    newer.close()
    assert rows_of(new_store) == [b"newer", b"older again", b"own", b"older"]
    assert Contents(new_store).dead() == []


def test_a_program_goes_on_beside_a_newer_one_whose_change_is_compatible(store, writer, by_hand):
    last = migrations.changes()[-1]
    with knowing(before(last)):  # as the program before this one, where it knows the rule
        store.reader.check()
        older = store.open_writer()
        older.store([one(b"older")])
        writer.store([one(b"newer")])
        older.store([one(b"older again")])
        older.close()
        assert rows_of(store) == [b"older again", b"newer", b"older"]
        by_hand("DELETE FROM messages WHERE body = 'newer'")
        assert store.verify(quick=False, alone=False, progress=lambda *_: None).problems == []
        (schema,) = [each for each in store.health.database() if each.check == "schema"]
        assert (schema.level, last in schema.text) == ("ok", True)
        assert store.migrate() == []


def test_a_change_that_is_not_compatible_stops_a_program_that_does_not_know_it(store, by_hand):
    by_hand("INSERT INTO schema_changes (name) VALUES ('999-other.sql')")
    for attempt in (store.open_writer, store.reader.check, store.migrate):
        with pytest.raises(SchemaError, match=r"999-other\.sql"):
            attempt()
    by_hand("UPDATE schema_changes SET name = '999-other.compatible.sql' WHERE name LIKE '999%'")
    store.reader.check()
    store.open_writer().close()


def test_a_migration_that_waits_for_a_long_read_lets_others_go_on(
    new_store, config, monkeypatch, by_hand
):
    monkeypatch.setattr(migrations, "_PAUSE", 0.1)
    monkeypatch.setattr(migrations, "_LOCK_TIMEOUT_MS", 100)
    with knowing(before("005")):
        new_store.migrate()
        writer = new_store.open_writer()
    with psycopg.connect(config.database_url) as other:
        other.execute("DELETE FROM messages")  # in a transaction that stays open
        thread = threading.Thread(target=new_store.migrate)
        thread.start()
        for number in range(20):
            writer.store([one(b"%d" % number)])
        assert by_hand("SELECT 1 FROM schema_changes WHERE name LIKE '005%'") == []
    thread.join()
    writer.close()
    assert by_hand("SELECT 1 FROM schema_changes WHERE name LIKE '005%'") == [(1,)]


def test_a_migration_gives_up_where_a_lock_is_never_given(new_store, config, monkeypatch):
    monkeypatch.setattr(migrations, "_PAUSE", 0.01)
    monkeypatch.setattr(migrations, "_LOCK_TIMEOUT_MS", 50)
    monkeypatch.setattr(migrations, "_TRIES", 2)
    with knowing(before("005")):
        new_store.migrate()
    with psycopg.connect(config.database_url) as other:
        other.execute("DELETE FROM messages")
        with pytest.raises(StoreError):
            new_store.migrate()
    assert new_store.migrate()[0] == "005-deletions.compatible"
