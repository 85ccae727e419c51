"""Primaries of PostgreSQL that come and go: an old one is not used, and copies are there or not."""

import shutil
import subprocess
import tempfile
import time

import psycopg
import pytest
from flask_app import app_of
from postgres import PostgresServer, programs
from postgres_copy import PostgresCopy
from store_contents import one

from appliance import config as configuration
from appliance.alerts.alert_conditions import AlertConditions
from appliance.errors import FewCopiesError, OldPrimaryError, StoreError
from appliance.store import open_store
from appliance.store.postgresql import hosts, patience, standbys, timelines
from appliance.store.postgresql.connections import connect


def wait_for(state):
    deadline = time.monotonic() + 60
    while not state():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def run(url, statement):
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def checks(store, name):
    return [each for each in store.health.database() if each.check == name]


def alerts(store):
    return {each.kind for each in AlertConditions(store._config, store.reader).now()}


class Pair:
    """A primary, a standby of it that was promoted, and a writer that was opened before that."""

    def __init__(self, folder):
        self.folder = folder
        self.old = PostgresServer()
        self.url_of_old = self.old.new_database(migrated=True)
        self.new = PostgresCopy(self.old)
        self.url_of_new = self.new.url_of(self.url_of_old)
        self.url = self.url_of_old.replace(
            str(self.old.folder), f"{self.old.folder},{self.new.folder}"
        )
        self.store = self.open("first")
        self.writer = self.store.open_writer()
        self.writer.store([one(b"before")])
        query = "SELECT count(*) FROM messages"
        wait_for(lambda: run(self.url_of_new, query) == [(1,)])
        assert checks(self.store, "copies")[0].level == "warning"
        run(self.url_of_new, "SELECT pg_promote()")

    def open(self, name, **settings):
        environ = {f"APPLIANCE_{key.upper()}": str(value) for key, value in settings.items()}
        given = {"APPLIANCE_DATA": str(self.folder / name), "APPLIANCE_DATABASE_URL": self.url}
        (self.folder / name).mkdir(exist_ok=True)
        return open_store(configuration.load(given | environ))

    def remove(self):
        self.writer.close()
        self.new.remove()
        self.old.remove()


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    pair = Pair(tmp_path_factory.mktemp("pair"))
    yield pair
    pair.remove()


@pytest.fixture
def opened(pair):
    """Stores of hosts of their own, or of the one that had the first writer."""
    stores = []

    def opened(name, **settings):
        stores.append(pair.open(name, **settings))
        return stores[-1]

    yield opened
    for store in stores:
        store.reader.close()


def bodies_at(url):
    return [body for (body,) in run(url, "SELECT body FROM messages ORDER BY seq")]


def test_a_writer_leaves_an_old_primary_that_is_up_and_the_next_one_uses_the_new(
    pair, opened, monkeypatch
):
    monkeypatch.setattr(hosts, "LOOK_SECONDS", 0.0)

    def is_refused():
        try:
            pair.writer.check()
        except OldPrimaryError:
            return True
        return False

    wait_for(is_refused)
    with pytest.raises(OldPrimaryError, match="pg_rewind"):
        pair.writer.store([one(b"lost")])
    store = opened("first")
    writer = store.open_writer()
    writer.store([one(b"after")])
    writer.close()
    assert bodies_at(pair.url_of_new)[-1] == "after"
    assert bodies_at(pair.url_of_old) == ["before"]


def test_a_host_that_knows_of_nothing_uses_the_new_primary_of_two(pair, opened):
    store = opened("new")
    store.reader.check()
    with store._database.writing() as connection:
        assert connection.timeline.number == 2
    (used, other) = checks(store, "database")
    assert used.level == "ok"
    assert (other.level, str(pair.old.folder) in other.text) == ("warning", True)


def test_an_old_primary_is_refused_while_the_new_one_is_away_and_after_a_restart_too(pair, opened):
    opened("refusing").reader.check()  # its host has seen the new primary
    pair.new.stop()
    try:
        store = opened("refusing")
        for attempt in (store.open_writer, store.reader.check, store.reader.last_seq):
            with pytest.raises(OldPrimaryError, match="its timeline is 1, and 2 was seen"):
                attempt()
        ready = app_of(store._config).test_client().get("/readyz").get_json()
        assert ready["checks"]["store_readable"] is False
        assert "old primary" in " ".join(ready["reasons"])
        (check,) = checks(store, "database")
        assert (check.level, "database-timeline" in check.advice) == ("error", True)
    finally:
        pair.new.start()


