"""Subscriptions in a backup, and in a damaged database that is rescued: no message is skipped."""

import contextlib

import pytest
from database_pages import PAGE, pages
from store_contents import many

from appliance import config as configuration
from appliance.model import timestamps
from appliance.store import open_store
from appliance.store.access_rows import Actor, Deed
from appliance.store.sql.pulling import StoredPuller
from appliance.store.sqlite.database import connect
from appliance.store.sqlite.reader import SqliteReader
from appliance.store.sqlite.sql_database import SqliteDatabase
from appliance.store.subscription_rows import Receive, Settlement, SubscriptionRow

ROWS = 600
DEED = Deed(Actor("administrator", "127.0.0.1"), "subscription-create", "s")


def pull(path, count, action=None):
    """Receive messages, and acknowledge them or not; return their places."""
    with contextlib.closing(SqliteReader(path)) as reader:
        puller, places = StoredPuller(SqliteDatabase(path, reader)), []
        while len(places) < count:
            (got,) = puller.serve([Receive("s", None, min(500, count - len(places)), 1000)])
            if not got.messages and not got.is_partial:
                break
            places += [each.message.seq for each in got.messages]
            if action:
                leases = tuple(each.lease for each in got.messages)
                puller.serve([Settlement(action, "s", None, leases)])
    return places


def end_leases(path):
    link = connect(path, readonly=False)
    link.execute("UPDATE leases SET until = 0 WHERE state = 'leased'")
    link.close()


def damage(path, name):
    """Make the middle page of a table or an index unreadable."""
    leaves = pages(path, name)[1]
    assert len(leaves) > 1
    with path.open("r+b") as file:
        file.seek((leaves[len(leaves) // 2] - 1) * PAGE)
        file.write(bytes(100))


@pytest.fixture
def store(tmp_path):
    """A subscription of 600 messages: the first 50 are acknowledged, the next 500 are leased."""
    made = open_store(configuration.load({"APPLIANCE_DATA": str(tmp_path / "data")}))
    made.migrate()
    writer = made.open_writer()
    writer.store([many([b"%d" % n for n in range(ROWS)])])
    writer.close()
    row = SubscriptionRow("s", ("*",), 60, 5, timestamps.now())
    made.subscriptions.create(row, "", DEED)
    assert pull(made.path, 50, "ack") == list(range(1, 51))
    assert pull(made.path, 500) == list(range(51, 551))
    made.reader.close()
    link = connect(made.path, readonly=False)
    link.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    link.close()
    return made


def rescue(store, tmp_path):
    return store.backup.rescue(tmp_path / "rescued.db", lambda *_: True)


def test_a_backup_hands_out_again_what_was_leased_when_it_was_made(store, tmp_path):
    copy = store.backup.make(tmp_path / "copy.db", lambda *_: True).path
    pull(store.path, 50, "ack")
    end_leases(copy)
    assert sorted(pull(copy, 1000, "ack")) == list(range(51, ROWS + 1))


def test_lost_rows_of_leases_are_rescued_from_their_index(store, tmp_path):
    damage(store.path, "leases")
    rescued = rescue(store, tmp_path)
    assert rescued.unknown == []
    end_leases(rescued.path)
    assert sorted(pull(rescued.path, 1000, "ack")) == list(range(51, ROWS + 1))


def test_a_subscription_goes_back_where_its_leases_and_their_index_are_damaged(store, tmp_path):
    damage(store.path, "leases")
    damage(store.path, "leases_due")
    rescued = rescue(store, tmp_path)
    assert rescued.unknown == ["leases"]
    end_leases(rescued.path)
    again = pull(rescued.path, 1000, "ack")
    assert set(range(51, ROWS + 1)) <= set(again)
    assert len(again) == len(set(again))
