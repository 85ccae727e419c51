"""The store: a seam (`base`), and one package for each engine behind it."""

import importlib
from typing import Final

from appliance.config import Config
from appliance.store.base import Store

#: Engine -> the module whose `open_store` opens a database of it. Imported by name and only when
#: it is needed, so that no process carries an engine that it does not use.
_ENGINES: Final = {"sqlite": "appliance.store.sqlite.store"}


def open_store(config: Config) -> Store:
    """Return the store that the settings name. Nothing is opened until it is used."""
    engine = importlib.import_module(_ENGINES["sqlite"])
    store: Store = engine.open_store(config)
    return store
