"""The janitor beside a worker under load: rows deleted, copied and indexed, the WAL kept small."""

import os
import random
import sqlite3
import time

import pytest
from harness import Process, wait_until
from load import Load

from appliance.model.ids import IdSource
from appliance.model.timestamps import timestamp
from appliance.model.wire import Message, pack
from appliance.store.sqlite.writer import SqliteWriter


@pytest.fixture
def janitor(stack):
    """Make a stack with a janitor that isn't started yet."""
    made = []

    def make(rows=0, **settings):
        running = stack(start=False, own=False, workers=1, **settings)
        running.cli("migrate").check_returncode()
        if rows:
            store_old(running.database, rows)
        running.start()
        made.append(Process("janitor", running.env, running.folder))
        return running, made[-1]

    yield make
    for process in made:
        process.kill()


def store_old(database, count):
    """Store messages of two hours ago."""
    writer, ids, moment = SqliteWriter(database), IdSource(), timestamp(time.time() - 7200)
    for _ in range(count // 1000):
        bodies = (b"forgotten %s" % random.randbytes(145).hex().encode() for _ in range(1000))
        found = [Message(ids.new(), moment, body) for body in bodies]
        writer.store([pack("old", found, 300_000)])
    writer.close()


def found(running, topic, words):
    """Return how many messages of a topic a search finds."""
    parameters = {"q": words, "format": "ndjson"}
    return len(running.get(f"/v1/topics/{topic}/messages", params=parameters).text.splitlines())


def wal(running):
    path = running.database.with_name("appliance.db-wal")
    return path.stat().st_size if path.exists() else 0


def test_messages_that_are_too_old_go_under_load_and_the_counts_stay_true(janitor):
    """Beside a backup, checkpoints and the search index, which the janitor makes meanwhile."""
    running, keeper = janitor(100_000, retention="old: age=1h; *: rows=1000000", backup_every="1h")
    before = running.database.stat().st_size + wal(running)
    with Load(running, "new", senders=3) as load:
        load.wait_accepted(30)
        keeper.start()
        wait_until(lambda: "messages deleted" in keeper.log, "it is deleted", 120)
        wait_until(lambda: "scheduled backup made" in keeper.log, "a scheduled backup is made", 60)
        load.wait_accepted(30)
    load.verify()  # compares each topic's counts with its rows as well
    assert running.count("old") == 0
    (old,) = running.query("SELECT messages, bytes FROM topics WHERE topic = 'old'")
    assert tuple(old) == (0, 0)
    wait_until(lambda: "search index complete" in keeper.log, "all is indexed", 60)
    assert running.cli("verify").returncode == 0  # compares the index with the messages
    assert found(running, "old", "forgotten") == 0
    assert found(running, "new-0", "new") == running.count("new-0") > 0
    assert keeper.stop() == 0
    (copy,) = (running.data / "backups").iterdir()
    assert copy.name.startswith("scheduled-")
    with sqlite3.connect(running.database) as link:
        link.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert link.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    link.close()
    assert running.database.stat().st_size < before / 2


def test_a_reader_that_never_ends_is_named_and_the_wal_is_cut_when_it_ends(janitor):
    running, keeper = janitor()
    lines = b"\n".join(b"x" * 1000 for _ in range(8000))
    reader = sqlite3.connect(f"file:{running.database}?mode=ro", uri=True, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM messages").fetchone()
    sent = 0
    while wal(running) < 140 * 2**20:
        assert running.publish("big", lines, {"split": "lines"}).status_code == 202
        sent += 8000
        running.wait_rows(sent, "big", 60)
    keeper.start()
    words = "write-ahead log held open"
    wait_until(lambda: words in keeper.log, "it is told", 60)
    assert f"({os.getpid()})" in keeper.log
    assert running.get("/readyz").status_code == 200  # nothing is refused because of it
    reader.close()
    keeper.kill()
    keeper.start()  # it looks again after some seconds, not half a minute
    wait_until(lambda: wal(running) == 0, "the WAL is cut", 60)
    assert running.count("big") == sent