def test_readers_and_sessions_leave_a_primary_once_a_newer_one_was_seen(pair, opened):
    store = opened("readers")
    store._hosts._given = store._hosts.url = pair.url_of_old
    store.reader.last_seq()
    with store._database.writing() as connection:
        assert connection.timeline.number == 1
    store._hosts.newest.note(timelines.Timeline(connection.timeline.cluster, 2))
    with pytest.raises(OldPrimaryError):
        store.reader.last_seq()
    with pytest.raises(OldPrimaryError), store._database.writing():
        pass


def test_a_timeline_is_told_to_a_user_without_any_right(pair):
    run(pair.url_of_new, "DO $$ BEGIN CREATE ROLE plain LOGIN; END $$")
    url = pair.url_of_new.replace("user=postgres", "user=plain")
    connection = connect(url, readonly=True)
    try:
        assert timelines.ask(connection).number == 2
        assert standbys.look(connection).connected is None
    finally:
        connection.close()


def test_a_file_that_is_no_note_or_can_not_be_written_stops_nothing(tmp_path):
    seen = timelines.Timeline(7, 3)
    for path in (tmp_path / "none" / "note", tmp_path / "odd"):
        (tmp_path / "odd").write_text("no numbers")
        newest = timelines.NewestTimelines(path)
        assert newest.newest(seen) == 0
        newest.note(seen)
        assert newest.newest(seen) == 3
        assert newest.is_old(seen._replace(number=2))
        assert not newest.is_old(seen._replace(cluster=8))
    assert timelines.NewestTimelines(tmp_path / "odd").newest(seen) == 3


@pytest.mark.parametrize(
    ("names", "count"),
    [
        ("", 0),
        ("  ", 0),
        ("*", 1),
        ("a, b", 1),
        ("2 (a, b, c)", 2),
        ("FIRST 2 (a, b, c)", 2),
        ("any 1(*)", 1),
        ("ANY 3 (a,b,c)", 3),
        ('"first 2 (a"', 1),
    ],
)
def test_copies_that_a_commit_waits_for_are_those_of_the_setting(names, count):
    assert standbys.awaited(names) == count


def wait_for_names(url, names):
    run(url, f"ALTER SYSTEM SET synchronous_standby_names = '{names}'")
    run(url, "SELECT pg_reload_conf()")
    wait_for(lambda: run(url, "SHOW synchronous_standby_names") == [(names,)])


@pytest.fixture
def receiver(pair):
    """Start a program that takes the log as a synchronous standby does."""
    folder = tempfile.mkdtemp(prefix="wal-")
    started = []

    def start():
        command = [str(programs() / "pg_receivewal"), "--synchronous", "--no-loop", "-D", folder]
        command += ["-h", str(pair.new.folder), "-U", "postgres"]
        started.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
        query = "SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"
        wait_for(lambda: run(pair.url_of_new, query))

    yield start
    for process in started:
        process.kill()
        process.wait()
    wait_for_names(pair.url_of_new, "")
    shutil.rmtree(folder)


def test_nothing_is_stored_with_fewer_synchronous_copies_than_are_wanted(
    pair, opened, receiver, monkeypatch
):
    monkeypatch.setattr(patience, "COMMIT_SECONDS", 1.0)
    store = opened("copied", database_synchronous_copies=1)
    for attempt in (store.open_writer, store.reader.check):
        with pytest.raises(FewCopiesError, match="1 synchronous copies are wanted"):
            attempt()
    ready = app_of(store._config).test_client().get("/readyz").get_json()["checks"]
    assert (ready["store_copied"], ready["store_readable"]) == (False, True)
    assert store.reader.details()["synchronous_copies"] == 0
    assert "copies" in alerts(store)
    assert checks(store, "copies")[0].level == "error"

    wait_for_names(pair.url_of_new, "*")
    for attempt in (store.open_writer, store.reader.check):
        with pytest.raises(FewCopiesError, match="0 are connected"):
            attempt()
    assert checks(store, "copies")[0].level == "error"
    with pytest.raises(StoreError, match="no answer"), store._database.writing() as connection:
        connection.execute("UPDATE shards SET last_seq = last_seq")

    receiver()
    store.reader.check()
    assert store.reader.details()["synchronous_copies"] == 1
    assert "copies" not in alerts(store)
    assert "pg_receivewal" in checks(store, "copies")[0].text
    writer = store.open_writer()
    writer.store([one(b"copied")])

    wait_for_names(pair.url_of_new, "")
    writer._copies_due = 0.0
    with pytest.raises(FewCopiesError):
        writer.store([one(b"not copied")])
    writer.close()
    assert bodies_at(pair.url_of_new)[-1] == "copied"
    opened("lone").reader.check()  # nothing is wanted there
