"""The store: a seam (`base`), and one package for each engine behind it."""

import importlib
from typing import Final

from appliance.config import Config
from appliance.errors import MissingExtraError
from appliance.store.base import Store

#: Engine -> the module whose `open_store` opens a database of it. Imported by name and only when
#: it is needed, so that no process carries an engine that it does not use.
_ENGINES: Final = {
    "postgresql": "appliance.store.postgresql.store",
    "sqlite": "appliance.store.sqlite.store",
}


def open_store(config: Config) -> Store:
    """Return the store that the settings name. Nothing is opened until it is used."""
    try:
        engine = importlib.import_module(
            _ENGINES["postgresql" if config.database_url else "sqlite"]
        )
    except ImportError as error:
        if not config.database_url:
            raise
        raise MissingExtraError(
            f"APPLIANCE_DATABASE_URL needs the package psycopg ({error}): "
            "pip install 'psycopg[binary]'"
        ) from error
    store: Store = engine.open_store(config)
    return store
