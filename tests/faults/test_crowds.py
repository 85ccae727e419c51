"""More of something than anyone planned for, and all of it at once."""

import contextlib
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from harness import START_SECONDS, wait_until
from load import connect, post, wait_drained
from test_killed import kill_all

pytestmark = pytest.mark.slow

#: Topics that are made as fast as it goes, and the clients that make them.
TOPICS = 10_000
CLIENTS = 8


def test_ten_thousand_topics_made_at_once_are_all_stored(appliance):
    one = appliance().start().wait_ready()
    topics = [f"crowd-{number}" for number in range(TOPICS)]
    target = SimpleNamespace(url=one.url, token=one.token)  # read once

    def send(mine):
        with contextlib.closing(connect(target)) as link:
            for topic in mine:
                assert post(link, target, topic, topic.encode())[0] == 202

    began = time.monotonic()
    with ThreadPoolExecutor(CLIENTS) as clients:
        list(clients.map(send, [topics[n::CLIENTS] for n in range(CLIENTS)]))
    took = time.monotonic() - began
    print(f"{TOPICS} topics were made in {took:.0f} s")
    wait_until(lambda: one.count() == TOPICS, "all are stored", 60, one.logs)
    wait_drained(one)
    rows = one.query("SELECT topic, CAST(body AS TEXT) AS body FROM messages")
    assert sorted(row["topic"] for row in rows) == sorted(topics)
    assert all(row["topic"] == row["body"] for row in rows)
    assert [tuple(r) for r in one.query("SELECT count(*), sum(messages) FROM topics")] == [
        (TOPICS, TOPICS)
    ]
    said = one.cli("verify")
    assert said.returncode == 0, said.stdout


def test_program_that_is_older_than_its_data_refuses_and_leaves_all_of_it(appliance, under_load):
    """A downgrade: the database has a schema that this program does not know."""
    one = appliance().start().wait_ready()
    with under_load(one) as load:
        load.wait_accepted(200, START_SECONDS)
        kill_all(one)
        version = change_version(one, 999)
        one.start()
        status = one.popen.wait(60)
        assert status not in (0, None)
        assert "schema 999 is newer than this program's" in one.log
        change_version(one, version)
        one.start().wait_ready()
        load.wait_accepted(200, START_SECONDS)
    load.verify()


def change_version(one, version):
    """Give the database another version of its schema; return the one that it had."""
    link = sqlite3.connect(one.database, isolation_level=None)
    try:
        was = link.execute("PRAGMA user_version").fetchone()[0]
        link.execute(f"PRAGMA user_version = {version}")
        return was
    finally:
        link.close()
