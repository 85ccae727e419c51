"""A SQLite file as the store's common SQL sees it, for tests of the engine."""

from appliance.store.sqlite.reader import SqliteReader
from appliance.store.sqlite.sql_database import SqliteDatabase


def file_database(path):
    """The database in the file at `path`."""
    return SqliteDatabase(path, SqliteReader(path))
