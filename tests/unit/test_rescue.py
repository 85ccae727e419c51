"""Rows of a damaged database that can still be read, in a sound copy."""

import json
import os
import random
import subprocess

import pytest
from database_pages import PAGE, pages
from harness import APPLIANCE
from store_contents import letter, many

from appliance import config as configuration
from appliance.errors import BackupError
from appliance.store import open_store
from appliance.store.sqlite.database import connect
from appliance.store.sqlite.writer import SqliteWriter

ROWS = 600


def go_on(_step, _share):
    return True


@pytest.fixture
def data(tmp_path):
    return tmp_path / "data"


@pytest.fixture
def store(data):
    """A database with many messages, a few dead letters, and nothing in its log."""
    made = open_store(configuration.load({"APPLIANCE_DATA": str(data)}))
    made.migrate()
    writer = SqliteWriter(made.path)
    for number in range(ROWS // 100):
        writer.store([many([b"%d %d " % (number, n) + b"x" * 500 for n in range(100)])])
    writer.store([letter(b"dead %d" % n, message_id=str(n)) for n in range(5)])
    writer.close()
    return made


def ask(path, sql, *values):
    link = connect(path, readonly=True)
    try:
        return link.execute(sql, values).fetchall()
    finally:
        link.close()


def leaves(path, name):
    return pages(path, name)[1]


def flip(path, page, at, mask=0x80):
    """Flip a bit of a page."""
    with path.open("r+b") as file:
        file.seek((page - 1) * PAGE + at)
        byte = file.read(1)[0]
        file.seek((page - 1) * PAGE + at)
        file.write(bytes([byte ^ mask]))


def run(settings, *arguments):
    return subprocess.run(
        [APPLIANCE, *arguments],
        env=os.environ | settings,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def rescue(store, tmp_path):
    rescued = store.backup.rescue(tmp_path / "rescued.db", go_on)
    assert ask(rescued.path, "PRAGMA integrity_check") == [("ok",)]
    assert rescued.path.stat().st_mode & 0o777 == 0o600
    return rescued


def test_a_sound_database_is_rescued_whole(store, tmp_path):
    rescued = rescue(store, tmp_path)
    assert (rescued.lost, rescued.unknown, rescued.ids) == ({}, [], [])
    for sql in ("SELECT * FROM messages", "SELECT * FROM topics", "SELECT * FROM dead_letters"):
        assert ask(rescued.path, sql) == ask(store.path, sql)
    sequence = "SELECT seq FROM sqlite_sequence WHERE name = 'messages'"
    assert ask(rescued.path, sequence) == ask(store.path, sequence)


@pytest.mark.parametrize("which", [0, 7, -1])
def test_a_damaged_page_of_messages_loses_its_own_rows_only_and_names_them(store, tmp_path, which):
    before = dict(ask(store.path, "SELECT id, body FROM messages"))
    damaged = leaves(store.path, "messages")[which]
    flip(store.path, damaged, 0)  # the kind of page
    rescued = rescue(store, tmp_path)
    after = dict(ask(rescued.path, "SELECT id, body FROM messages"))
    gone = before.keys() - after.keys()
    assert 0 < len(gone) <= 20
    assert after.items() <= before.items()
    assert set(rescued.ids) == gone
    assert rescued.lost == {"messages": len(gone)}
    assert rescued.rows["dead_letters"] == 5
    assert ask(rescued.path, "SELECT messages FROM topics WHERE topic = 't'") == [(len(after),)]


def test_a_damaged_index_loses_nothing(store, tmp_path):
    flip(store.path, leaves(store.path, "sqlite_autoindex_messages_1")[1], 0)
    rescued = rescue(store, tmp_path)
    assert rescued.rows["messages"] == ROWS
    assert not rescued.lost


def test_a_damaged_small_table_takes_no_other_with_it(store, tmp_path):
    flip(store.path, leaves(store.path, "sources")[0], 0)
    rescued = rescue(store, tmp_path)
    assert rescued.unknown == ["sources"]
    assert rescued.rows["messages"] == ROWS


@pytest.mark.parametrize("seed", range(8))
def test_any_flipped_bits_of_rows_and_indexes_leave_a_sound_copy_that_ends(store, tmp_path, seed):
    chance = random.Random(seed)
    places = [
        number
        for name in ("messages", "sqlite_autoindex_messages_1", "messages_topic", "dead_letters")
        for number in leaves(store.path, name)
    ]
    for _ in range(8):
        flip(store.path, chance.choice(places), chance.randrange(PAGE), 1 << chance.randrange(8))
    rescued = rescue(store, tmp_path)
    assert rescued.rows["messages"] > ROWS // 2


def test_a_file_that_is_no_database_is_said_and_nothing_is_left(store, tmp_path):
    store.path.write_bytes(b"\xff" * 50_000)
    with pytest.raises(BackupError, match="read"):
        store.backup.rescue(tmp_path / "rescued.db", go_on)
    assert list(tmp_path.glob("*rescued*")) == []


def test_the_command_says_what_is_lost_and_restore_puts_the_rest_in_place(store, data):
    folder = {"APPLIANCE_DATA": str(data)}
    flip(store.path, leaves(store.path, "messages")[3], 0)
    found = run(folder, "verify")
    assert found.returncode == 1
    assert "appliance backup --rescue" in found.stderr
    done = run(folder, "backup", "--rescue")
    assert done.returncode == 1, done.stderr
    path = done.stdout.strip()
    assert "lost: " in done.stderr
    assert f"appliance restore {path}" in done.stderr
    restored = run(folder, "restore", "--yes", path)
    assert restored.returncode == 0, restored.stderr
    checked = run(folder, "verify", "--json")
    assert json.loads(checked.stdout)["problems"] == []
    assert list(data.glob("appliance.db.before-restore-*"))
