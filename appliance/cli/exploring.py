"""Serves the database with Datasette, read only; the only importer of it, which is an extra.

Custom SQL could read any table, whatever is denied to a page. So SQLite itself reads null in each
column of the tables that say who may do what.
"""

import importlib
import secrets
from importlib import resources
from pathlib import Path
from typing import Any, Final

from appliance.errors import MissingExtraError

#: Where it listens: this machine only.
HOST: Final = "127.0.0.1"
#: Seconds that Ctrl-C leaves to answers under way.
_GRACE_SECONDS: Final = 1
#: Numbers of SQLite's authorizer (https://sqlite.org/c3ref/c_alter_table.html).
_OK, _DENY, _IGNORE = 0, 1, 2
_READ: Final = 20
#: PRAGMA, READ, SELECT, TRANSACTION, FUNCTION, RECURSIVE: without these Datasette reads nothing.
_READING: Final = frozenset({19, _READ, 21, 22, 31, 33})
_SETTINGS: Final = {
    "default_page_size": 50,
    "sql_time_limit_ms": 5000,
    "facet_time_limit_ms": 500,
    "suggest_facets": False,  # it looks at every column of every row
    "allow_download": False,  # that would be every table; `appliance backup` makes a copy
    "num_sql_threads": 2,
}
_MISSING: Final = (
    "this needs the package datasette, which is not installed here; install it beside this "
    "command: pip install 'queue-appliance[explore]'. The image does not have it: copy a backup "
    "out of the container, or open the console instead (appliance open)"
)


def require() -> Any:
    """Return Datasette's module. Raises MissingExtraError, with how to install it."""
    try:
        return importlib.import_module("datasette.app")
    except ImportError as error:
        raise MissingExtraError(_MISSING) from error


def metadata() -> dict[str, Any]:
    """Return what is shown and what is denied, as Datasette reads it."""
    yaml = importlib.import_module("yaml")
    text = resources.files("appliance.cli").joinpath("datasette.yaml").read_text("utf-8")
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def application(database: Path) -> tuple[Any, str]:
    """Return Datasette for this database, and the path of the link that signs in once.

    Raises MissingExtraError.
    """
    module = require()
    shown = metadata()
    database_name, settings = database.stem, shown["databases"].pop("appliance")
    shown["databases"][database_name] = settings
    denied = frozenset(
        name for name, table in settings["tables"].items() if table.get("allow") is False
    )
    plugins = importlib.import_module("datasette.plugins")
    plugins.pm.register(_guard(denied), "appliance")
    made = module.Datasette([str(database)], metadata=shown, settings=_SETTINGS)
    made._root_token = secrets.token_hex(32)  # noqa: SLF001  # as its own --root does
    return made, f"/-/auth-token?token={made._root_token}"  # noqa: SLF001


def serve(datasette: Any, port: int) -> None:
    """Serve until Ctrl-C."""
    uvicorn = importlib.import_module("uvicorn")
    uvicorn.run(
        datasette.app(), host=HOST, port=port, log_level="warning", access_log=False,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )  # fmt: skip


def _guard(denied: frozenset[str]) -> Any:
    """Return Datasette's plugin that decides what its connections may do."""

    def authorize(action: int, table: str | None, *_: str | None) -> int:
        if action == _READ and table in denied:
            return _IGNORE
        return _OK if action in _READING else _DENY

    def prepare(conn: Any, database: str) -> None:
        if not database.startswith("_"):  # one of Datasette's own
            conn.execute("PRAGMA query_only = ON")
            conn.set_authorizer(authorize)

    hook = importlib.import_module("datasette").hookimpl
    # Not an object of it: Datasette asks for the plugin's name.
    return type("appliance", (), {"prepare_connection": staticmethod(hook(prepare))})
