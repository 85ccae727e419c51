"""A PostgreSQL database as docs/postgresql.md says to make, dump and restore it."""

import subprocess
from dataclasses import replace

import psycopg
import pytest
from postgres import programs
from store_contents import TIME, letter, many, one

from appliance import config as configuration
from appliance.model.conditions import json_path
from appliance.model.meta import EXPIRES_AT
from appliance.store import open_store

OWNER = "appliance_owner"


@pytest.fixture
def engine():
    return "postgresql"


@pytest.fixture
def owned(postgres_server):
    """Make databases that belong to a user who is no superuser; their URLs."""
    made = []

    def run(statement):
        with psycopg.connect(postgres_server.url("postgres"), autocommit=True) as connection:
            connection.execute(statement.encode())

    def make(name):
        run(f"CREATE DATABASE {name} OWNER {OWNER} ENCODING 'UTF8' TEMPLATE template0")
        made.append(name)
        return postgres_server.url(name).replace("user=postgres", f"user={OWNER}")

    run(f"CREATE ROLE {OWNER} LOGIN")
    yield make
    for name in made:
        run(f"DROP DATABASE {name} WITH (FORCE)")
    run(f"DROP ROLE {OWNER}")


def opened(url, tmp_path):
    return open_store(
        configuration.load({"APPLIANCE_DATA": str(tmp_path), "APPLIANCE_DATABASE_URL": url})
    )


def test_a_restored_dump_of_a_plain_user_s_database_goes_on_where_it_was(owned, tmp_path):
    store = opened(url := owned("first"), tmp_path)
    store.migrate()
    writer = store.open_writer()
    writer.store([many([b"text", b"\0\xff", '{"n": "größe"}'.encode()]), one(b"x", "other")])
    meta = f'{{"{EXPIRES_AT}":"2999-01-01T00:00:00.000Z","quarantine":"hook"}}'
    writer.store([replace(letter(b"dead"), meta=meta)])
    writer.close()
    assert store.sql_aids.make_index("t", json_path("n"))
    store.sql_aids.make_view("t", "sizes", ["n"])
    rows, letters = list(store.rows()), store.dead_letters.quarantine().letters
    store.reader.close()

    dump, again = tmp_path / "appliance.dump", owned("again")
    for command in (
        ["pg_dump", "--format=custom", f"--file={dump}", url],
        ["pg_restore", "--no-owner", "--exit-on-error", f"--dbname={again}", dump],
    ):
        done = subprocess.run(
            [programs() / command[0], *command[1:]], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    restored = opened(again, tmp_path)
    assert restored.migrate() == []
    assert list(restored.rows()) == rows
    assert restored.dead_letters.quarantine().letters == letters == 1
    writer = restored.open_writer()
    writer.store([one(b"new")])
    writer.close()
    assert [body for _, _, body in restored.rows()] == [*(row[2] for row in rows), "new"]
    checked = restored.verify(quick=False, alone=True, progress=lambda *_: None)
    assert checked.problems == []
    with psycopg.connect(again, autocommit=True) as link:  # the default of `seq` came along
        link.execute(
            "INSERT INTO messages (id, topic, body, received_at) "
            f"VALUES ('mine', 'other', 'own', '{TIME}')"
        )
    assert [body for _, _, body in restored.rows()][-2:] == ["new", "own"]
    restored.reader.close()
