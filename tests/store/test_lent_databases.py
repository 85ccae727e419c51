"""The tests' own economy: a database that was given back is as it was, or is lent no more."""

import subprocess

import psycopg
import pytest
from lent_databases import LentDatabases
from postgres import programs
from store_contents import letter, many

from appliance import config as configuration
from appliance.store import open_store

SETTING = (
    "DO 'BEGIN EXECUTE format(''ALTER DATABASE %I SET work_mem = 64'', current_database()); END'"
)


@pytest.fixture
def lent(postgres_server):
    """Databases that no other test has."""
    return LentDatabases(postgres_server)


def dumped(url):
    """All that PostgreSQL would copy of a database."""
    done = subprocess.run([programs() / "pg_dump", url], capture_output=True, check=True, text=True)
    # A word of chance guards a dump of later releases.
    return [line for line in done.stdout.splitlines() if "restrict " not in line]


def test_database_that_was_given_back_has_nothing_of_what_was_in_it(lent, tmp_path):
    url = lent.lend()
    fresh = dumped(url)
    environ = {"APPLIANCE_DATA": str(tmp_path), "APPLIANCE_DATABASE_URL": url}
    store = open_store(configuration.load(environ))
    writer = store.open_writer()  # which the test forgets to close
    writer.store([many([b"1", b"\xff"]), letter()])
    assert dumped(url) != fresh
    lent.give_back(url)
    assert lent.lend() == url
    assert dumped(url) == fresh
    lent.give_back(url)
    store.reader.close()


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE mine (a int)",
        "DROP INDEX messages_topic",
        "ALTER TABLE messages DISABLE TRIGGER appliance_message_updated",
        "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        SETTING,
    ],
)
def test_database_whose_schema_or_settings_were_changed_is_lent_no_more(lent, statement):
    url = lent.lend()
    with psycopg.connect(url, autocommit=True) as link:
        link.execute(statement)
    lent.give_back(url)
    assert lent.lend() != url
