"""The audit trail is bounded, and one with what it tells."""

import pytest
from ready_made import migrate

from appliance.errors import StoreError
from appliance.store.access_rows import Actor, Deed, TokenRow
from appliance.store.rows import Span
from appliance.store.sql import audit_table
from appliance.store.sql.access import StoredAccess
from appliance.store.sqlite.database import connect
from appliance.store.sqlite.reader import SqliteReader
from appliance.store.sqlite.sql_database import SqliteDatabase

DEED = Deed(Actor("administrator", "::1"), "backup", "database")
TOKEN = TokenRow("a", ("read",), ("*",), None, "2026-01-02T03:04:05.678Z")


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "appliance.db"
    migrate(path)
    return path


@pytest.fixture
def access(path):
    reader = SqliteReader(path)
    yield StoredAccess(SqliteDatabase(path, reader))
    reader.close()


def execute(path, statement):
    link = connect(path, readonly=False)
    link.execute(statement)
    link.close()


def test_the_oldest_entries_make_room_for_new_ones(access, monkeypatch):
    monkeypatch.setattr(audit_table, "MAX_ENTRIES", 3)
    for n in range(5):
        access.record(DEED._replace(target=str(n)))
    assert [each.target for each in access.audit(Span(after=0), 9)] == ["2", "3", "4"]


def test_a_change_whose_entry_cannot_be_written_is_not_made(path, access):
    execute(
        path,
        "CREATE TRIGGER no BEFORE INSERT ON audit BEGIN SELECT raise(ABORT, 'no audit'); END",
    )
    with pytest.raises(StoreError, match="no audit"):
        access.create_token(TOKEN, b"d" * 32, DEED)
    assert access.tokens() == []


def test_a_change_by_sql_is_a_new_version_too(path, access):
    access.create_token(TOKEN, b"d" * 32, DEED)
    version = access.version()
    execute(path, "DELETE FROM tokens WHERE name = 'a'")
    assert access.version() != version


def test_a_row_that_someone_broke_by_sql_has_no_rights(path, access):
    access.create_token(TOKEN, b"d" * 32, DEED)
    execute(path, "UPDATE tokens SET rights = 'read', topics = '7'")
    (token,) = access.tokens()
    assert (token.rights, token.topics) == ((), ())
