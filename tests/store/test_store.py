"""The store as a whole: its schema, its lock, its duties, its checks."""

import threading

import pytest
from store_contents import IDS, TIME, letter, lines, many, one

from appliance.model.timestamps import timestamp
from appliance.model.wire import Message, pack
from appliance.store import open_store


def verify(store, *, quick=False, alone=False):
    return store.verify(quick=quick, alone=alone, progress=lambda *_: None)


def run_duties(store):
    for duty in store.duties(lambda _seconds: False):
        # One that has more to do is due again at once; it rests in the end.
        assert any(duty.run() > 0 for _ in range(10))


def test_opening_a_store_makes_nothing(config):
    store = open_store(config)
    assert store.location
    assert not config.data.exists()


def test_migrate_makes_the_database_once(new_store):
    assert new_store.migrate() != []
    assert new_store.migrate() == []
    new_store.reader.check()


def test_processes_that_migrate_at_once_make_one_database(config):
    applied = []
    threads = [
        threading.Thread(target=lambda: applied.append(open_store(config).migrate()))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([names for names in applied if names]) == 1
    assert len(applied) == 6


def test_a_store_that_is_in_use_is_used_by_others_too(store, config):
    with store.in_use(), open_store(config).in_use():
        store.reader.check()


def test_rows_are_all_messages_in_the_order_of_storing(store, writer):
    writer.store([one(b"1"), lines([b"2", b"3"], topic="u"), many([b"\xff"])])
    assert [(topic, body) for topic, _, body in store.rows()] == [
        ("t", "1"), ("u", "2"), ("u", "3"), ("t", b"\xff"),
    ]  # fmt: skip


def test_a_sound_store_is_verified_without_problems(store, writer):
    writer.store([lines([b"a", b"b"]), one(topic="u"), letter(reason="bad-topic")])
    result = verify(store)
    assert (result.problems, result.notes) == ([], [])
    assert (result.messages.rows, result.messages.topics) == (3, 2)
    assert result.dead_letters.by_reason == {"bad-topic": 1}
    assert result.schema == result.schema_wanted
    assert result.integrity.ok


def test_a_dead_letter_whose_message_is_stored_as_well_is_noted(store, writer):
    message = one(b"twice")
    writer.store([message, letter(b"twice", message_id=message.id)])
    result = verify(store, quick=True)
    assert result.dead_letters.also_stored == 1
    assert (result.problems, len(result.notes)) == ([], 1)


def test_the_duties_of_a_store_run_beside_a_writer_and_lose_nothing(store, writer, contents):
    writer.store([many([b"x" * 1000] * 5000)])
    run_duties(store)
    writer.store([one(b"last")])
    assert len(contents.bodies()) == 5001
    assert contents.counters() == contents.sums()
    assert verify(store).problems == []


def test_retention_deletes_the_oldest_and_keeps_the_counters_right(load):
    store = open_store(load(retention="t: rows=10; u: keep"))
    store.migrate()
    writer = store.open_writer()
    old = timestamp(1.7e9)
    for topic in "tu":
        items = [Message(IDS.new(), old, b"%d" % n) for n in range(100)]
        writer.store([pack(topic, items, 190)])
    run_duties(store)
    writer.store([one(b"new")])
    writer.close()
    counts = {topic.topic: topic.messages for topic in store.reader.topics()}
    assert counts == {"t": 11, "u": 100}
    assert verify(store).problems == []
    store.reader.close()


def test_the_checks_of_a_sound_store_are_ok(store, writer, engine):
    assert store.health.newest() is None
    writer.store([one()])
    assert {check.level for check in store.health.database()} == {"ok"}
    # The tests' PostgreSQL does not sync, for speed.
    expected = {"sqlite": ("ok", ""), "postgresql": ("warning", "fsync")}[engine]
    check = store.health.engine()
    assert check.level == expected[0]
    assert expected[1] in check.text
    assert store.health.newest() == pytest.approx(1767323045.678)
    assert all(path.is_absolute() for path in store.health.files())


def test_the_checks_before_there_is_a_database_raise_nothing(new_store):
    assert new_store.health.newest() is None
    assert [check.level for check in new_store.health.database()].count("error") == 0


def test_times_are_kept_as_they_were_given(store, writer, contents):
    writer.store([one(time=TIME)])
    assert [row.received_at for row in contents.messages()] == [TIME]
