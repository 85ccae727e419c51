"""Upkeep of the PostgreSQL store: its counters, its checks, and what it leaves to PostgreSQL."""

import pytest
from flask_app import app_of
from store_contents import many, one

from appliance import config as configuration
from appliance.errors import BackupError, InUseError
from appliance.store import open_store
from appliance.store.postgresql.connections import connect
from appliance.store.postgresql.recount import _LOCK


@pytest.fixture
def engine():
    return "postgresql"


def never(_seconds):
    return False


def verified(store, *, quick=False):
    return store.verify(quick=quick, alone=False, progress=lambda *_: None)


def checks(store):
    return {each.check: each for each in store.health.database()}


def test_repair_corrects_counters_and_adds_those_that_are_gone(store, contents, writer, by_hand):
    writer.store([many([b"12", b"\xff\xfe\xfd"], "a"), one(topic="b")])
    before = contents.counters()
    by_hand("UPDATE topics SET messages = 7, bytes = 1, last_at = '2000' WHERE topic = 'a'")
    by_hand("DELETE FROM topics WHERE topic = 'b'")
    checked = verified(store, quick=True)
    assert {each.topic for each in checked.messages.wrong} == {"a", "b"}
    assert len(checked.problems) == 1

    assert len(store.repair(never)) == 2

    assert contents.counters() == before == contents.sums()
    assert verified(store).problems == []
    assert store.repair(never) == []


def test_a_repair_is_refused_beside_another_one(store, config):
    other = connect(config.database_url, readonly=False)
    try:
        other.execute(f"SELECT pg_advisory_lock({_LOCK})")
        with pytest.raises(InUseError):
            store.repair(never)
    finally:
        other.release()
    assert store.repair(never) == []


def test_verify_sums_up_rows_letters_and_ledger(store, writer):
    writer.store([many([b"1", b"22"], "a"), one(b"\0", topic="b")])
    checked = verified(store)
    assert (checked.messages.rows, checked.messages.bytes, checked.messages.topics) == (3, 4, 2)
    assert checked.integrity.ok
    assert checked.dead_letters.total == checked.sources.missing == 0


def test_verify_and_doctor_name_what_is_gone_of_the_schema(store, by_hand):
    by_hand("DROP INDEX messages_topic")
    by_hand("DROP TRIGGER appliance_message_deleted ON messages")
    by_hand("ALTER TABLE messages DISABLE TRIGGER appliance_message_updated")
    expected = [
        "the index messages_topic is gone",
        "the trigger appliance_message_deleted is gone",
        "the trigger appliance_message_updated is gone",
    ]
    assert sorted(verified(store, quick=True).problems) == expected
    assert checks(store)["tables"].level == "error"


def test_verify_finds_rows_that_break_the_order(store, writer, by_hand):
    writer.store([one()])
    by_hand(f"UPDATE messages SET seq = {2**60}")
    (problem,) = verified(store).problems
    assert problem.startswith("rows that another program put behind the last place: 1; ")
    by_hand(problem[problem.index("UPDATE") :])  # as it says
    assert verified(store).problems == []
    assert by_hand("SELECT seq FROM messages") == [(2,)]


def test_verify_finds_that_no_message_can_have_a_place(store, writer, by_hand):
    writer.store([one()])
    by_hand("DELETE FROM shards")
    assert any("shards has no row" in problem for problem in verified(store).problems)


def test_verify_says_what_to_do_about_another_schema(new_store):
    assert "appliance migrate" in verified(new_store).problems[0]


def test_retention_deletes_what_its_rule_does_not_keep(load, store, writer, contents):
    writer.store([many([b"1", b"2", b"3"], "kept"), many([b"1", b"2", b"3"], "cut")])
    bounded = open_store(load(min_free_bytes="0", retention="cut: rows=1"))
    try:
        for duty in bounded.duties(never):
            duty.run()
    finally:
        bounded.reader.close()
    assert {topic: count for topic, count, *_ in contents.counters()} == {"cut": 1, "kept": 3}
    assert verified(store).problems == []


def test_doctor_says_that_all_is_well(store, writer):
    assert store.health.newest() is None
    writer.store([one()])
    assert [each.level for each in store.health.database()] == ["ok"] * 5
    assert store.health.newest() > 0
    assert store.health.files() == []


def test_doctor_names_a_server_that_is_not_safe_from_power_cuts(store):
    # The tests' server does not sync its files.
    assert store.health.engine().level == "warning"
    assert "fsync" in store.health.engine().text


def test_doctor_reports_a_database_that_lacks_a_change_of_its_schema(store, by_hand):
    by_hand("DELETE FROM schema_changes WHERE name = (SELECT max(name) FROM schema_changes)")
    check = checks(store)["schema"]
    assert (check.level, check.advice) == ("error", "run appliance migrate")


def test_doctor_of_a_server_that_is_not_there_says_so_and_raises_nothing(tmp_path):
    url = f"postgresql://user:hidden@/none?host={tmp_path}"
    settings = {"APPLIANCE_DATA": str(tmp_path), "APPLIANCE_DATABASE_URL": url}
    health = open_store(configuration.load(settings)).health
    assert health.engine().level == "warning"
    (check,) = health.database()
    assert check.level == "error"
    assert "hidden" not in health.engine().text + check.text
    assert health.newest() is None


def test_backups_are_refused_in_words_that_say_what_to_use(store, tmp_path):
    for refused in (
        lambda: store.backup.make(tmp_path / "copy", lambda *_: True),
        lambda: store.restore(tmp_path / "copy", lambda *_: True),
        lambda: store.of_backup(tmp_path / "copy"),
    ):
        with pytest.raises(BackupError, match="pg_dump"):
            refused()
    assert store.backup.kept() == store.backup.scheduled() == []


def test_the_api_says_where_backups_are_made(store, config):
    answer = app_of(config).test_client().get("/v1/backup")
    assert (answer.status_code, "docs/postgresql.md" in answer.get_json()["detail"]) == (501, True)
