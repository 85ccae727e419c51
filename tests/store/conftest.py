"""Fixtures of the store's contract: every test here runs once for each engine.

A new engine is one more word in ENGINES, and its settings in `config`.
"""

from functools import partial

import pytest
import ready_made
from lent_databases import LentDatabases
from own_sql import by_sql
from postgres import PostgresServer
from store_contents import Contents

from appliance import config as configuration
from appliance.store import open_store

ENGINES = ["sqlite", "postgresql"]


@pytest.fixture(params=ENGINES)
def engine(request):
    return request.param


@pytest.fixture(scope="session")
def postgres_server():
    server = PostgresServer()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def lent_databases(postgres_server):
    return LentDatabases(postgres_server)


@pytest.fixture
def database(engine, request):
    """Settings that name a database of this test's own; it has the schema only for a `store`."""
    if engine == "sqlite":
        yield {}
        return
    if "store" in request.fixturenames:
        lent = request.getfixturevalue("lent_databases")
        url = lent.lend()
        yield {"APPLIANCE_DATABASE_URL": url}
        lent.give_back(url)
        return
    server = request.getfixturevalue("postgres_server")
    url = server.new_database()
    yield {"APPLIANCE_DATABASE_URL": url}
    server.drop_database(url)


@pytest.fixture
def load(tmp_path, database):
    """Load settings with which the engine's database belongs to this test alone."""

    def load(**settings):
        environ = {f"APPLIANCE_{name.upper()}": value for name, value in settings.items()}
        return configuration.load({"APPLIANCE_DATA": str(tmp_path / "data"), **database, **environ})

    return load


@pytest.fixture
def config(load):
    return load(min_free_bytes="0")


@pytest.fixture
def new_store(config):
    """A store whose database is not made yet."""
    store = open_store(config)
    yield store
    store.reader.close()


@pytest.fixture
def store(new_store, config, engine):
    if engine == "sqlite":
        ready_made.migrate(config.data / "appliance.db")
    return new_store


@pytest.fixture
def writer(store):
    writer = store.open_writer()
    yield writer
    writer.close()


@pytest.fixture
def contents(store):
    return Contents(store)


@pytest.fixture
def by_hand(config):
    """Run a statement as another program would; its rows, if it has any."""
    return partial(by_sql, config)


@pytest.fixture
def refuse_bodies(engine, by_hand):
    """Have a trigger of somebody's refuse messages with this body; each engine in its words.

    PostgreSQL knows no more than an error, and leaving the row out.
    """

    def refuse(body, action="ABORT"):
        if engine == "sqlite":
            what = "IGNORE" if action == "IGNORE" else f"{action}, 'refused'"
            by_hand(
                f"CREATE TRIGGER mine BEFORE INSERT ON messages WHEN new.body = '{body}' "
                f"BEGIN SELECT RAISE({what}); END"
            )
            return
        what = "RETURN NULL" if action == "IGNORE" else "RAISE EXCEPTION 'refused'"
        by_hand(
            "CREATE FUNCTION mine() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN IF new.body = '{body}' THEN {what}; END IF; RETURN new; END $$"
        )
        by_hand(
            "CREATE TRIGGER mine BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION mine()"
        )

    return refuse
