"""Fixtures of the store's contract: every test here runs once for each engine.

A new engine is one more word in ENGINES, and its settings in `config`.
"""

import pytest
from store_contents import Contents

from appliance import config as configuration
from appliance.store import open_store

ENGINES = ["sqlite"]


@pytest.fixture(params=ENGINES)
def engine(request):
    return request.param


@pytest.fixture
def load(tmp_path, engine):
    """Load settings with which the engine's database belongs to this test alone."""

    def load(**settings):
        environ = {f"APPLIANCE_{name.upper()}": value for name, value in settings.items()}
        return configuration.load({"APPLIANCE_DATA": str(tmp_path / "data"), **environ})

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
def store(new_store):
    new_store.migrate()
    return new_store


@pytest.fixture
def writer(store):
    writer = store.open_writer()
    yield writer
    writer.close()


@pytest.fixture
def contents(store):
    return Contents(store)
