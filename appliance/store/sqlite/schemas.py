"""JSON Schemas by topic: a change and its entry in the audit trail are one transaction."""

from pathlib import Path
from typing import Any, Final

from appliance.errors import LimitError
from appliance.store.access_rows import Deed, SchemaRow
from appliance.store.sqlite import audit_table
from appliance.store.sqlite.reader import SqliteReader
from appliance.store.sqlite.short_write import writing

#: Schemas that there can be: all of them are held in memory.
MAX_SCHEMAS: Final = 1000

_COLUMNS: Final = "topic, mode, schema, changed_at"


class SqliteSchemas:
    """Reads through `reader`, and writes in short transactions on connections of their own."""

    def __init__(self, path: Path, reader: SqliteReader) -> None:
        self._path = path
        self._reader = reader

    def all(self) -> list[SchemaRow]:
        """Return all schemas by topic."""
        with self._reader.reading() as connection:
            return schema_rows(connection)

    def find(self, topic: str) -> SchemaRow | None:
        """Return the topic's schema, or None."""
        with self._reader.reading() as connection:
            query = f"SELECT {_COLUMNS} FROM schemas WHERE topic = ?"  # noqa: S608  # ours
            row = connection.execute(query, (topic,)).fetchone()
        return None if row is None else SchemaRow._make(row)

    def put(self, row: SchemaRow, deed: Deed) -> bool:
        """Give a topic this schema; return whether it had none before. Raises LimitError."""
        with writing(self._path) as connection:
            known = connection.execute(
                "SELECT count(*) FROM schemas WHERE topic = ?", (row.topic,)
            ).fetchone()[0]
            count = connection.execute("SELECT count(*) FROM schemas").fetchone()[0]
            if not known and count >= MAX_SCHEMAS:
                raise LimitError(f"{MAX_SCHEMAS} topics have a schema; remove one of them first")
            connection.execute(
                f"INSERT INTO schemas ({_COLUMNS}) VALUES (?, ?, ?, ?) "  # noqa: S608  # ours
                "ON CONFLICT (topic) DO UPDATE SET mode = excluded.mode, "
                "schema = excluded.schema, changed_at = excluded.changed_at",
                row,
            )
            audit_table.write(connection, deed)
        return not known

    def remove(self, topic: str, deed: Deed) -> bool:
        """Remove a topic's schema; return whether there was one."""
        with writing(self._path) as connection:
            gone = connection.execute("DELETE FROM schemas WHERE topic = ?", (topic,)).rowcount
            if gone:
                audit_table.write(connection, deed)
        return bool(gone)


def schema_rows(connection: Any) -> list[SchemaRow]:
    """Return all schemas by topic."""
    query = f"SELECT {_COLUMNS} FROM schemas ORDER BY topic LIMIT {MAX_SCHEMAS}"  # noqa: S608
    return [SchemaRow._make(row) for row in connection.execute(query)]
